"""Workers, templates and trials that are killed or told to stop: nothing is lost, nothing runs on alone."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hpc_search.errors import EXIT_TEMPORARY, EXIT_USAGE
from hpc_search.ledger import history
from hpc_search.records import journal as lines
from tests.faults.site import TIMEOUT, Site, gone
from tests.waiting import wait_until

SEARCH = """
name: steps
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [1, 2]}
strategy: grid
seeds: [7]
save_interval: 0
heartbeat: 0.2
lease: 20
"""
#: Waits before step 3 of trial 0 as long as the gate is there.
TRAIN = """
import os, random, time
from pathlib import Path

ROOT = Path(os.environ["HPC_TEST_ROOT"])

def train(trial):
    state = {"numbers": [], "sum": 0.0}
    start = trial.restore(state=state)
    (ROOT / f"start-{trial.number}-{trial.attempt}").write_text(str(start))
    (ROOT / "pid").write_text(str(os.getpid()))
    for step in range(start, 5):
        if step == 3 and trial.number == 0:
            (ROOT / "waiting").touch()
            while (ROOT / "gate").exists():
                trial.alive()
                time.sleep(0.01)
                trial.save(step, state=state)
        state["numbers"].append(random.random() * trial.params["x"])
        state["sum"] += state["numbers"][-1]
        trial.report(step, acc=state["sum"])
        trial.save(step + 1, state=state)
    return {"acc": state["sum"]}
"""
HANGING = """
import os, time
from pathlib import Path

ROOT = Path(os.environ["HPC_TEST_ROOT"])

def train(trial):
    trial.params["x"]
    if (ROOT / "gate").exists():
        (ROOT / "pid").write_text(str(os.getpid()))
        while True:
            time.sleep(60)
    return {"acc": 1.0}
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[float | None]:
    """Return the values of both trials when nothing happens to them."""
    site = Site(tmp_path_factory.mktemp("undisturbed"), SEARCH, TRAIN)
    site.work()
    return values(site)


def values(site: Site) -> list[float | None]:
    return [result.end.value for _, result in sorted(site.results().items())]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path, SEARCH, TRAIN)
    made.gate.touch()
    return made


def waiting(site: Site) -> psutil.Process:
    """Wait until trial 0 waits in its middle; return its process."""
    site.wait_for("waiting")
    return site.trial_process()


def go_on(site: Site, undisturbed: list[float | None]) -> None:
    """Let a new worker end the run, and compare the results with the undisturbed ones to the last bit."""
    site.gate.unlink()
    site.work()
    assert site.states() == ["done", "done"]
    assert int((site.root / "start-0-2").read_text()) == 3
    assert values(site) == undisturbed


def test_a_killed_worker_takes_its_trial_along_and_the_next_one_resumes_it(
    site: Site, undisturbed: list[float | None]
) -> None:
    with site.worker() as worker:
        trial = waiting(site)
        family = [trial, *trial.parents()[:1]]
        worker.kill()
        worker.wait()
        wait_until(lambda: all(map(gone, family)), timeout=TIMEOUT)
    assert site.states() == ["running", "pending"]
    go_on(site, undisturbed)
    assert [(end.state, end.cause, end.attempt) for end in site.ends(0)] == [
        ("pending", "lost", 1),
        ("done", "", 2),
    ]


def test_a_killed_template_costs_an_attempt_and_not_the_trial(
    site: Site, undisturbed: list[float | None]
) -> None:
    with site.worker() as worker:
        trial = waiting(site)
        trial.parents()[0].kill()
        wait_until(lambda: gone(trial), timeout=TIMEOUT)
        site.gate.unlink()
        assert worker.wait(TIMEOUT) == 0, site.said()
    assert [(end.state, end.cause, end.attempt) for end in site.ends(0)] == [
        ("pending", "lost", 1),
        ("done", "", 2),
    ]
    assert values(site) == undisturbed


def test_a_killed_trial_is_resumed_by_the_same_worker(site: Site, undisturbed: list[float | None]) -> None:
    with site.worker() as worker:
        waiting(site).kill()
        site.gate.unlink()
        assert worker.wait(TIMEOUT) == 0, site.said()
    assert site.states() == ["done", "done"]
    assert [(end.state, end.cause) for end in site.ends(0)] == [("pending", "lost"), ("done", "")]
    assert "SIGKILL" in site.ends(0)[0].detail
    assert int((site.root / "start-0-2").read_text()) == 3
    assert values(site) == undisturbed


def test_a_stop_signal_saves_gives_back_and_exits_0_and_the_next_worker_resumes(
    site: Site, undisturbed: list[float | None]
) -> None:
    with site.worker() as worker:
        waiting(site)
        worker.terminate()
        assert worker.wait(TIMEOUT) == 0, site.said()
    (end,) = site.ends()
    assert (end.state, end.cause, end.detail, end.step) == ("pending", "preempted", "signal SIGTERM", 3)
    assert site.states() == ["pending", "pending"]
    go_on(site, undisturbed)


def test_a_stop_signal_to_all_processes_at_once_is_a_stop_and_no_error(
    site: Site, undisturbed: list[float | None]
) -> None:
    """SLURM signals every process of a step."""
    with site.worker() as worker:
        trial = waiting(site)
        for process in (trial, *trial.parents()[:1], psutil.Process(worker.pid)):
            process.terminate()
        assert worker.wait(TIMEOUT) == 0, site.said()
    assert [(end.state, end.cause) for end in site.ends()] == [("pending", "preempted")]
    go_on(site, undisturbed)


def test_a_second_stop_signal_ends_a_trial_that_does_not_listen(tmp_path: Path) -> None:
    site = Site(tmp_path, SEARCH, HANGING)
    site.gate.touch()
    with site.worker() as worker:
        trial = site.trial_process()
        worker.terminate()

        def ended() -> bool:
            if not gone(trial):
                worker.terminate()
            return gone(trial)

        wait_until(ended, timeout=TIMEOUT)
        assert worker.wait(TIMEOUT) == 0, site.said()
    assert [(end.state, end.cause) for end in site.ends()] == [("pending", "preempted")]


def test_a_stop_signal_while_the_code_is_imported_gives_everything_back(tmp_path: Path) -> None:
    code = """
        import os, time
        from pathlib import Path
        ROOT = Path(os.environ["HPC_TEST_ROOT"])
        (ROOT / "pid").write_text(str(os.getpid()))
        while (ROOT / "gate").exists():
            time.sleep(0.01)

        def train(trial):
            return {"acc": trial.params["x"]}
        """
    site = Site(tmp_path, SEARCH, code)
    site.gate.touch()
    with site.worker() as worker:
        template = site.trial_process()
        worker.terminate()
        # SLURM's signal may reach a template before it can ignore it.
        template.kill()
        assert worker.wait(TIMEOUT) == 0, site.said()
    assert not site.layout.stop.exists()
    assert site.states() == ["pending", "pending"]
    site.gate.unlink()
    site.work()
    assert site.states() == ["done", "done"]


def test_a_template_that_dies_once_while_it_imports_is_started_again(tmp_path: Path) -> None:
    code = """
        import os
        from pathlib import Path
        if not (flag := Path(os.environ["HPC_TEST_ROOT"], "died")).exists():
            flag.touch()
            os.kill(os.getpid(), 9)

        def train(trial):
            return {"acc": trial.params["x"]}
        """
    site = Site(tmp_path, SEARCH, code)
    site.work()
    assert site.states() == ["done", "done"]


def test_a_template_that_cannot_be_forked_is_replaced_by_fresh_processes(tmp_path: Path) -> None:
    code = """
        import os, threading, time
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()

        def train(trial):
            os.kill(os.getpid(), 11) if trial.params["x"] == 2 else None
            print("printed", trial.number)
            return {"acc": trial.params["x"]}
        """
    site = Site(tmp_path, SEARCH, code)
    assert "a fresh process a trial, because importing the code started 1 threads" in site.work()
    assert site.states() == ["done", "failed"]
    assert "printed 0" in site.log()


def test_a_killed_worker_takes_its_program_along(tmp_path: Path) -> None:
    search = SEARCH.replace("trial: train.py:train", 'command: [sh, -c, "echo $$ > pid; exec sleep 600"]')
    site = Site(tmp_path, search)
    with site.worker() as worker:
        wait_until(lambda: site.wait_for("pid").read_text().strip(), timeout=TIMEOUT)
        program = site.trial_process()
        worker.kill()
        wait_until(lambda: gone(program), timeout=TIMEOUT)


def test_a_program_is_told_to_stop_by_sigterm_and_given_back(tmp_path: Path) -> None:
    search = SEARCH.replace("trial: train.py:train", 'command: [sh, -c, "echo $$ > pid; exec sleep 600"]')
    site = Site(tmp_path, search)
    with site.worker() as worker:
        wait_until(lambda: site.wait_for("pid").read_text().strip(), timeout=TIMEOUT)
        worker.terminate()
        assert worker.wait(TIMEOUT) == 0, site.said()
    assert [(end.state, end.cause) for end in site.ends()] == [("pending", "preempted")]


def test_two_workers_share_the_trials_and_none_runs_twice(tmp_path: Path) -> None:
    search = SEARCH.replace("x: [1, 2]", "x: {int: [1, 40]}")
    site = Site(tmp_path, search, "def train(trial):\n    return {'acc': trial.params['x']}\n")
    with site.worker() as one, site.worker() as two:
        assert (one.wait(TIMEOUT), two.wait(TIMEOUT)) == (0, 0), site.said()
    assert set(site.states()) == {"done"}
    assert len([end for end in site.ends() if end.state == "done"]) == 40


def test_a_trial_that_another_took_over_stops_and_its_end_changes_nothing(site: Site) -> None:
    """The heartbeat finds a higher attempt in the index."""
    from dataclasses import replace

    from hpc_search.ledger import Ledger, this_process
    from hpc_search.planning import Numbering

    with site.worker() as worker:
        trial = waiting(site)
        (owner,) = history.live_workers(site.layout)
        me = replace(this_process("token", "elsewhere", "cpu"), host="elsewhere")
        other = Ledger(site.layout, site.run.plan, Numbering(site.run.plan), me)
        (taken,) = [end_given_back(other, 0, owner)]
        assert taken == 2
        wait_until(lambda: gone(trial), timeout=TIMEOUT, on_timeout=site.said)
        wait_until(lambda: site.states() == ["running", "done"], timeout=TIMEOUT, on_timeout=site.said)
        # It stays for the owner that does not beat, until its lease ends, or it is told to leave.
        worker.terminate()
        assert worker.wait(TIMEOUT) == 0, site.said()
        assert site.entries()[0].owner == other.owner
        other.close()


def end_given_back(other: object, number: int, owner: str) -> int:
    """Take *number* from its live owner, as a worker does that believes it dead; return the attempt."""
    from hpc_search.ledger import Ledger

    assert isinstance(other, Ledger)
    end = lines.End(trial=number, attempt=1, state="pending", params={}, cause="lost", detail=owner)
    other.finish(end)
    other.flush()
    return other.claim(1, only=number)[0].attempt


# -- disks
@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount 2 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


SMALL = """
def train(trial):
    state = {"x": bytes(20_000)}
    trial.restore(state=state)
    trial.save(1, state=state)
    return {"acc": trial.params["x"]}
"""


def test_a_full_disk_is_temporary_and_nothing_is_lost_when_space_returns(small_disk: Path) -> None:
    search = SEARCH.replace("x: [1, 2]", "x: {int: [1, 8]}")
    site = Site(small_disk.parent / "site", search, SMALL, run=small_disk / "run")
    filler = small_disk / "filler"
    for room in (0, 40, 90, 150):
        # Less room than a worker's reserve, then a worker's, then some trials'.
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        filler.write_bytes(bytes(max(0, free - room * 1024)))
        with site.worker() as worker:
            code = worker.wait(TIMEOUT)
        assert code in (0, EXIT_TEMPORARY), site.said()
        assert "Traceback" not in site.said()
        filler.unlink()
    site.work()
    assert set(site.states()) == {"done"}, [end.detail for end in site.ends()]
    assert [result.end.value for _, result in sorted(site.results().items())] == list(range(1, 9))
    done = [end.trial for end in site.ends() if end.state == "done"]
    assert sorted(done) == list(range(8))
    assert "No space left" in site.said()


def test_a_read_only_run_is_refused_with_words(small_disk: Path) -> None:
    site = Site(small_disk.parent / "site", SEARCH, SMALL, run=small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    said = site.work(code=EXIT_USAGE)
    assert "Read-only file system" in said
    assert "Traceback" not in said


def test_signals_of_a_stop_are_the_ones_that_slurm_sends() -> None:
    from hpc_search.runners.processes import STOP_SIGNALS

    assert {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2} == set(STOP_SIGNALS)
