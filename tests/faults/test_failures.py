"""Failures of every kind, really made to happen: their causes told apart, their retries, what they stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpc_search.errors import EXIT_FAILED, EXIT_TEMPORARY
from hpc_search.ledger import Ledger, history, this_process
from hpc_search.planning import Numbering
from hpc_search.records import journal as lines
from hpc_search.runners.messages import SUPERSEDED
from hpc_search.worker.breaker import NODE_FAILED
from hpc_search.worker.memory import KillCounter
from tests.faults.site import TIMEOUT, Site, gone
from tests.waiting import wait_until

SEARCH = """
name: failures
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: {int: [1, 6]}}
fixed: {batch_size: 64}
strategy: grid
save_interval: 0
heartbeat: 0.2
lease: 20
"""


def ends(site: Site, trial: int = 0) -> list[tuple[str, str]]:
    return [(end.state, end.cause) for end in site.ends(trial)]


def notes(site: Site, event: str) -> list[lines.Note]:
    found = (lines.parse_line(line.data) for line in history.lines(site.layout, frozenset({b"note"})))
    return [note for note in found if isinstance(note, lines.Note) and note.event == event]


# -- the out-of-memory ladder of programs
#: Needs as many MB as its batch and has 20; it says what the GPU's allocator says.
PROGRAM = """
import json, os, sys
batch, accumulation = int(sys.argv[1]), int(sys.argv[2])
trial = json.loads(os.environ["HPC_SEARCH_TRIAL"])
assert (trial["params"]["batch_size"], trial["accumulation"]) == (batch, accumulation)
directory = os.environ["HPC_SEARCH_CHECKPOINT_DIR"]
print("found", sorted(os.listdir(directory)), "with", batch, flush=True)
open(os.path.join(directory, f"saved-{batch}"), "w").close()
if batch > 20:
    print("x" * 30_000)
    sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
print(json.dumps({"acc": batch * accumulation}), file=open(os.environ["HPC_SEARCH_REPORT"], "w"))
"""


def program(
    root: Path, retry: str, *, argv: str = "'{batch_size}', '{accumulation}'", text: str = PROGRAM
) -> Site:
    root.mkdir(exist_ok=True)
    (root / "program.py").write_text(text)
    command = f"command: ['{sys.executable}', program.py, {argv}]\nfiles: [program.py]\nlog_bytes: 9000"
    search = SEARCH.replace("trial: train.py:train", command).replace("{int: [1, 6]}", "[1]")
    return Site(root, f"{search}\nretry: {retry}\n")


def test_a_program_that_prints_out_of_memory_is_run_with_half_its_batch_and_twice_the_accumulation(
    tmp_path: Path,
) -> None:
    site = program(tmp_path, "{oom: {halve: batch_size}}")
    site.work()
    assert ends(site) == [("pending", "oom"), ("pending", "oom"), ("done", "")]
    *_, last = site.ends()
    assert (last.value, last.effective, last.accumulation) == (64.0, {"batch_size": 16}, 4)
    assert "CUDA out of memory. Tried to allocate" in site.ends()[0].detail
    # Nothing that was kept with another batch is found by the next attempt.
    assert [line for line in site.log().splitlines() if line.startswith("found")] == [
        "found [] with 64",
        "found [] with 32",
        "found [] with 16",
    ]


def test_collect_writes_the_requested_and_the_effective_batch(tmp_path: Path) -> None:
    site = program(tmp_path, "{oom: {}}")
    site.work()
    from hpc_search import collect

    collect.collect(site.layout, site.run.plan)
    (header, row) = (site.layout.results / "results.csv").read_text().splitlines()
    found = dict(zip(header.split(","), row.split(","), strict=True))
    assert {name: text for name, text in found.items() if "batch" in name or "accumulation" in name} == {
        "param_batch_size": "64",
        "effective_batch_size": "16",
        "effective_accumulation": "4",
    }


def test_the_ladder_ends_after_the_times_asked_for_and_the_trial_fails_for_memory(tmp_path: Path) -> None:
    site = program(tmp_path, "{oom: {halve: batch_size, times: 1}}")
    site.work()
    assert ends(site) == [("pending", "oom"), ("failed", "oom")]


def test_a_program_with_codes_and_words_of_its_own(tmp_path: Path) -> None:
    text = PROGRAM.replace("sys.exit(", "sys.exit(42 if batch > 40 else ").replace("CUDA out of", "E-MEM")
    site = program(tmp_path, "{oom: {codes: [42], text: ['E-MEM mem\\w+']}}", text=text)
    site.work()
    assert [cause for _, cause in ends(site)] == ["oom", "oom", ""]


def test_other_words_are_an_error_and_never_retried_as_memory(tmp_path: Path) -> None:
    site = program(tmp_path, "{oom: {text: ['E-MEM']}}")
    site.work()
    assert ends(site) == [("failed", "error")]


# -- checkpoints and the ladder
LADDER = """
import os
from pathlib import Path

ROOT = Path(os.environ["HPC_TEST_ROOT"])

def train(trial):
    batch, rounds = trial.params["batch_size"], trial.accumulation
    trial.params["x"]
    start = trial.restore(state={})
    with (ROOT / "starts").open("a") as file:
        file.write(f"{batch}x{rounds}@{start} ")
    for step in range(start, 6):
        trial.save(step + 1, state={})
        if step == 2 and batch == 64:
            raise RuntimeError("CUDA out of memory")
        if step == 4 and (ROOT / "once").exists():
            (ROOT / "once").unlink()
            raise ValueError("an error of another kind")
    return {"acc": batch * rounds}
"""


def test_after_the_batch_was_halved_a_trial_starts_at_step_0_and_resumes_only_what_it_saved_so(
    tmp_path: Path,
) -> None:
    search = SEARCH.replace("{int: [1, 6]}", "[1]") + "retry: {oom: {}, error: 1}\n"
    site = Site(tmp_path, search, LADDER)
    (tmp_path / "once").touch()
    site.work()
    assert (tmp_path / "starts").read_text().split() == ["64x1@0", "32x2@0", "32x2@5"]
    assert ends(site) == [("pending", "oom"), ("pending", "error"), ("done", "")]


# -- memory of the host
EATER = """
import os
from pathlib import Path

ROOT = Path(os.environ["HPC_TEST_ROOT"])

def train(trial):
    trial.params["x"]
    start = trial.restore(state={})
    with (ROOT / "starts").open("a") as file:
        file.write(f"{trial.params['batch_size']}x{trial.accumulation}@{start} ")
    trial.save(1, state={})
    kept = [b"x" * (1 << 20) for _ in range(trial.params["batch_size"] * 4)]
    return {"acc": len(kept)}
"""


@pytest.fixture
def memory_group(tmp_path: Path) -> Iterator[Path]:
    """A memory cgroup of this machine, of either version, with 220 MiB."""
    mine = KillCounter.of_this_process().path
    if mine is None or os.geteuid() != 0:
        pytest.skip("needs root and a memory cgroup")
    group = mine.parent / f"hpc-search-{os.getpid()}"
    new = mine.name == "memory.events"
    limits = (
        [("memory.max", "memory.swap.max")]
        if new
        else [("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")]
    )
    try:
        group.mkdir()
        (group / limits[0][0]).write_text(str(220 << 20))
    except OSError as error:
        group.rmdir() if group.is_dir() else None
        pytest.skip(f"this machine gives no memory cgroup: {error}")
    try:
        yield group
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text().strip(), timeout=TIMEOUT)
        group.rmdir()


def work_in(group: Path, site: Site, code: int = 0) -> str:
    """Run a worker inside of *group*."""
    join = f"open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"
    start = f"import os, runpy, sys; {join}; sys.argv = ['hpc_search', 'work', {str(site.layout.root)!r}]; "
    said = site.root / "worker.log"
    with said.open("ab") as log:
        done = subprocess.run(
            [sys.executable, "-c", start + "runpy.run_module('hpc_search', run_name='__main__')"],
            env={**os.environ, "HPC_TEST_ROOT": str(site.root)},
            stdout=log,
            stderr=log,
            timeout=TIMEOUT,
            check=False,
        )
    assert done.returncode == code, site.said()
    return site.said()


def test_a_trial_that_the_kernel_kills_for_memory_is_tried_again_as_it_is_and_then_smaller(
    memory_group: Path, tmp_path: Path
) -> None:
    search = SEARCH.replace("{int: [1, 6]}", "[1]") + "retry: {oom: {}, memory: 1}\n"
    site = Site(tmp_path, search, EATER)
    work_in(memory_group, site)
    assert ends(site) == [("pending", "oom"), ("pending", "oom"), ("done", "")]
    assert [end.host_memory for end in site.ends()] == [True, True, False]
    assert "memory of the host ran out" in site.ends()[0].detail
    # The supervisor lives, the retry as it is resumes, the smaller one begins anew.
    assert (tmp_path / "starts").read_text().split() == ["64x1@0", "64x1@1", "32x2@0"]


def test_a_program_that_the_kernel_kills_for_memory_is_no_error(memory_group: Path, tmp_path: Path) -> None:
    text = "kept = [b'x' * (1 << 20) for _ in range(300)]\n"
    site = program(tmp_path, "{memory: 1}", argv="'{x}'", text=text)
    work_in(memory_group, site)
    assert ends(site) == [("pending", "oom"), ("failed", "oom")]
    assert "more `mem` in the profile" in site.ends()[-1].detail


# -- the circuit breaker
ALIKE = """
import os
from pathlib import Path

def train(trial):
    trial.params["batch_size"]
    if (Path(os.environ["HPC_TEST_ROOT"]) / "gate").exists():
        raise OSError(f"/data/part-{trial.params['x']} is not mounted (code {trial.number})")
    return {"acc": trial.params["x"]}
"""


def test_equal_failures_stop_the_search_and_leave_the_other_trials(tmp_path: Path) -> None:
    site = Site(tmp_path, SEARCH + "stop_after: 3\n", ALIKE)
    site.gate.touch()
    said = site.work(EXIT_FAILED)
    assert "3 trials in a row failed in the same way" in said
    assert site.states() == ["failed"] * 3 + ["pending"] * 3
    from hpc_search import status

    seen = status.read_status(site.layout, site.run.plan)
    assert seen.stopped is not None
    assert seen.stopped.startswith("3 trials in a row failed in the same way (error: OSError")
    # Nobody goes on until somebody submits again, which clears it.
    assert "failed in the same way" in site.work()
    site.layout.stop.unlink()
    site.gate.unlink()
    site.work()
    assert site.states() == ["failed"] * 3 + ["done"] * 3


@contextmanager
def elsewhere(site: Site, host: str = "elsewhere") -> Iterator[Ledger]:
    """Join as a live worker of another node, for all that its journal says."""
    me = replace(this_process("token", host, "cpu"), host=host)
    other = Ledger(site.layout, site.run.plan, Numbering(site.run.plan), me)
    other.beat()
    try:
        yield other
    finally:
        other.close()


def test_a_node_that_fails_alone_is_left_by_its_worker_and_the_search_goes_on(tmp_path: Path) -> None:
    site = Site(tmp_path, SEARCH + "stop_after: 3\n", ALIKE)
    site.gate.touch()
    with elsewhere(site):
        said = site.work(EXIT_TEMPORARY)
    assert "so this worker leaves" in said
    assert not site.layout.stop.exists()
    assert site.states() == ["failed"] * 3 + ["pending"] * 3
    assert len(notes(site, NODE_FAILED)) == 1


def test_code_that_cannot_be_imported_on_one_of_two_nodes_does_not_stop_the_search(tmp_path: Path) -> None:
    code = "import nothing_like_this\n\ndef train(trial):\n    return {'acc': 1.0}\n"
    site = Site(tmp_path, SEARCH, code)
    with elsewhere(site) as other:
        assert "so this worker leaves" in site.work(EXIT_TEMPORARY)
        assert not site.layout.stop.exists()
        assert set(site.states()) == {"pending"}
        # The other node cannot either.
        note = notes(site, "broken")[0]
        other.journal.append(lines.Note(event="broken", text=note.text))
        site.work(EXIT_FAILED)
    assert "No module named 'nothing_like_this'" in site.layout.stop.read_text()


# -- trials that do not end
HANGING = """
import os, time
from pathlib import Path

ROOT = Path(os.environ["HPC_TEST_ROOT"])

def train(trial):
    trial.params["x"]
    trial.params["batch_size"]
    (ROOT / "pid").write_text(str(os.getpid()))
    while (ROOT / "gate").exists():
        time.sleep(0.05)
    return {"acc": 1.0}
"""
LISTENING = HANGING.replace("time.sleep(0.05)", "(time.sleep(0.05), trial.alive())")


def test_a_hung_trial_is_tried_as_often_as_the_search_says(tmp_path: Path) -> None:
    search = SEARCH.replace("{int: [1, 6]}", "[1]") + "retry: {timeout: 1}\nstall: 0.3\n"
    site = Site(tmp_path, search, HANGING)
    site.gate.touch()
    site.work()
    assert ends(site) == [("pending", "timeout"), ("failed", "timeout")]


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Return what puts a process where no signal reaches it, as a driver that hangs does."""
    hierarchy = Path("/sys/fs/cgroup/freezer")
    group = hierarchy / f"hpc-search-{os.getpid()}"
    if os.geteuid() != 0 or not (hierarchy / "cgroup.procs").exists():
        pytest.skip("only the freezer of cgroup v1 keeps a process from SIGKILL, and only root has it")
    group.mkdir()

    def freeze(pid: int) -> None:
        (group / "cgroup.procs").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")

    try:
        yield freeze
    finally:
        (group / "freezer.state").write_text("THAWED")
        wait_until(lambda: not (group / "cgroup.procs").read_text().strip(), timeout=TIMEOUT)
        group.rmdir()


SHORT = """
import sys
from pathlib import Path
from hpc_search.layout import Layout
from hpc_search.planning import load_plan
from hpc_search.worker import Supervisor, WorkerOptions

layout = Layout(Path(sys.argv[1]))
sys.exit(Supervisor(layout, load_plan(layout), WorkerOptions(survival=0.5)).run())
"""


def test_a_trial_that_survives_sigkill_costs_the_slice_and_not_the_search(
    tmp_path: Path, freezer: Callable[[int], None]
) -> None:
    search = SEARCH.replace("int: [1, 6]", "int: [1, 2]") + "stall: 1\n"
    site = Site(tmp_path, search, HANGING)
    site.gate.touch()
    environment = {**os.environ, "HPC_TEST_ROOT": str(site.root)}
    worker = subprocess.Popen([sys.executable, "-c", SHORT, str(site.layout.root)], env=environment)
    try:
        trial = site.trial_process()
        freezer(trial.pid)
        assert worker.wait(TIMEOUT) == EXIT_TEMPORARY
        assert not gone(trial)
    finally:
        worker.kill()
        worker.wait()
    assert ends(site) == [("pending", "lost")]
    assert site.states() == ["pending", "pending"]
    (note,) = notes(site, NODE_FAILED)
    assert "survived SIGKILL" in note.text


# -- suspended
def test_a_worker_that_was_suspended_for_longer_than_the_lease_lets_go_before_it_writes(
    tmp_path: Path,
) -> None:
    """Its trial was taken meanwhile; only one heartbeat in a minute would tell it otherwise."""
    search = SEARCH.replace("{int: [1, 6]}", "[1]").replace("heartbeat: 0.2", "heartbeat: 0.4")
    search = search.replace("lease: 20", "lease: 2")
    site = Site(tmp_path, search, LISTENING)
    site.gate.touch()
    with site.worker() as worker, elsewhere(site) as other:
        trial = site.trial_process()
        wait_until(lambda: site.states() == ["running"], timeout=TIMEOUT)
        for process in (psutil.Process(worker.pid), trial):
            process.suspend()
        owner = next(name for name in history.live_workers(site.layout) if name != other.id)
        until = time.monotonic() + 3
        wait_until(lambda: time.monotonic() > until, timeout=TIMEOUT)
        end = lines.End(trial=0, attempt=1, state="pending", params={}, cause="lost", detail=owner)
        other.finish(end)
        other.flush()
        (taken,) = other.claim(1, only=0)
        other.beat()
        for process in (trial, psutil.Process(worker.pid)):
            process.resume()
        wait_until(lambda: gone(trial), timeout=TIMEOUT, on_timeout=site.said)
        wait_until(lambda: bool(notes(site, "late")), timeout=TIMEOUT)
        assert taken.attempt == 2
        own = [record for record in records_of(site, owner) if isinstance(record, lines.End)]
        wait_until(lambda: bool(own) or bool(ends_by(site, owner)), timeout=TIMEOUT)
        assert {(end.state, end.detail) for end in ends_by(site, owner)} == {("pending", SUPERSEDED)}


def records_of(site: Site, worker: str) -> list[lines.AnyRecord]:
    return list(history.records(site.layout, worker))


def ends_by(site: Site, worker: str) -> list[lines.End]:
    return [record for record in records_of(site, worker) if isinstance(record, lines.End)]


# -- the time that is left
SLOW = """
import os, time
from pathlib import Path

ROOT = Path(os.environ["HPC_TEST_ROOT"])

def train(trial):
    trial.params["x"]
    trial.params["batch_size"]
    start = trial.restore(state={})
    with (ROOT / "starts").open("a") as file:
        file.write(f"{trial.number} ")
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        trial.alive()
        time.sleep(0.02)
    trial.save(1, state={})
    return {"acc": 1.0}
"""


def job(seconds: int) -> dict[str, str]:
    """Return the variables of a SLURM job that began now and ends after *seconds*."""
    now = int(time.time())
    times = {"SLURM_JOB_START_TIME": str(now), "SLURM_JOB_END_TIME": str(now + seconds)}
    return {**times, "SLURM_JOB_ID": "77", "SLURMD_NODENAME": socket.gethostname()}


@contextmanager
def task(site: Site, seconds: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a worker as a task of a job that has *seconds*; what it asks of scontrol goes to a file."""
    scontrol = site.root / "bin" / "scontrol"
    scontrol.parent.mkdir(exist_ok=True)
    scontrol.write_text(f"#!/bin/sh\necho $* >> {site.root}/asked\n")
    scontrol.chmod(0o700)
    with (site.root / "worker.log").open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "hpc_search", "work", str(site.layout.root), "--token", "t"],
            env={**os.environ, "HPC_TEST_ROOT": str(site.root), **job(seconds), "PATH": str(scontrol.parent)},
            stdout=log,
            stderr=log,
        )
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait(TIMEOUT)


def work_as_task(site: Site, seconds: int) -> None:
    """Run such a worker to its end."""
    with task(site, seconds) as worker:
        assert worker.wait(TIMEOUT) == 0, site.said()


def test_a_trial_that_cannot_end_or_save_in_the_time_left_is_not_started(tmp_path: Path) -> None:
    site = Site(tmp_path, SEARCH.replace("int: [1, 6]", "int: [1, 9]"), SLOW)
    # The first starts without data; the last that began had the time for it.
    work_as_task(site, 8)
    begun = (tmp_path / "starts").read_text().split()
    assert {end.state for end in site.ends() if str(end.trial) in begun} == {"done"}
    assert set(site.states()[len(begun) :]) == {"pending"}
    exits = [record for record in all_records(site) if isinstance(record, lines.Exit)]
    assert exits[0].reason.startswith(f"too little time is left for trial {len(begun)}")
    assert len(notes(site, "requeue")) == 1
    assert (tmp_path / "asked").read_text() == "requeue 77\n"


def all_records(site: Site) -> list[Any]:
    return [lines.parse_line(line.data) for line in history.lines(site.layout)]


def test_three_whole_walltimes_without_a_checkpoint_fail_the_trial(tmp_path: Path) -> None:
    code = SLOW.replace("+ 1.5\n", "+ 600\n")
    site = Site(tmp_path, SEARCH.replace("{int: [1, 6]}", "[1]"), code)
    for _ in range(3):
        work_as_task(site, 3)
    assert ends(site) == [("pending", "preempted"), ("pending", "preempted"), ("failed", "timeout")]
    assert "a whole walltime without a checkpoint" in site.ends()[0].detail
    assert "3 in a row" in site.ends()[-1].detail


def test_a_trial_that_does_not_stop_is_killed_in_time_to_ask_for_more(tmp_path: Path) -> None:
    site = Site(tmp_path, SEARCH.replace("{int: [1, 6]}", "[1]"), HANGING)
    site.gate.touch()
    work_as_task(site, 3)
    assert ends(site) == [("pending", "preempted")]
    assert site.ends()[0].detail.startswith("the time limit is near")
    assert (tmp_path / "asked").read_text() == "requeue 77\n"


def test_a_worker_that_stood_still_up_to_its_limit_asks_for_more_when_slurm_ends_it(tmp_path: Path) -> None:
    """Its own margin and SLURM's warning found it stopped; what it hears first is the TERM of the limit."""
    site = Site(tmp_path, SEARCH.replace("{int: [1, 6]}", "[1]"), LISTENING)
    site.gate.touch()
    ends_at = time.monotonic() + 9
    with task(site, 9) as worker:
        site.trial_process()
        worker.send_signal(signal.SIGSTOP)
        wait_until(lambda: time.monotonic() > ends_at + 1, timeout=TIMEOUT)
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGCONT)
        assert worker.wait(TIMEOUT) == 0, site.said()
    assert ends(site) == [("pending", "preempted")]
    assert (tmp_path / "asked").read_text() == "requeue 77\n"


def test_a_worker_that_is_ended_before_its_limit_stays_until_it_is_killed(tmp_path: Path) -> None:
    site = Site(tmp_path, SEARCH.replace("{int: [1, 6]}", "[1]"), LISTENING)
    site.gate.touch()
    with task(site, 600) as worker:
        site.trial_process()
        worker.send_signal(signal.SIGTERM)
        wait_until(lambda: any(isinstance(one, lines.Exit) for one in all_records(site)), timeout=TIMEOUT)
        assert worker.poll() is None
    assert ends(site) == [("pending", "preempted")]
    assert not (tmp_path / "asked").exists()


def test_a_task_that_is_told_twice_to_end_after_its_trial_does_so(tmp_path: Path) -> None:
    """Two `submit` in a row want fewer workers each: the second tells those, too, that end already."""
    site = Site(tmp_path, SEARCH.replace("{int: [1, 6]}", "[1]"), HANGING)
    site.gate.touch()
    with task(site, 600) as worker:
        site.trial_process()
        worker.send_signal(signal.SIGINT)
        wait_until(lambda: pending_interrupt(worker.pid) == 0, timeout=TIMEOUT)
        worker.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(1)
        site.gate.unlink()
        assert worker.wait(TIMEOUT) == 0, site.said()
    assert ends(site) == [("done", "")]


def pending_interrupt(pid: int) -> int:
    """Return whether the process *pid* has not yet taken a SIGINT."""
    (line,) = (one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if "ShdPnd" in one)
    return int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1
