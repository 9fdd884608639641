"""Workers for some folds alone: they claim no trial of another fold, by either way of claiming."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_search.launchers import refill
from hpc_search.ledger import Ledger, left
from hpc_search.ledger.gates import Gates
from hpc_search.mounts import Claiming
from hpc_search.records.plan import Plan
from tests.ledger_run import LedgerRun, Waits, end_of
from tests.unit.test_gates import opening, work

#: Three folds of four points each: trials 0-3, 4-7, 8-11, and two of a stage that waits for them: 12-17.
STAGES = (Waits(4, folds=(1, 2, 3)), Waits(2, needs=0, folds=(1, 2, 3)))


@pytest.fixture(params=["lock", "exclusive"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LedgerRun]:
    claiming: Claiming = request.param
    made = LedgerRun(tmp_path / "run", claiming=claiming, blocks=STAGES)
    yield made
    made.close()


def claim(ledger: Ledger, limit: int = 8) -> list[int]:
    found: list[int] = []
    while claimed := ledger.claim(limit):
        found += [one.trial.number for one in claimed]
    return found


def test_a_worker_for_some_folds_does_these_and_one_for_all_does_the_rest(run: LedgerRun) -> None:
    some = run.ledger(folds=(1, 3))
    assert (some.left(), some.pending_estimate() > 0) == (8, True)
    assert work(some) == [0, 1, 2, 3, 8, 9, 10, 11]
    assert (some.left(), some.pending_estimate(), some.anything_open()) == (0, 0, True)
    assert some.claim(1, only=5) == []
    assert work(run.ledger()) == [4, 5, 6, 7]


def test_two_workers_of_different_folds_never_get_the_same_trial(run: LedgerRun) -> None:
    one, other = run.ledger(folds=(3,)), run.ledger(folds=(1, 2))
    assert [found.trial.number for found in other.claim(1)] == [0]
    assert claim(one) == [8, 9, 10, 11]
    assert claim(other) == [1, 2, 3, 4, 5, 6, 7]
    assert claim(run.ledger()) == []


def test_what_is_given_back_is_claimed_again_by_who_is_for_its_fold_alone(run: LedgerRun) -> None:
    one = run.ledger(folds=(2,))
    taken = [found for _ in range(4) for found in one.claim(1)]
    assert [found.trial.number for found in taken] == [4, 5, 6, 7]
    one.give_back(taken[:2])
    other = run.ledger(folds=(1, 3))
    assert claim(other) == [0, 1, 2, 3, 8, 9, 10, 11]
    assert claim(one) == [4, 5]


def test_another_worker_finds_what_was_given_back_behind_it(run: LedgerRun) -> None:
    first = run.ledger()
    held = [found for _ in range(6) for found in first.claim(1)]
    one = run.ledger(folds=(2,))
    assert claim(one) == [6, 7]
    first.give_back(held[4:5])
    if run.plan.claiming == "exclusive":
        # Its own blocks stay a live worker's.
        assert claim(first)[:1] == [4]
        return
    assert one.recover() == 1
    assert claim(one) == [4]


def test_a_dead_worker_s_trial_is_run_by_who_is_for_its_fold(run: LedgerRun) -> None:
    run.mortal().claim(1)
    assert work(run.ledger(folds=(2,))) == [4, 5, 6, 7]
    assert sorted(work(run.ledger(folds=(1,)))) == [0, 1, 2, 3]


def test_a_stage_that_opens_is_worked_on_by_folds_too(run: LedgerRun) -> None:
    one = run.ledger(folds=(2,))
    work(run.ledger())
    assert work(one) == []
    one.gates.publish(opening(run, 1))
    one.recover()
    assert (one.left(), one.pending_estimate() >= 2) == (2, True)
    assert work(one) == [14, 15]
    assert work(run.ledger()) == [12, 13, 16, 17]


def test_who_submits_counts_the_work_of_the_folds_alone(run: LedgerRun) -> None:
    ledger = run.ledger(folds=(2, 3))
    (claimed,) = ledger.claim(1)
    ledger.finish(end_of(claimed))
    ledger.flush()
    assert [left(run.layout, run.plan, folds) for folds in ((), (2,), (1, 3))] == [11, 3, 8]
    assert [refill.claimable(run.layout, run.plan, folds) for folds in ((), (2,), (1, 3))] == [11, 3, 8]


def test_a_trial_that_failed_keeps_nobody_from_the_other_folds(run: LedgerRun) -> None:
    ledger = run.ledger(folds=(1, 2))
    for claimed in ledger.claim(1):
        ledger.finish(end_of(claimed, "failed", cause="nonfinite"))
    assert work(ledger) == [1, 2, 3, 4, 5, 6, 7]
    assert run.states()[:8] == ["failed", *["done"] * 7]


@settings(deadline=None, max_examples=100)
@given(
    blocks=st.lists(
        st.tuples(st.integers(1, 4), st.sampled_from([(0, 1, 2), (2,), (1, 2)])), min_size=1, max_size=4
    ),
    folds=st.sets(st.integers(0, 2), min_size=1),
    part=st.tuples(st.integers(0, 40), st.integers(0, 40)),
)
def test_what_is_claimable_are_the_trials_of_the_folds_and_no_others(
    tmp_path_factory: pytest.TempPathFactory,
    blocks: list[tuple[int, tuple[int, ...]]],
    folds: set[int],
    part: tuple[int, int],
) -> None:
    made = LedgerRun(
        tmp_path_factory.mktemp("run") / "run",
        blocks=[Waits(points, folds=numbers) for points, numbers in blocks],
    )
    gates = Gates(made.layout, made.plan, sorted(folds))
    numbers = range(min(part), min(max(part), made.plan.trials))
    found = [number for one in gates.claimable(numbers.start, max(part)) for number in one]
    assert found == [number for number in numbers if _fold(made.plan, number) in folds]
    assert [number for number in numbers if not gates.shut(number)] == found
    assert [number for one in gates.claimable_by_all(0, made.plan.trials) for number in one] == [
        *range(made.plan.trials)
    ]


def _fold(plan: Plan, number: int) -> int:
    block = plan.block_at(number)
    return block.folds[(number - block.first) // (block.points * len(block.seeds))]
