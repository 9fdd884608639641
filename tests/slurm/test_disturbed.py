"""Cancelled, preempted, at its time limit: the search goes on where it was and ends with the same bits."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.searches import HeldSearch, cancelled_at_the_end, counting_clients, on_the_nodes
from tests.waiting import wait_until

#: The step at which the trials are held.
HOLD = 5


@pytest.fixture
def held(slurm: Cluster, tmp_path: Path) -> Iterator[Callable[[int], HeldSearch]]:
    """Make a search of so many trials that stop half-way."""
    with ExitStack() as stack:

        def make(trials: int) -> HeldSearch:
            held = HeldSearch(slurm, tmp_path, trials)
            stack.enter_context(cancelled_at_the_end(held))
            return held

        yield make


def assert_saved_and_pending(held: HeldSearch, trials: int) -> None:
    """Check that nothing runs any more and that each of *trials* has its checkpoint."""
    status = held.status()
    assert (status["running"], status["failed"], status["done"]) == (0, 0, 0), held
    assert status["pending"] == status["trials"]
    assert Counter(path.parent.name for path in held.run.glob("checkpoints/*/*.h5")).total() == trials


def assert_went_on(held: HeldSearch, trials: int, attempt: int = 2) -> None:
    """Check that all trials are done, *trials* of them from the step of their checkpoint on."""
    assert held.first_steps(attempt) == dict.fromkeys(range(trials), HOLD)
    assert held.collect() == held.undisturbed()
    assert held.status()["done"] == held.status()["trials"]


def test_a_cancelled_search_keeps_its_checkpoints_and_submit_completes_it(
    held: Callable[[int], HeldSearch],
) -> None:
    search = held(6)
    search.submit("--workers=4")
    search.wait_until_held(4)

    said = search.call("cancel", search.run).stdout

    assert "4 workers were told to end" in said
    search.wait_for_the_end_of_all_jobs()
    assert_saved_and_pending(search, 4)
    search.gate.unlink()
    search.submit("--workers=4")
    search.wait()
    assert_went_on(search, 4)


def test_workers_that_are_no_longer_wanted_save_and_end_and_the_others_stay(
    held: Callable[[int], HeldSearch],
) -> None:
    search = held(4)
    search.submit("--workers=4")
    search.wait_until_held(4)

    said = search.submit("--workers=1").stdout

    assert "1 worker wanted: 3 running told to stop at the next checkpoint" in said
    wait_until(lambda: len(search.jobs()) == 1, 60, on_timeout=lambda: search)
    wait_until(lambda: search.states()["pending"] == 3, 30, on_timeout=lambda: search)
    array = search.jobs()[0][0]
    ended = {"COMPLETED": 3, "RUNNING": 1}
    wait_until(lambda: Counter(search.cluster.states(array)) == ended, 30, on_timeout=lambda: search)
    search.gate.unlink()
    search.wait()
    assert search.collect() == search.undisturbed()


def test_a_cancelled_search_can_be_submitted_again_at_once(held: Callable[[int], HeldSearch]) -> None:
    search = held(6)
    search.submit("--workers=2")
    search.wait_until_held(2)
    search.call("cancel", search.run)
    search.gate.unlink()

    # SLURM shows cancelled tasks for as long as they may take to end.
    said = search.submit("--workers=2").stdout

    assert "2 workers submitted" in said
    search.wait()
    assert search.collect() == search.undisturbed()


def test_a_task_cancelled_by_hand_gives_its_trial_to_the_next(held: Callable[[int], HeldSearch]) -> None:
    search = held(2)
    search.submit("--workers=2")
    search.wait_until_held(2)
    task = f"{search.jobs()[0][0]}_0"

    # Where a partition gives no grace, preempted steps are told twice at once.
    for command in (["--signal=TERM"], ["--signal=TERM"], []):
        search.cluster.run("scancel", *command, task)

    wait_until(lambda: len(search.jobs()) == 1, 60, on_timeout=lambda: search)
    wait_until(lambda: search.states()["pending"] == 1, 30, on_timeout=lambda: search)
    search.gate.unlink()
    search.wait()
    ended = {record.trial: record.attempt for _, record in search.records("end") if record.state == "done"}
    assert sorted(ended.values()) == [1, 2]
    assert list(search.first_steps(2).values()) == [HOLD]
    assert search.collect() == search.undisturbed()


def test_a_killed_task_gives_its_trial_to_a_later_submit(held: Callable[[int], HeldSearch]) -> None:
    search = held(1)
    search.submit("--workers=1", extra="{nodelist: node1}")
    search.wait_until_held(1)
    (worker,) = on_the_nodes(search.tokens()[0])
    os.kill(worker, signal.SIGKILL)
    search.wait_for_the_end_of_all_jobs()
    assert search.status()["running"] == 1
    search.gate.unlink()

    # Another node: nothing there shows that the first worker's process is gone.
    search.submit("--workers=1", extra="{nodelist: node2}")

    search.wait()
    assert search.collect() == search.undisturbed()
    assert [row["node"] for row in search.attempts() if row["result"] == "true"] == ["node2"]


def test_a_preempted_trial_is_saved_and_finished_by_the_requeued_task(
    held: Callable[[int], HeldSearch],
) -> None:
    search = held(1)
    search.submit("--workers=1", extra="{nodelist: node4}")
    search.wait_until_held(1)

    whole_node = ("sbatch", "--parsable", "-p", "high", "--nodelist=node4", "--exclusive", "-o", "/dev/null")
    urgent = search.cluster.run(*whole_node, "--wrap", "sleep 1").stdout.strip()

    wait_until(lambda: search.states()["pending"] == 1, 60, on_timeout=lambda: search)
    assert_saved_and_pending(search, 1)
    search.cluster.wait(urgent)
    search.gate.unlink()
    search.wait()
    assert_went_on(search, 1)
    seats = {record.restart: record.seat for _, record in search.records("open")}
    assert seats == {0: "slurm:0:0", 1: "slurm:0:0"}
    assert len(search.tokens()) == 1
    wait_until(lambda: search.incarnations() == ["PREEMPTED", "COMPLETED"], 30, on_timeout=lambda: search)


def test_at_its_time_limit_a_worker_saves_and_requeues_itself(
    held: Callable[[int], HeldSearch], tmp_path: Path
) -> None:
    search = held(1)
    calls = tmp_path / "calls"

    search.submit("--workers=1", time=1, prolog=counting_clients(tmp_path / "bin", calls))
    search.wait_until_held(1)

    wait_until(lambda: search.states()["pending"] == 1, 90, on_timeout=lambda: search)
    assert_saved_and_pending(search, 1)
    search.gate.unlink()
    search.wait()
    search.wait_for_the_end_of_all_jobs()
    assert_went_on(search, 1)
    assert Counter(calls.read_text().splitlines()) == {"0 scontrol show": 2, "0 scontrol requeue": 1}
    wait_until(lambda: search.incarnations() == ["REQUEUED", "COMPLETED"], 30, on_timeout=lambda: search)


@pytest.mark.slow
def test_trials_that_need_more_than_the_time_limit_end_without_any_warning_of_slurm(
    held: Callable[[int], HeldSearch],
) -> None:
    search = held(1)
    search.submit("--workers=1", time=1, signal_delay=0)
    search.wait_until_held(1)

    # Held for as long as the job has; the worker's own clock ends it.
    search.wait_until_held(1, attempt=2, timeout=120)
    assert search.states() == {"running": 1}
    search.gate.unlink()
    search.wait()
    assert_went_on(search, 1)
    wait_until(lambda: search.incarnations() == ["REQUEUED", "COMPLETED"], 30, on_timeout=lambda: search)
