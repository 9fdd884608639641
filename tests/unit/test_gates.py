"""Trials that may not be claimed: of blocks that wait, and of searches that stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hpc_search.launchers import refill
from hpc_search.ledger import Ledger, left
from hpc_search.ledger.gates import Gates, start_parts
from hpc_search.mounts import Claiming
from hpc_search.records.search import PruningSpec, StrategySpec
from hpc_search.records.stages import Opened
from hpc_search.search import launch
from hpc_search.search.runs import Run
from hpc_search.status import read_status
from tests.ledger_run import LedgerRun, Waits, end_of, flip

#: Two searches, a and b, each of two stages: trials 0-2, 3-5, 6-7, 8-9.
STAGES = (Waits(3, part="a"), Waits(3, part="b"), Waits(2, needs=0, part="a"), Waits(2, needs=1, part="b"))


@pytest.fixture(params=["lock", "exclusive"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LedgerRun]:
    claiming: Claiming = request.param
    made = LedgerRun(tmp_path / "run", claiming=claiming, blocks=STAGES)
    yield made
    made.close()


def opening(run: LedgerRun, block: int) -> Opened:
    return Opened(block=block, space=run.plan.blocks[block].space)


def work(ledger: Ledger) -> list[int]:
    """Do what a worker does until it leaves: claim, end, look for what others left."""
    done: list[int] = []
    for _ in range(100):
        claimed = ledger.claim(2)
        for one in claimed:
            ledger.finish(end_of(one))
            done.append(one.trial.number)
        ledger.flush()
        if not claimed and not ledger.recover():
            return done
    raise AssertionError("it spins")


def test_a_trial_of_a_block_that_waits_is_not_claimed_and_nobody_spins_on_it(run: LedgerRun) -> None:
    ledger = run.ledger()
    assert work(ledger) == [0, 1, 2, 3, 4, 5]
    assert ledger.claim(1, only=7) == []
    assert (ledger.left(), ledger.pending_estimate(), ledger.anything_open()) == (0, 0, True)
    assert ledger.counts() == (10, 6)


@pytest.mark.parametrize("newcomer", [True, False])
def test_a_block_that_opens_is_claimed_by_whoever_looks_next(run: LedgerRun, newcomer: bool) -> None:
    ledger = run.ledger()
    work(ledger)
    assert ledger.gates.publish(opening(run, 3))
    assert not run.ledger().gates.publish(opening(run, 3)), "another one was first"
    worker = run.ledger() if newcomer else ledger
    worker.recover()
    assert worker.left() == 2
    assert worker.pending_estimate() >= 2
    assert work(worker) == [8, 9]
    worker.gates.publish(opening(run, 2))
    assert work(run.ledger()) == [6, 7], "it opened behind the cursor"
    assert worker.left() == 0
    assert not worker.anything_open()


def test_what_another_worker_decided_holds_at_the_next_claim(run: LedgerRun) -> None:
    ledger, other = run.ledger(), run.ledger()
    (paused,) = ledger.claim(1)
    ledger.finish(end_of(paused, "paused", rung=1))
    ledger.flush()
    other.gates.stop_part(0, "every trial of it fails")
    assert ledger.promote(0) == []
    assert [one.trial.number for _ in range(9) for one in ledger.claim(1)] == [3, 4, 5]
    other.gates.publish(opening(run, 3))
    assert [one.trial.number for _ in range(9) for one in ledger.claim(1)] == [8, 9]
    start_parts(run.layout)
    assert len(ledger.promote(0)) == 1


def test_of_a_search_that_stopped_nothing_is_claimed_until_its_mark_goes(run: LedgerRun) -> None:
    ledger = run.ledger()
    assert ledger.gates.stop_part(0, "every trial of it fails")
    assert not ledger.gates.stop_part(0, "said twice")
    assert work(ledger) == [3, 4, 5]
    assert ledger.left() == 0
    run.layout.stopped_part(0).unlink()
    assert work(ledger) == [0, 1, 2]


def test_what_a_dead_worker_had_of_a_search_that_stopped_is_given_back_and_waits(run: LedgerRun) -> None:
    run.mortal().claim(1)
    ledger = run.ledger()
    ledger.gates.stop_part(0, "every trial of it fails")
    assert work(ledger) == [3, 4, 5]
    run.layout.stopped_part(0).unlink()
    ledger.recover()
    assert sorted(work(ledger)) == [0, 1, 2]


def test_a_record_that_does_not_verify_keeps_its_block_closed_and_is_named(run: LedgerRun) -> None:
    gates = Gates(run.layout, run.plan)
    gates.publish(opening(run, 2))
    assert gates.opened(2) == opening(run, 2)
    flip(run.layout.stage(2), 20)
    late = Gates(run.layout, run.plan)
    assert (sorted(late.damaged), late.opened(2), late.shut(6)) == ([2], None, True)
    os.unlink(run.layout.stage(2))
    assert late.publish(opening(run, 2))
    assert (sorted(late.damaged), late.shut(6)) == ([], False)


def test_a_plan_without_stages_is_never_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = LedgerRun(tmp_path / "run")
    gates = Gates(run.layout, run.plan)
    monkeypatch.setattr(os, "listdir", lambda _: pytest.fail("a system call"))
    gates.refresh()
    assert list(gates.claimable(2, 5)) == [range(2, 5)]


def test_claimable_is_what_is_left_between_the_gates(run: LedgerRun) -> None:
    gates = Gates(run.layout, run.plan)
    gates.stop_part(0, "every trial of it fails")
    gates.publish(opening(run, 3))
    assert gates.closed == (range(3), range(6, 8))
    assert list(gates.claimable(0, 10)) == [range(3, 6), range(8, 10)]
    assert list(gates.claimable(4, 7)) == [range(4, 6)]
    assert list(gates.claimable(7, 9)) == [range(8, 9)]
    assert list(gates.claimable(0, 2)) == []


# -- those who read
def test_readers_tell_what_waits_from_what_can_be_done(run: LedgerRun) -> None:
    ledger = run.ledger()
    ledger.gates.stop_part(1, "every trial of it fails")
    (paused,) = ledger.claim(1)
    ledger.finish(end_of(paused, "paused", rung=1))
    ledger.claim(1)
    found = read_status(run.layout, run.plan)
    # Trials 6 and 7 wait; 3 to 5, 8 and 9 are of the search that stopped.
    counts = (found.paused, found.running, found.pending, found.waiting, found.closed)
    assert counts == (1, 1, 1, 2, 5)
    assert (found.trials, found.left, found.finished) == (10, 5, 0)
    assert refill.claimable(run.layout, run.plan) == 1
    # Whoever submits lets the search that stopped go on.
    assert left(run.layout, run.plan) == 6
    start_parts(run.layout)
    assert refill.claimable(run.layout, run.plan) == 4


def test_a_run_of_which_the_rest_never_runs_is_finished(run: LedgerRun) -> None:
    ledger = run.ledger()
    ledger.gates.stop_part(1, "every trial of it fails")
    work(ledger)
    ledger.gates.stop_part(0, "its stage ended without a complete point")
    found = read_status(run.layout, run.plan)
    assert (found.state, found.left, found.closed) == ("finished", 0, 7)
    start_parts(run.layout)
    assert launch.pending(Run(run.layout, run.plan)) == 3, "whoever submits lets them go on"


def test_where_only_paused_trials_are_left_one_worker_is_sent(run: LedgerRun) -> None:
    ledger = run.ledger()
    while claimed := ledger.claim(1):
        ledger.finish(end_of(claimed[0], "paused", rung=1))
    ledger.flush()
    assert refill.claimable(run.layout, run.plan) == 1
    assert ledger.left() == 6


@pytest.mark.parametrize(
    ("block", "flexible"),
    [
        ({}, False),
        ({"needs": 0}, True),
        ({"strategy": StrategySpec("tpe", {"points": 3})}, True),
        ({"pruning": PruningSpec("median")}, False),
        ({"pruning": PruningSpec("asha")}, True),
        ({"pruning": PruningSpec("patient", {}, PruningSpec("hyperband"))}, True),
    ],
)
def test_a_plan_is_flexible_where_what_can_be_claimed_changes(
    tmp_path: Path, block: dict[str, object], flexible: bool
) -> None:
    plan = LedgerRun(tmp_path / "run").plan
    blocks = (plan.blocks[0], msgspec.structs.replace(plan.blocks[0], **block))
    assert msgspec.structs.replace(plan, blocks=blocks).flexible is flexible
