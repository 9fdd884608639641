"""Workers that died, and an index that is damaged in every way: states and results stay what they were."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpc_search.layout import Layout
from hpc_search.ledger import history, read_index
from hpc_search.ledger.fold import fold
from hpc_search.ledger.indexed import IndexedBook
from hpc_search.records import index
from hpc_search.records import journal as lines
from hpc_search.records.search import Retry
from tests.ledger_run import LedgerRun, end_of, flip, without_times


@pytest.fixture
def run(tmp_path: Path) -> Iterator[LedgerRun]:
    made = LedgerRun(tmp_path / "run", retry=Retry(no_progress=3))
    yield made
    made.close()


# -- damage
DAMAGE: dict[str, Callable[[Layout], None]] = {
    "missing": lambda layout: layout.claims.unlink(),
    "empty": lambda layout: os.truncate(layout.claims, 0),
    "header cut": lambda layout: os.truncate(layout.claims, index.HEADER_BYTES - 1),
    "truncated": lambda layout: os.truncate(layout.claims, index.entry_offset(3)),
    "torn": lambda layout: os.truncate(layout.claims, index.entry_offset(3) + 9),
    "bit of the header": lambda layout: flip(layout.claims, 17),
    "bit of a record": lambda layout: flip(layout.claims, index.entry_offset(1) + 20),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_index_is_rebuilt_to_the_same_states(run: LedgerRun, damage: str) -> None:
    ledger, dead = run.ledger(), run.mortal()
    done, failed, back, paused = ledger.claim(4)
    ledger.finish(end_of(done, value=0.75, step=4))
    ledger.finish(end_of(failed, "failed", cause="error"))
    ledger.finish(end_of(back, "pending", cause="preempted", step=2))
    ledger.finish(end_of(paused, "paused", rung=2, step=5))
    ledger.flush()
    dead.claim(1, only=4)
    before, finals = run.entries(), run.finals()
    DAMAGE[damage](run.layout)
    other = run.ledger()
    other.beat()
    other.claim(0)
    assert isinstance(other._book, IndexedBook)
    other._book.rebuild()
    assert without_times(run.entries()) == without_times(before)
    assert run.finals() == finals
    assert [one.trial.number for one in other.claim(9)] == [2, 5]


def test_a_rebuild_by_anyone_keeps_what_others_run(run: LedgerRun) -> None:
    ledger = run.ledger()
    (claimed,) = ledger.claim(1)
    run.layout.claims.unlink()
    other = run.ledger()
    assert other.recover() == 0
    assert [one.trial.number for one in other.claim(9)] == [1, 2, 3, 4, 5]
    ledger.finish(end_of(claimed))
    ledger.flush()
    assert run.states()[0] == "done"


def test_an_index_that_forgot_an_end_is_reconciled(run: LedgerRun) -> None:
    ledger = run.ledger()
    ledger.finish(end_of(ledger.claim(1)[0], value=0.75))
    ledger.flush()
    run.new_index()
    assert run.states()[0] == "pending"
    assert run.ledger().reconcile() == 1
    assert (run.states()[0], run.finals(), run.entries()[0].value) == ("done", 1, 0.75)


def test_reconciling_a_damaged_index_rebuilds_it(run: LedgerRun) -> None:
    ledger = run.ledger()
    ledger.finish(end_of(ledger.claim(1)[0]))
    ledger.flush()
    flip(run.layout.claims, index.entry_offset(1) + 2)
    flip(run.layout.claims, 3)
    run.ledger().reconcile()
    assert (run.states()[0], run.finals()) == ("done", 1)


def test_a_wrong_count_in_the_header_is_put_right(run: LedgerRun) -> None:
    """A worker killed between a record and the header leaves such a count."""
    ledger = run.ledger()
    ledger.finish(end_of(ledger.claim(1)[0]))
    ledger.flush()
    header, _ = read_index(run.layout)
    with run.layout.claims.open("r+b") as file:
        file.write(index.encode_header(header._replace(finals=0, cursor=4)))
    ledger.reconcile()
    assert run.finals() == 1
    with run.layout.claims.open("r+b") as file:
        file.write(index.encode_header(header._replace(cursor=4)))
    assert ledger.recover() == 1
    assert ledger.recover() == 0
    assert [one.trial.number for one in ledger.claim(9)] == [1, 2, 3, 4, 5]


def test_a_rebuild_raises_the_generation(run: LedgerRun) -> None:
    ledger = run.ledger()
    generations = []
    for number in range(3):
        flip(run.layout.claims, index.entry_offset(number) + 20)
        ledger.recover()
        generations.append(read_index(run.layout)[0].generation)
    assert generations == [1, 2, 3]


# -- the dead
def test_what_a_dead_owner_on_this_host_ran_is_given_back(run: LedgerRun) -> None:
    dead = run.mortal()
    dead.claim(2)
    taker = run.ledger()
    assert taker.recover() == 2
    assert run.states()[:2] == ["pending", "pending"]
    entries = run.entries()
    assert [entry.stalls for entry in entries[:2]] == [1, 0]
    assert index.CAUSES[entries[0].cause] == "lost"


def test_the_end_record_of_a_dead_owner_finishes_the_trial(run: LedgerRun) -> None:
    dead = run.mortal()
    claimed = dead.claim(2)
    checksum = dead.finish(end_of(claimed[0], value=0.75))
    taker = run.ledger()
    taker.recover()
    assert run.states()[:2] == ["done", "pending"]
    entry = run.entries()[0]
    assert (entry.value, entry.end, entry.owner) == (0.75, int(checksum, 16), dead.owner)
    (record,) = run.records("accepted")
    assert isinstance(record, lines.Accepted)
    assert (record.end, record.worker) == (checksum, dead.id)


def test_the_end_record_of_a_live_owner_is_marked_for_it_once(run: LedgerRun) -> None:
    owner = run.ledger()
    owner.finish(end_of(owner.claim(1)[0]))
    run.ledger().recover()
    owner.flush()
    assert (run.states()[0], run.finals()) == ("done", 1)
    assert not list(run.records("note"))


def test_the_end_record_of_a_folded_owner_finishes_the_trial(run: LedgerRun) -> None:
    """Its journal said exit, but its mark was lost by a file system that lies."""
    gone = run.mortal()
    gone.finish(end_of(gone.claim(1)[0], value=0.75))
    running = run.layout.claims.read_bytes()
    gone.exit("done")
    run.layout.claims.write_bytes(running)
    assert fold(run.layout, run.identity(), many=1) == 1
    assert run.states()[0] == "running"
    run.ledger().recover()
    assert (run.states()[0], run.entries()[0].value) == ("done", 0.75)


def test_a_worker_that_said_exit_owns_nothing(run: LedgerRun) -> None:
    worker = run.ledger()
    worker.claim(1)
    worker.exit("crashed before giving back")
    assert run.ledger().recover() == 1
    assert run.states()[0] == "pending"


def test_a_later_restart_on_the_same_seat_takes_over(run: LedgerRun) -> None:
    first = run.ledger(host="node1", boot_id="x", token="t", seat="1:0:0", restart=0)
    first.claim(1)
    other = run.ledger(host="node2", boot_id="y", token="t", seat="1:1:0", restart=1)
    assert other.recover() == 0
    again = run.ledger(host="node2", boot_id="y", token="t", seat="1:0:0", restart=1)
    assert again.recover() == 1


def test_a_worker_of_another_host_is_not_judged_by_its_pid(run: LedgerRun) -> None:
    run.ledger(pid=2**22 + 1, host="elsewhere").claim(1)
    assert run.ledger().recover() == 0
    assert run.states()[0] == "running"


def test_a_claim_newer_than_the_heartbeat_is_not_taken_for_abandoned(run: LedgerRun) -> None:
    owner = run.ledger()
    for _ in range(3):
        owner.beat()
    owner.claim(1)
    taker = run.ledger()
    assert taker.recover() == taker.recover() == 0
    assert run.states()[0] == "running"


def test_a_trial_that_its_live_owner_no_longer_lists_is_taken_back(run: LedgerRun) -> None:
    owner = run.ledger()
    owner.beat()
    owner.claim(1)
    owner._held.clear()
    taker = run.ledger()
    for _ in range(3):
        owner.beat()
        taker.recover()
    assert run.states()[0] == "pending"


def test_a_heartbeat_that_stands_still_over_the_lease_is_a_death(run: LedgerRun) -> None:
    owner = run.ledger(host="elsewhere")
    owner.claim(1)
    owner.beat()
    taker = run.ledger()
    now = [0.0]
    taker._deaths.watch.clock = lambda: now[0]
    taken = []
    for _ in range(12):
        taken.append(taker.recover())
        now[0] += run.plan.search.lease / 10
    assert sum(taken) == 1
    assert taken.index(1) >= 9
    assert run.states()[0] == "pending"


def test_a_gap_in_the_samples_restarts_the_watch(run: LedgerRun) -> None:
    owner = run.ledger(host="elsewhere")
    owner.claim(1)
    owner.beat()
    taker = run.ledger()
    now = [0.0]
    taker._deaths.watch.clock = lambda: now[0]
    for _ in range(12):
        assert taker.recover() == 0
        now[0] += run.plan.search.lease * 0.9


def test_a_trial_without_progress_is_not_tried_for_ever(run: LedgerRun) -> None:
    for _ in range(3):
        run.mortal().claim(1, only=0)
        run.ledger().recover()
    entry = run.entries()[0]
    assert (run.states()[0], index.CAUSES[entry.cause], entry.attempt) == ("failed", "lost", 3)
    assert history.results(run.layout)[0].end.cause == "lost"


def test_a_trial_whose_checkpoints_advance_is_tried_on(run: LedgerRun) -> None:
    for step in range(1, 6):
        dead = run.mortal()
        (claimed,) = dead.claim(1, only=0)
        dead.journal.append(lines.Checkpoint(trial=0, attempt=claimed.attempt, step=step, slot=0))
        run.ledger().recover()
    assert (run.states()[0], run.entries()[0].stalls, run.entries()[0].step) == ("pending", 0, 5)


def test_two_who_take_over_at_once_give_one_attempt(run: LedgerRun) -> None:
    run.mortal().claim(1)
    one, two = run.ledger(), run.ledger()
    real = one.flush
    one.flush = lambda: None  # type: ignore[method-assign]
    one.recover()
    two.recover()
    (claimed,) = two.claim(1)
    one.flush = real  # type: ignore[method-assign]
    one.flush()
    entry = run.entries()[0]
    assert (claimed.attempt, entry.attempt, entry.owner) == (2, 2, two.owner)
