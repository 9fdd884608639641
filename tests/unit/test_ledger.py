"""Claiming, finishing, giving back, taking over; and an index that is damaged in every way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpc_search.layout import Layout
from hpc_search.ledger import history, read_index
from hpc_search.records import index
from hpc_search.records import journal as lines
from hpc_search.records.plan import Retry
from tests.ledger_run import LedgerRun, end_of, flip, without_times


@pytest.fixture
def run(tmp_path: Path) -> Iterator[LedgerRun]:
    made = LedgerRun(tmp_path / "run", retry=Retry(no_progress=3))
    yield made
    made.close()


# -- claims
def test_trials_are_claimed_in_order_and_never_twice(run: LedgerRun) -> None:
    one, two = run.ledger(), run.ledger()
    numbers = [claimed.trial.number for ledger in (one, two, one) for claimed in ledger.claim(2)]
    assert numbers == [0, 1, 2, 3, 4, 5]
    assert one.claim() == two.claim() == []


def test_the_first_of_several_runs_and_the_others_are_claimed(run: LedgerRun) -> None:
    ledger = run.ledger()
    claimed = ledger.claim(3)
    assert run.states() == ["running", "claimed", "claimed", "pending", "pending", "pending"]
    ledger.start(claimed[1], pid=1, log=0)
    ledger.flush()
    assert run.states()[:3] == ["running", "running", "claimed"]


def test_a_claim_record_holds_everything_that_the_trial_is(run: LedgerRun) -> None:
    run.ledger().claim(2)
    record = list(run.records("claim"))[1]
    assert isinstance(record, lines.Claim)
    assert (record.trial, record.attempt, record.params, record.point, record.block) == (1, 1, {"x": 1}, 1, "b10c")


def test_one_wanted_trial_or_none(run: LedgerRun) -> None:
    ledger = run.ledger()
    assert [claimed.trial.number for claimed in ledger.claim(1, only=4)] == [4]
    assert ledger.claim(1, only=4) == []
    assert [claimed.trial.number for claimed in ledger.claim(9)] == [0, 1, 2, 3, 5]


def test_trials_given_back_are_claimed_again_first(run: LedgerRun) -> None:
    ledger = run.ledger()
    claimed = ledger.claim(4)
    ledger.give_back(claimed[1:3])
    again = ledger.claim(3)
    assert [(one.trial.number, one.attempt) for one in again] == [(1, 2), (2, 2), (4, 1)]


def test_giving_back_costs_no_progress(run: LedgerRun) -> None:
    ledger = run.ledger()
    for _ in range(5):
        ledger.give_back(ledger.claim(1))
    entry = run.entries()[0]
    assert (entry.stalls, entry.errors, entry.attempt) == (0, 0, 5)


def test_nothing_is_claimed_while_the_stop_file_exists(run: LedgerRun) -> None:
    ledger = run.ledger()
    claimed = ledger.claim(1)
    ledger.finish(end_of(claimed[0]))
    run.layout.stop.write_text("stop")
    assert ledger.claim(1) == []
    assert run.states()[0] == "done"
    run.layout.stop.unlink()
    assert [one.trial.number for one in ledger.claim(1)] == [1]


# -- ends
def test_an_end_is_durable_before_the_index_is_marked(run: LedgerRun) -> None:
    ledger = run.ledger()
    checksum = ledger.finish(end_of(ledger.claim(1)[0], value=0.75))
    assert run.states()[0] == "running"
    assert history.results(run.layout)[0].checksum == checksum
    ledger.flush()
    entry = run.entries()[0]
    assert (run.states()[0], entry.value, entry.end) == ("done", 0.75, int(checksum, 16))
    assert run.finals() == 1


def test_the_next_claim_marks_what_is_finished(run: LedgerRun) -> None:
    ledger = run.ledger()
    ledger.finish(end_of(ledger.claim(1)[0]))
    assert ledger.waiting == 1
    ledger.claim(1)
    assert (ledger.waiting, run.states()[:2]) == (0, ["done", "running"])


def test_an_accepted_record_names_the_end(run: LedgerRun) -> None:
    ledger = run.ledger()
    checksum = ledger.finish(end_of(ledger.claim(1)[0]))
    ledger.flush()
    (record,) = run.records("accepted")
    assert isinstance(record, lines.Accepted)
    assert (record.trial, record.attempt, record.end, record.worker) == (0, 1, checksum, ledger.id)


def test_a_zombie_that_ends_late_is_superseded_and_changes_nothing(run: LedgerRun) -> None:
    zombie = run.mortal()
    old = zombie.claim(1)[0]
    taker = run.ledger()
    assert taker.recover() == 1
    new = taker.claim(1)[0]
    assert (new.trial.number, new.attempt) == (0, 2)
    taker.finish(end_of(new, value=0.9))
    taker.flush()
    zombie.finish(end_of(old, value=0.1))
    zombie.flush()
    assert run.entries()[0].value == 0.9
    assert run.finals() == 1
    assert history.results(run.layout)[0].end.value == 0.9
    assert [note.event for note in run.records("note") if isinstance(note, lines.Note)] == ["superseded"]


def test_a_zombie_that_gives_back_late_does_not_free_the_trial_of_another(run: LedgerRun) -> None:
    zombie = run.mortal()
    old = zombie.claim(1)
    taker = run.ledger()
    taker.recover()
    taker.claim(1)
    zombie.give_back(old)
    assert run.states()[0] == "running"
    assert run.entries()[0].owner == taker.owner


def test_counters_count_attempts_by_their_cause(run: LedgerRun) -> None:
    ledger = run.ledger()
    causes: list[lines.Cause] = ["error", "oom", "preempted", "lost", "error"]
    for cause in causes:
        (claimed,) = ledger.claim(1, only=0)
        ledger.finish(end_of(claimed, "pending", cause=cause))
        ledger.flush()
    entry = run.entries()[0]
    assert (entry.errors, entry.ooms, entry.attempt, entry.seconds) == (2, 1, 5, 5.0)


def test_a_newer_checkpoint_clears_the_stalls(run: LedgerRun) -> None:
    ledger = run.ledger()
    stalls = []
    for step in (0, 0, 3, 3):
        (claimed,) = ledger.claim(1, only=0)
        ledger.finish(end_of(claimed, "pending", cause="preempted", step=step))
        ledger.flush()
        stalls.append(run.entries()[0].stalls)
    assert stalls == [1, 2, 0, 1]
    assert run.entries()[0].step == 3


def test_the_heartbeat_tells_which_trials_were_taken_by_others(run: LedgerRun) -> None:
    zombie = run.mortal()
    zombie.claim(2)
    assert zombie.beat() == []
    taker = run.ledger()
    taker.recover()
    taker.claim(1)
    assert zombie.beat() == [0]


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
    other.rebuild_index()
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
    from hpc_search.ledger.fold import fold

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
    taker._watch.clock = lambda: now[0]
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
    taker._watch.clock = lambda: now[0]
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


# -- leaving
def test_an_exit_writes_the_last_marks_and_frees_the_reserve(run: LedgerRun) -> None:
    ledger = run.ledger()
    ledger.finish(end_of(ledger.claim(1)[0]))
    ledger.exit("no work left")
    assert run.states()[0] == "done"
    assert not run.layout.reserve(ledger.id).exists()
    (record,) = run.records("exit")
    assert isinstance(record, lines.Exit)
    assert record.reason == "no work left"
