"""Stops that reach a trial anywhere: in a Pool, before its first instruction, before its program runs."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from tests.faults.site import TIMEOUT, Site
from tests.faults.test_fork_tree import HEAD, SEARCH, process, signal_step
from tests.waiting import wait_until

POOL = (
    HEAD
    + """
import multiprocessing, threading
if (ROOT / "fresh").exists():
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    if (ROOT / "imported").exists():
        wait_at_gate("again", "importing")
    (ROOT / "imported").touch()

def double(value):
    while (ROOT / "busy").exists():
        time.sleep(0.01)
    return 2 * value

def train(trial):
    state = {"sum": 0}
    start = trial.restore(state=state)
    while (ROOT / "fresh").exists():
        trial.alive()
        time.sleep(0.01)
    with multiprocessing.Pool(2) as pool:
        for step in range(start, 4):
            if step == 2 and (ROOT / "gate").exists():
                (ROOT / "busy").touch() if (ROOT / "at work").exists() else None
                under_way = pool.map_async(double, [1, 2])
                wait_for_stop(trial, "waiting")
                (ROOT / "busy").unlink(missing_ok=True)
                assert not (ROOT / "at work").exists() or under_way.get() == [2, 4]
            else:
                assert pool.map(double, [1, 2]) == [2, 4]
            state["sum"] += trial.params["x"]
            trial.save(step + 1, state=state)
    return {"acc": state["sum"]}
"""
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_pool_at_a_stop_of_the_whole_step_ends_and_the_trial_is_preempted(
    tmp_path: Path, number: int
) -> None:
    """USR1 leaves its processes at work; TERM kills them, and then a Pool hangs when it is shut down."""
    site = Site(tmp_path, SEARCH, POOL)
    site.gate.touch()
    if number == signal.SIGUSR1:
        (tmp_path / "at work").touch()
    with site.worker() as worker:
        process(site, "waiting")
        signal_step(worker, number)
        assert worker.wait(TIMEOUT) == 0, site.said()
    site.gate.unlink()
    assert [(end.state, end.cause, end.step) for end in site.ends()] == [("pending", "preempted", 3)]
    site.work()
    assert [result.end.value for _, result in sorted(site.results().items())] == [4, 8]


@pytest.mark.parametrize("whole", [False, True])
def test_a_stop_before_the_first_instruction_of_a_trial_is_a_preemption(tmp_path: Path, whole: bool) -> None:
    """The fresh process imports the user's code again; the stop comes meanwhile, to it too or not."""
    site = Site(tmp_path, SEARCH, POOL)
    site.gate.touch()
    (tmp_path / "fresh").touch()
    (tmp_path / "importing").touch()
    with site.worker() as worker:
        process(site, "again")
        signal_step(worker, signal.SIGTERM) if whole else worker.terminate()
        (tmp_path / "importing").unlink()
        assert worker.wait(TIMEOUT) == 0, site.said()
    assert [(end.state, end.cause) for end in site.ends()] == [("pending", "preempted")]


def test_a_stop_reaches_a_program_that_is_only_being_started(tmp_path: Path) -> None:
    search = SEARCH.replace("trial: train.py:train", "command: [sleep, '600']")
    site = Site(tmp_path, search)
    with site.worker() as worker:
        me = psutil.Process(worker.pid)
        launcher = wait_until(lambda: me.children(recursive=True)[1:2], timeout=TIMEOUT)[0]
        launcher.suspend()
        wait_until(lambda: site.states()[0] != "pending", timeout=TIMEOUT)
        worker.terminate()
        wait_until(lambda: not stop_pending(worker.pid), timeout=TIMEOUT)
        launcher.resume()
        assert worker.wait(TIMEOUT) == 0, site.said()
    assert {(end.state, end.cause) for end in site.ends()} == {("pending", "preempted")}


def stop_pending(pid: int) -> bool:
    """Return whether a TERM waits to be noticed by *pid*."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = [int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd")]
    return bool(mask >> (signal.SIGTERM - 1) & 1)
