"""Keeper, template, trials and what trials start: nothing hangs, leaks, or outlives its supervisor."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpc_search.checkpoint.slots import encode_content
from hpc_search.runners import child, keeper, messages
from hpc_search.trial import Spec, Trial
from tests.faults.site import TIMEOUT, Site, gone
from tests.waiting import wait_until

SEARCH = """
name: tree
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [1, 2]}
strategy: grid
seeds: [7]
heartbeat: 0.2
lease: 20
"""
#: What all modules below begin with.
HEAD = """
import json, os, random, signal, subprocess, sys, time
from pathlib import Path

ROOT = Path(os.environ["HPC_TEST_ROOT"])

def write(name, content):
    (ROOT / f"{name}.part").write_text(json.dumps(content))
    (ROOT / f"{name}.part").rename(ROOT / name)

def wait_at_gate(name, gate="gate"):
    write(name, os.getpid())
    while (ROOT / gate).exists():
        time.sleep(0.01)

def wait_for_stop(trial, name):
    write(name, os.getpid())
    while (ROOT / "gate").exists() and not trial._channel.stop_requested():
        time.sleep(0.01)

def daemon():
    # A process that leaves the group, the session and its parent.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            write("daemon", os.getpid())
            time.sleep(600)
        os._exit(0)
    os.wait()
    while not (ROOT / "daemon").exists():
        time.sleep(0.01)
"""


def read(site: Site, name: str) -> Any:
    return json.loads(site.wait_for(name).read_text())


def process(site: Site, name: str) -> psutil.Process:
    """Return the process that wrote its pid to *name*, which must be alive."""
    found = psutil.Process(read(site, name))
    assert not gone(found)
    return found


def wait_gone(*processes: psutil.Process) -> None:
    wait_until(lambda: all(map(gone, processes)), timeout=TIMEOUT, on_timeout=lambda: processes)


def tree(worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the supervisor and everything below it, itself last."""
    me = psutil.Process(worker.pid)
    return [*reversed(me.children(recursive=True)), me]


def signal_step(worker: subprocess.Popen[bytes], number: int) -> None:
    """Send *number* to every process of the worker, as SLURM does to those of a step."""
    for one in tree(worker):
        one.send_signal(number)


# -- no torch: what a trial starts, and what it inherits
FAMILY = (
    HEAD
    + """
import multiprocessing

HELPER = subprocess.Popen(["sleep", "600"]).pid

def dispositions():
    status = Path("/proc/self/status").read_text()
    masks = {line.split(":")[0]: int(line.split()[1], 16) for line in status.splitlines() if line[:3] == "Sig"
             and line[3:6] in ("Ign", "Blk")}
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    return [mask for mask in masks.values() if any(mask >> number - 1 & 1 for number in numbers)]

def wait_for_ever(connection):
    connection.send(dispositions())
    time.sleep(600)

def descriptors(pid):
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[fd] = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            pass
    return list(found.values())

def double(value):
    return 2 * value

def train(trial):
    trial.params["x"]
    left = json.loads((ROOT / "daemon").read_text()) if (ROOT / "daemon").exists() else daemon()
    template = os.getppid()
    status = Path(f"/proc/{template}/status").read_text().splitlines()
    (grandparent,) = [int(line.split()[1]) for line in status if line.startswith("PPid")]
    program = subprocess.Popen(["sleep", "600"], close_fds=False)
    write(f"descriptors-{trial.number}", {
        "trial": descriptors("self"), "template": descriptors(template), "keeper": descriptors(grandparent),
        "program": descriptors(program.pid),
    })
    program.terminate()
    codes = {"program": program.wait()}
    masks = {}
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        ours, theirs = context.Pipe()
        process = context.Process(target=wait_for_ever, args=(theirs,))
        process.start()
        masks[method] = ours.recv()
        process.terminate()
        process.join()
        codes[method] = process.exitcode
        with context.Pool(2) as pool:
            assert pool.map(double, range(4)) == [0, 2, 4, 6]
    os.kill(os.getppid(), 0)
    os.kill(HELPER, 0)
    write(f"family-{trial.number}", {"codes": codes, "masks": masks, "helper": HELPER,
                                      "left": left and Path(f"/proc/{left}").exists()})
    return {"acc": 1.0}
"""
)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Run two trials that start processes of all kinds."""
    site = Site(tmp_path_factory.mktemp("family"), SEARCH, FAMILY)
    site.work()
    assert site.states() == ["done", "done"], site.log()
    return site


def test_children_of_a_trial_die_by_sigterm_whatever_started_them(family: Site) -> None:
    found = read(family, "family-0")
    assert found["codes"] == dict.fromkeys(("program", "fork", "spawn", "forkserver"), -signal.SIGTERM)
    assert found["masks"] == {"fork": [], "spawn": [], "forkserver": []}


def test_no_process_but_the_supervisor_holds_a_lock_or_a_journal(family: Site) -> None:
    found = read(family, "descriptors-0")
    run = str(family.layout.root)
    for who in ("trial", "template", "keeper", "program"):
        held = {place.removeprefix(run) for place in found[who] if place.startswith(run)}
        # The template prints to the worker's log.
        assert {Path(place).name for place in held} <= {"log.txt"}, (who, held)
    assert not [place for place in found["program"] if place.startswith("socket:")]
    assert [place for place in found["trial"] if place.startswith("socket:")]


def test_what_a_trial_leaves_ends_with_it_and_a_helper_of_the_module_with_the_worker(family: Site) -> None:
    assert [read(family, f"family-{number}")["left"] for number in (0, 1)] == [None, False]
    # Both trials found the helper alive.
    assert read(family, "family-0")["helper"] == read(family, "family-1")["helper"]
    assert not psutil.pid_exists(read(family, "family-1")["helper"])


# -- the end of the supervisor, and of those between it and the trial
OUTLIVING = (
    HEAD
    + """
import threading
if (ROOT / "fresh").exists():
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()

def linger():
    daemon()
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    wait_at_gate("pid")

if (ROOT / "importing").exists():
    linger()

def train(trial):
    trial.params["x"]
    if (ROOT / "gate").exists():
        linger()
    return {"acc": 1.0}
"""
)


def outliving(root: Path, kind: str) -> Site:
    """Return a site whose first trial, or its template, ignores everything and has a daemon."""
    search = SEARCH
    if kind == "program":
        search = search.replace("trial: train.py:train", f"command: [{sys.executable}, train.py]")
        search = search.replace("space: {x: [1, 2]}", "space: {x: [1]}")
    tail = "\nif __name__ == '__main__':\n    class T:\n        params = {'x': 1}\n    train(T)\n"
    site = Site(root, search, OUTLIVING + tail)
    site.gate.touch()
    (root / kind).touch()
    return site


@pytest.mark.parametrize("kind", ["template", "importing", "fresh", "program"])
def test_nothing_outlives_a_killed_supervisor(tmp_path: Path, kind: str) -> None:
    site = outliving(tmp_path, kind)
    with site.worker() as worker:
        trial, daemon = process(site, "pid"), process(site, "daemon")
        below = tree(worker)[:-1]
        assert daemon in below
        worker.kill()
        worker.wait()
        wait_gone(trial, daemon, *below)


@pytest.mark.parametrize("victim", ["parent", "keeper"])
def test_a_killed_parent_or_keeper_takes_the_trial_along_and_the_trial_is_tried_again(
    tmp_path: Path, victim: str
) -> None:
    site = outliving(tmp_path, "template")
    with site.worker() as worker:
        trial, daemon = process(site, "pid"), process(site, "daemon")
        parent = trial.parents()[0]
        if victim == "keeper":
            (kept,) = psutil.Process(worker.pid).children()
            # So that only the kernel can tell them.
            psutil.Process(worker.pid).suspend()
            kept.kill()
            wait_gone(trial, parent)
            daemon.kill()
            psutil.Process(worker.pid).resume()
        else:
            parent.kill()
            wait_gone(trial, daemon, parent)
        site.gate.unlink()
        assert worker.wait(TIMEOUT) == 0, site.said()
    assert [end.cause for end in site.ends(0)] == ["lost", ""]


def test_a_process_whose_parent_died_before_it_could_ask_ends_at_once() -> None:
    """Between fork and prctl nobody would be told."""
    ours, theirs = socket.socketpair()
    fd, dead = str(theirs.fileno()), str(os.getpid() + 1_000_000)
    with ours, theirs:
        for arguments in (
            [keeper.__file__, fd, dead, sys.executable, "-c", "import time; time.sleep(600)"],
            ["-m", "hpc_search.runners.template", fd, dead],
            ["-m", "hpc_search.runners.template", "fresh", fd, fd, dead],
            ["-m", "hpc_search.runners.launcher", fd, dead],
        ):
            ended = subprocess.run(
                [sys.executable, *arguments], pass_fds=[theirs.fileno()], timeout=TIMEOUT, check=False
            )
            assert ended.returncode == 1, arguments


ORPHAN = """
import os, sys
from hpc_search.runners import processes
reader, writer = os.pipe()
told, tell = os.pipe()
if os.fork() == 0:
    parent = os.getpid()
    if os.fork() == 0:
        os.close(writer)
        os.read(reader, 1)
        processes.die_with_parent(parent)
        os.write(tell, b"lives on")
    os._exit(0)
os.close(writer), os.close(tell)
print(os.read(told, 20).decode())
"""


def test_a_trial_whose_template_died_during_the_fork_ends_at_once() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ORPHAN], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    assert ended.stdout == "\n"


def test_a_trial_without_supervisor_saves_and_tells_nothing_more(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    site = Site(tmp_path, SEARCH, "def train(trial): pass\n")
    spec = Spec(
        root=str(site.layout.root),
        run_id=site.run.plan.run_id,
        search_id=site.run.plan.search_id,
        worker="w",
        number=0,
        point=0,
        fold=None,
        seed=7,
        params={"x": 1},
        attempt=1,
        metric="acc",
        save_interval=0,
        keep_checkpoints=True,
    )
    before = sorted(site.layout.root.rglob("*"))

    def train(trial: Trial) -> dict[str, float]:
        ours.close()
        trial.save(1, state={"a": 1})
        return {"acc": 1.0}

    def returns(trial: Trial) -> dict[str, float]:
        trial._saves._kept = 1, encode_content({"a": 1}, [])
        return {"acc": 1.0}

    for function in (train, returns):
        end = child.outcome(spec, messages.SocketChannel(theirs), function)
        assert (end["state"], end["detail"]) == ("pending", messages.GONE)
    theirs.close()
    assert sorted(site.layout.root.rglob("*")) == before
