"""Trials that wait at a rung: promoted once, ended once, and never claimed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_search.ledger import Claimed, Ledger, exclusive, history, mode, superblocks, vacant
from hpc_search.mounts import Claiming
from hpc_search.records import journal as lines
from tests.ledger_run import LedgerRun, Waits, end_of, without_times

TRIALS = 4


@pytest.fixture(params=["lock", "exclusive"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LedgerRun]:
    claiming: Claiming = request.param
    # A plan whose trials may pause is a flexible one.
    made = LedgerRun(tmp_path / "run", claiming=claiming, blocks=(Waits(TRIALS), Waits(1, needs=0)))
    yield made
    made.close()


def pause(ledger: Ledger, number: int = 0, rung: int = 1) -> Claimed:
    """Run trial *number* up to *rung*."""
    (claimed,) = ledger.claim(1, only=number)
    ledger.finish(end_of(claimed, "paused", rung=rung, step=rung))
    ledger.flush()
    return claimed


def test_a_paused_trial_is_not_claimed_whatever_becomes_of_its_worker(run: LedgerRun) -> None:
    ledger, dead, gone = run.ledger(), run.mortal(), run.ledger()
    for number, worker in enumerate([ledger, dead, gone]):
        pause(worker, number)
    gone.exit("no work left")
    late = run.ledger()
    late.reconcile()
    late.recover()
    assert [one.trial.number for one in late.claim(9)] == [3]
    assert late.recover() == 0
    assert late.claim(9) == []
    assert ledger.beat() == []
    assert run.states()[:3] == ["paused"] * 3
    assert [entry.rung for entry in run.entries()[:3]] == [1] * 3
    assert late.left() == TRIALS


def test_of_two_that_promote_a_trial_one_has_it(run: LedgerRun) -> None:
    one, two = run.ledger(), run.ledger()
    first = pause(one)
    (claimed,) = two.promote(0)
    assert (claimed.attempt, claimed.before.rung, claimed.before.step) == (first.attempt + 1, 1, 1)
    assert one.promote(0) == []
    assert two.promote(0) == []
    assert two.owns(0, claimed.attempt)
    two.finish(end_of(claimed, "paused", rung=2, step=3))
    two.flush()
    (again,) = one.promote(0)
    assert (again.attempt, again.before.rung) == (first.attempt + 2, 2)
    one.finish(end_of(again))
    one.flush()
    assert one.promote(0) == []
    assert run.entries()[0].stalls == 0
    assert run.states()[0] == "done"


def test_nobody_gets_what_another_one_owns_and_has_not_written_down_yet(
    run: LedgerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = run.ledger(), run.ledger()
    pause(one)
    own = Ledger._own

    def interrupted(ledger: Ledger, *given: Any) -> list[Claimed]:
        if ledger is one:
            assert two.promote(0) == []
            assert two.end_paused([0]) == []
        return own(ledger, *given)

    monkeypatch.setattr(Ledger, "_own", interrupted)
    assert len(one.promote(0)) == 1


def test_a_trial_that_is_paused_is_not_given_back_by_whoever_believed_its_owner_dead(run: LedgerRun) -> None:
    owner, other = run.ledger(), run.ledger()
    (claimed,) = owner.claim(1)
    owner.finish(end_of(claimed, "paused", rung=1))
    owner.flush()
    other.finish(end_of(claimed, "pending", cause="lost"))
    other.flush()
    assert other.claim(1, only=0) == []
    assert [one.before.rung for one in other.promote(0)] == [1]


def test_a_worker_promotes_what_it_has_just_paused(run: LedgerRun) -> None:
    ledger = run.ledger()
    (claimed,) = ledger.claim(1)
    ledger.finish(end_of(claimed, "paused", rung=1))
    assert [one.attempt for one in ledger.promote(0)] == [2]


@pytest.mark.parametrize("how", ["dies", "leaves"])
def test_a_promoted_trial_goes_on_whoever_runs_it_then(run: LedgerRun, how: str) -> None:
    pause(run.ledger())
    worker = run.mortal() if how == "dies" else run.ledger()
    (claimed,) = worker.promote(0)
    if how == "leaves":
        worker.give_back([claimed])
        worker.exit("no work left")
    other = run.ledger()
    other.recover()
    assert other.promote(0) == [], "it was promoted already"
    (again,) = other.claim(1, only=0)
    assert (again.attempt, again.before.rung) == (3, 1)


@pytest.mark.parametrize("how", ["dies", "gives back"])
def test_a_trial_that_was_to_be_ended_and_was_not_is_paused_again(run: LedgerRun, how: str) -> None:
    pause(run.ledger())
    worker = run.mortal() if how == "dies" else run.ledger()
    claimed = worker.end_paused([0, 1])
    assert [one.trial.number for one in claimed] == [0], "only what is paused"
    if how == "gives back":
        worker.give_back(claimed)
    else:
        worker.journal.sync()
    other = run.ledger()
    other.recover()
    assert run.states()[0] == "paused"
    assert (run.entries()[0].rung, run.entries()[0].stalls) == (1, 0)
    for one in other.end_paused([0]):
        other.finish(end_of(one, "pruned"))
    other.flush()
    assert run.states()[0] == "pruned"
    assert other.end_paused([0]) == []


def test_what_was_skipped_while_it_was_paused_is_not_promoted(run: LedgerRun) -> None:
    ledger = run.ledger()
    pause(ledger)
    for one in ledger.take_away([0]):
        ledger.finish(end_of(one, "pruned"))
    ledger.flush()
    assert ledger.promote(0) == []
    assert run.ledger().end_paused([0]) == []


def test_nothing_of_a_search_that_stopped_is_promoted_and_yet_it_is_ended(run: LedgerRun) -> None:
    ledger = run.ledger()
    pause(ledger)
    run.layout.stop.write_bytes(b"stopped\n")
    assert ledger.promote(0) == []
    assert len(ledger.end_paused([0])) == 1


def test_a_zombie_does_not_pause_what_was_taken_over(run: LedgerRun) -> None:
    zombie = run.mortal()
    (old,) = zombie.claim(1)
    other = run.ledger()
    other.recover()
    (new,) = other.claim(1)
    zombie.finish(end_of(old, "paused", rung=1))
    zombie.flush()
    assert run.ledger().promote(0) == []
    assert other.owns(0, new.attempt)
    notes = [record for record in run.records("note") if isinstance(record, lines.Note)]
    assert ("superseded", 0) in [(note.event, note.trial) for note in notes]


def test_the_pause_of_a_dead_worker_that_nobody_saw_is_found_in_its_journal(run: LedgerRun) -> None:
    dead = run.mortal()
    (claimed,) = dead.claim(1)
    dead.finish(end_of(claimed, "paused", rung=2, step=2))
    other = run.ledger()
    other.recover()
    assert (run.states()[0], run.entries()[0].rung) == ("paused", 2)
    assert len(other.promote(0)) == 1


def test_a_run_that_uses_the_index_keeps_what_is_paused_when_it_goes_on_without_it(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run", blocks=(Waits(TRIALS), Waits(1, needs=0)))
    old, live = run.ledger(), run.ledger()
    pause(old, 1)
    (kept,) = live.claim(1, only=2)
    live.finish(end_of(kept, "paused", rung=1))
    old.exit("no work left")
    mode.require_exclusive(run.layout, "the locks lie")
    live.beat()
    live.flush()
    other = run.ledger()
    other.reconcile()
    found = [one.trial.number for _ in range(9) for one in other.claim(2)]
    assert found == [0, 3], "neither what is paused nor what waits"
    assert [len(worker.promote(number)) for worker, number in ((other, 1), (live, 2))] == [1, 1]
    assert [len(live.promote(1)), len(other.promote(2))] == [0, 0]
    run.close()


def test_what_was_paused_by_the_index_after_another_worker_left_it_is_not_claimed(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run", blocks=(Waits(TRIALS), Waits(1, needs=0)))
    first, late = run.ledger(), run.ledger()
    late.beat()
    mode.require_exclusive(run.layout, "the locks lie")
    first.beat()
    assert first.claim(1) == [], "the other one may still claim by the index"
    pause(late)
    assert isinstance(first._book, exclusive.ExclusiveBook)
    first._book._not_before = 0.0
    assert [one.trial.number for _ in range(9) for one in first.claim(1)] == [1, 2, 3]
    assert [one.before.rung for one in first.promote(0)] == [1]
    run.close()


def test_names_are_a_few_for_each_paused_trial_and_go_when_all_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (superblocks, exclusive, vacant):
        monkeypatch.setattr(module, "SUPERBLOCK", 16)
    run = LedgerRun(tmp_path / "run", claiming="exclusive", blocks=(Waits(64), Waits(1, needs=0)))
    ledger = run.ledger()
    # As in successive halving: a third goes on from each rung.
    for rung, step in ((1, 1), (2, 3), (3, 9)):
        for number in range(0, 64, step):
            for one in ledger.claim(1, only=number) if rung == 1 else ledger.promote(number):
                ledger.finish(end_of(one, "paused", rung=rung, step=rung))
        ledger.flush()
    paused = run.states().count("paused")
    assert paused == 64
    assert sum(len(names) for _, _, names in os.walk(run.layout.open)) <= 4 * paused
    for one in ledger.end_paused(range(64)):
        ledger.finish(end_of(one, "pruned"))
    ledger.flush()
    ledger.recover()
    assert len(os.listdir(run.layout.open)) == 4
    run.close()


def test_a_rebuilt_index_says_the_same_of_paused_and_promoted_trials(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run", trials=TRIALS)
    ledger = run.ledger()
    for number in range(TRIALS):
        pause(ledger, number, rung=number + 1)
    (promoted,) = ledger.promote(1)
    ledger.give_back([promoted])
    ledger.promote(2)
    ledger.end_paused([3])
    ledger.journal.sync()
    before = run.entries()
    run.layout.claims.unlink()
    ledger.recover()
    assert run.states() == ["paused", "pending", "running", "running"]
    assert without_times(run.entries()) == without_times(before)
    assert not history.results(run.layout)
    run.close()
