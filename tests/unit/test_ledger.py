"""Claiming, finishing, giving back: what a living worker does to the index and its journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc_search.layout import Layout
from hpc_search.ledger import history, indexed, read_entry
from hpc_search.ledger.journal import JournalUnwritableError
from hpc_search.records import index
from hpc_search.records import journal as lines
from hpc_search.records.index import Entry
from hpc_search.records.search import Retry
from tests.ledger_run import LedgerRun, end_of


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
    assert (record.trial, record.attempt, record.params, record.point, record.block) == (
        1,
        1,
        {"x": 1},
        1,
        "b10c",
    )


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


@pytest.mark.parametrize(
    "needs", ["settle", "flush", "claim", "give_back", "beat", "recover", "reconcile", "exit"]
)
def test_an_end_that_was_only_written_is_made_durable_before_anything_needs_it(
    run: LedgerRun, needs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may mark, or follow, what a power cut could take back."""
    ledger = run.ledger()
    one, two = ledger.claim(2)
    happened: list[str] = []
    sync = ledger.journal.sync

    def watched() -> None:
        sync()
        happened.append("durable")

    monkeypatch.setattr(ledger.journal, "sync", watched)
    ledger.finish_soon(end_of(one), lambda: happened.append(f"then, {run.states()[0]}"))
    assert happened == []
    assert ledger.waiting == 1

    given = {"give_back": ([two],), "exit": ("no work left",)}
    getattr(ledger, needs)(*given.get(needs, ()))

    assert happened[:2] == ["durable", "then, running"]
    if needs != "exit":
        ledger.flush()
    assert run.states()[0] == "done"


def test_an_end_that_no_disk_takes_is_not_marked_and_nothing_follows(
    run: LedgerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = run.ledger()
    (one,) = ledger.claim(1)
    followed: list[str] = []
    ledger.finish_soon(end_of(one), lambda: followed.append("checkpoints removed"))

    def broken() -> None:
        raise JournalUnwritableError("the journal cannot be written")

    monkeypatch.setattr(ledger.journal, "sync", broken)
    for _ in range(2):
        with pytest.raises(JournalUnwritableError):
            ledger.flush()

    assert followed == []
    assert run.states()[0] == "running"


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


def test_a_run_whose_lock_let_two_claim_one_attempt_goes_on_without_it(run: LedgerRun) -> None:
    """What a lock that does not exclude leaves in the index: one attempt of two workers."""
    one, two = run.ledger(), run.ledger()
    (claimed,) = one.claim(1)
    with run.layout.claims.open("r+b") as file:
        file.seek(index.entry_offset(claimed.trial.number))
        file.write(index.encode_entry(run.entries()[0]._replace(owner=two.owner)))
    assert one.claiming == "lock"
    one.beat()
    assert one.claiming == "exclusive"
    two.beat()
    assert two.claiming == "exclusive"


def test_an_end_that_another_replaced_at_once_is_superseded(
    run: LedgerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = run.ledger(), run.ledger()
    (claimed,) = one.claim(1)
    one.finish(end_of(claimed, value=0.5))
    other = int(two.finish(end_of(claimed, value=0.25)), 16)
    real = read_entry

    def replaced(layout: Layout, number: int) -> Entry | None:
        entry = real(layout, number)
        return entry._replace(end=other, owner=two.owner) if entry is not None else None

    monkeypatch.setattr(indexed, "read_entry", replaced)
    one.flush()
    accepted = [record for record in run.records("accepted") if isinstance(record, lines.Accepted)]
    assert [(record.end, record.worker) for record in accepted] == [(f"{other:016x}", two.id)]
