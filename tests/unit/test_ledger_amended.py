"""Workers of the old and of the new plan beside each other: every trial is claimed once, by who knows it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hpc_search.ledger import Ledger, history, read_state, retries
from hpc_search.ledger.index import extend
from hpc_search.mounts import Claiming
from hpc_search.planning import Numbering
from hpc_search.records.plan import Plan
from hpc_search.records.retries import Retried, Retries
from hpc_search.status.index import read_entries
from tests.ledger_run import LedgerRun, end_of

BEFORE, AFTER = 6, 150


def amended(run: LedgerRun) -> Plan:
    """Return the plan of *run* with more trials."""
    first = run.plan.blocks[0]
    more = AFTER - BEFORE
    later = msgspec.structs.replace(
        first, first=BEFORE, first_point=BEFORE, points=1, seeds=tuple(range(more))
    )
    return msgspec.structs.replace(
        run.plan, blocks=(first, later), trials=AFTER, points=BEFORE + 1, number=2, added=(BEFORE,)
    )


def join(run: LedgerRun, plan: Plan) -> Ledger:
    return Ledger(run.layout, plan, Numbering(plan), run.identity(), lock_timeout=20)


def all_of(ledger: Ledger, *, end: bool = True) -> list[int]:
    """Claim all there is, and end it."""
    found = []
    while claimed := ledger.claim(4):
        found += [one.trial.number for one in claimed]
        for one in claimed if end else ():
            ledger.finish(end_of(one))
        ledger.flush()
    return found


@pytest.fixture(params=["lock", "exclusive"])
def run(tmp_path: Path, request: pytest.FixtureRequest) -> LedgerRun:
    claiming: Claiming = request.param
    return LedgerRun(tmp_path / "run", trials=BEFORE, claiming=claiming)


def test_a_worker_of_the_old_plan_claims_nothing_of_the_new_one(run: LedgerRun) -> None:
    new, old = join(run, amended(run)), run.ledger()
    new.claim()

    assert all_of(old) == list(range(1, BEFORE))
    assert old.recover() == 0
    assert all_of(new) == list(range(BEFORE, AFTER))
    assert new.left() == 1
    run.close()


def test_all_trials_end_once_whoever_was_first(run: LedgerRun) -> None:
    old = run.ledger()
    assert all_of(old) == list(range(BEFORE))
    assert not old.anything_open()

    new = join(run, amended(run))

    assert new.anything_open()
    assert all_of(new) == list(range(BEFORE, AFTER))
    assert not new.anything_open()
    assert new.counts() == (AFTER, AFTER)
    assert sorted(history.results(run.layout)) == list(range(AFTER))
    assert all(entry.final for entry in read_state(run.layout, AFTER)[1])
    run.close()


def test_a_dead_worker_of_the_new_plan_is_followed_by_one_that_knows_its_trials(run: LedgerRun) -> None:
    plan = amended(run)
    old, later = run.ledger(), join(run, plan)
    dead = Ledger(run.layout, plan, Numbering(plan), run.identity(pid=2**22 + 1), lock_timeout=20)
    all_of(old)
    lost = [one.trial.number for one in dead.claim(3)]

    assert old.recover() == 0
    assert later.recover() > 0
    assert sorted(all_of(later)) == list(range(BEFORE, AFTER))
    assert lost == [6, 7, 8]
    run.close()


def test_readers_see_trials_that_the_index_has_no_records_of_yet(run: LedgerRun) -> None:
    all_of(run.ledger())

    states = [entry.final for entry in read_state(run.layout, AFTER)[1]]
    assert states == [True] * BEFORE + [False] * (AFTER - BEFORE)
    assert (
        sum(entry is not None and entry.final for entry in read_entries(run.layout, AFTER).entries) == BEFORE
    )
    run.close()


def test_an_index_that_the_old_plan_rebuilds_keeps_what_ended_of_the_new_one(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run", trials=BEFORE)
    old, new = run.ledger(), join(run, amended(run))
    assert [one.trial.number for one in old.claim(6)] == list(range(BEFORE))
    claimed = new.claim(2)
    for one in claimed:
        new.finish(end_of(one))
    new.flush()
    run.layout.claims.write_bytes(b"torn")

    old.reconcile()

    assert [entry.final for entry in read_state(run.layout, 9)[1]] == [False] * 6 + [True, True, False]
    assert all_of(new) == list(range(BEFORE + 2, AFTER))
    run.close()


def test_the_index_is_extended_once_and_in_place(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run", trials=BEFORE)
    all_of(run.ledger())
    before = run.layout.claims.read_bytes()

    extend(run.layout, AFTER)
    extend(run.layout, BEFORE)

    after = run.layout.claims.read_bytes()
    assert len(after) == 64 + 64 * AFTER
    assert after[64 : len(before)] == before[64:]
    assert run.finals() == BEFORE
    run.close()


def test_no_two_lists_give_the_same_places() -> None:
    failed = Retried(trial=4, attempt=1, end="00", worker="11")
    again = Retried(trial=131, attempt=1, end="22", worker="11")
    known = retries.Known(
        (
            Retries(first=128, words="retry", trials=(failed,)),
            Retries(first=256, words="amended", trials=(), added=(6, 144)),
            Retries(first=512, words="retry", trials=(again,)),
        ),
        (1, 2, 3),
    )

    assert [known.place(trial) for trial in (3, 4, 5, 6, 131, 149)] == [3, 128, 5, 256, 512, 399]
    assert [known.trial(place) for place in (3, 4, 128, 256, 381, 399, 512)] == [3, 4, 4, 6, 131, 149, 131]
    assert dict(known.ended()) == {4: failed, 381: again}
    assert known.place_of_end(131, 1, "failed") == 381
    assert known.next_place(6, 128) == 640
    assert (known.placed(6), known.count) == (150, 2)
    # Whoever has the old plan claims no trial that it does not know.
    assert known.places_of(6) == [range(128, 129)]
