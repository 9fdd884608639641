"""Following the journals of a run: every record once, whatever happens to the files meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc_search.ledger import history
from hpc_search.ledger.fold import fold
from hpc_search.ledger.follower import Follower
from hpc_search.records import journal as lines
from hpc_search.records.retries import Retried, Retries, encode_retries
from hpc_search.records.seal import SealEntry, encode_seal
from tests.ledger_run import LedgerRun, end_of, flip
from tests.run_builder import RunBuilder, worker_id


@pytest.fixture(params=["lock", "exclusive"])
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LedgerRun]:
    made = LedgerRun(tmp_path / "run", trials=12, claiming=request.param)
    yield made
    made.close()


@pytest.fixture
def follower(run: LedgerRun) -> Follower:
    return Follower(run.layout, run.plan)


def test_a_claimed_trial_is_live_and_an_ended_one_has_its_end(run: LedgerRun, follower: Follower) -> None:
    ledger = run.ledger()
    (first,) = ledger.claim()
    assert follower.refresh() == {0}
    assert follower.live == {0}

    ledger.report(0, 1, 3, {"acc": 0.25})
    ledger.finish(end_of(first, value=0.5))
    ledger.claim()
    assert follower.refresh() == {0, 1}

    assert {trial: end.value for trial, end in follower.ends.items()} == {0: 0.5}
    assert follower.live == {1}
    assert follower.reports(0) == [(3, {"acc": 0.25})]
    assert follower.refresh() == set()


def test_a_trial_that_was_given_back_is_not_live_and_one_at_a_rung_is_paused(
    run: LedgerRun, follower: Follower
) -> None:
    ledger = run.ledger()
    (first,) = ledger.claim()
    (second,) = ledger.claim()
    ledger.give_back([first])
    ledger.finish(end_of(second, "paused", rung=1))
    follower.refresh()

    assert follower.live == set()
    assert [end.rung for end in follower.paused.values()] == [1]
    assert follower.ends == {}


def test_a_line_is_read_once_it_is_whole(run: LedgerRun, follower: Follower) -> None:
    ledger = run.ledger()
    (claimed,) = ledger.claim()
    follower.refresh()
    path = run.layout.journal(ledger.id, 1)
    before = path.read_bytes()
    ledger.finish(end_of(claimed))
    whole = path.read_bytes()
    for size in range(len(before), len(whole), 37):
        path.write_bytes(whole[:size])
        assert follower.refresh() == set()
    path.write_bytes(whole)

    assert follower.refresh() == {0}
    assert list(follower.ends) == [0]


def test_a_hole_that_fills_later_is_read_then_and_what_follows_it_at_once(tmp_path: Path) -> None:
    made = RunBuilder(tmp_path / "run", points=6, folds=0)
    for trial in range(6):
        made.end(trial, float(trial))
    layout = made.write()
    path = layout.journal(worker_id(1), 1)
    whole = path.read_bytes()
    # All of the second trial's end record, and a part of the line after it.
    start = whole.find(b'{"k":"end","n":7,')
    end = whole.find(b"\n", start) + 20
    path.write_bytes(whole[:start] + bytes(end - start) + whole[end:])
    follower = Follower(layout, made.plan)
    follower.refresh()
    assert sorted(follower.ends) == [0, 2, 3, 4, 5]

    # In place, with the size that it had: another client's pages arrive.
    with path.open("r+b") as file:
        file.write(whole)
    assert follower.refresh() == {1}
    assert sorted(follower.ends) == [0, 1, 2, 3, 4, 5]
    assert follower.refresh() == set()


def test_a_damaged_line_costs_only_itself(run: LedgerRun, follower: Follower) -> None:
    ledger = run.ledger()
    for claimed in [ledger.claim()[0] for _ in range(3)]:
        ledger.finish(end_of(claimed))
    path = run.layout.journal(ledger.id, 1)
    place = path.read_bytes().find(b'"trial":1,"attempt":1,"state"')
    flip(path, place + 3)

    follower.refresh()
    assert sorted(follower.ends) == [0, 2]


def test_what_a_later_segment_repeats_counts_once_and_what_only_it_has_is_found(
    run: LedgerRun, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = run.ledger()
    (claimed,) = ledger.claim()
    ledger.report(0, 1, 0, {"acc": 0.1})
    follower.refresh()
    real = os.fdatasync
    calls = iter([OSError(5, "Input/output error")])

    def fdatasync(fd: int) -> None:
        if (error := next(calls, None)) is not None:
            raise error
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    # What was appended to the first segment never reaches the disk.
    first = run.layout.journal(ledger.id, 1)
    size = first.stat().st_size
    ledger.finish(end_of(claimed))
    os.truncate(first, size)
    assert run.layout.journal(ledger.id, 2).exists()

    assert follower.refresh() == {0}
    assert follower.refresh() == set()
    assert list(follower.ends) == [0]
    assert follower.reports(0) == [(0, {"acc": 0.1})]


def test_journals_may_be_folded_while_they_are_followed(run: LedgerRun, follower: Follower) -> None:
    first, second, unseen = (run.ledger() for _ in range(3))
    for ledger in (first, second):
        ledger.finish(end_of(ledger.claim()[0]))
    follower.refresh()
    second.finish(end_of(second.claim()[0]))
    unseen.finish(end_of(unseen.claim()[0]))
    for ledger in (first, second, unseen):
        ledger.exit("done")
    reader = run.ledger()
    assert fold(run.layout, reader.me, many=1) == 3
    assert history.live_workers(run.layout) == [reader.id]

    # That the others were accepted is new as well.
    assert follower.refresh() >= {2, 3}
    assert sorted(follower.ends) == [0, 1, 2, 3]

    # Archives are merged as they come.
    reader.finish(end_of(reader.claim()[0]))
    reader.exit("done")
    assert fold(run.layout, run.ledger().me, many=1) == 1
    assert follower.refresh() == {4}
    assert sorted(follower.ends) == [0, 1, 2, 3, 4]


def test_a_worker_that_was_folded_as_gone_and_wakes_is_followed_on(
    run: LedgerRun, follower: Follower
) -> None:
    zombie = run.mortal()
    (claimed,) = zombie.claim()
    follower.refresh()
    other = run.ledger()
    other.recover()
    (again,) = other.claim(only=0)
    assert fold(run.layout, other.me, many=1) == 1
    follower.refresh()
    assert follower.live == {0}

    # Its journal has no name any more: it goes on with another segment.
    zombie.finish(end_of(claimed, value=0.1))
    assert run.layout.journal(zombie.id, 2).exists()
    assert follower.refresh() == {0}
    other.finish(end_of(again, value=0.2))
    other.flush()
    follower.refresh()

    assert follower.ends[0] == history.results(run.layout)[0].end
    assert follower.live == set()


def test_a_new_follower_sees_what_one_that_followed_saw(run: LedgerRun, follower: Follower) -> None:
    for number in range(9):
        ledger = run.ledger()
        (claimed,) = ledger.claim()
        ledger.report(number, 1, 1, {"acc": number / 10})
        follower.refresh()
        if number % 3:
            state, cause = ("done", "") if number % 2 else ("failed", "error")
            ledger.finish(end_of(claimed, state, cause=cause))
        if number % 4 == 0:
            ledger.exit("done")
            fold(run.layout, ledger.me, many=1)
    follower.refresh()
    other = Follower(run.layout, run.plan)
    other.refresh()

    assert (other.ends, other.live, other.paused) == (follower.ends, follower.live, follower.paused)
    assert [other.reports(number) for number in range(9)] == [follower.reports(number) for number in range(9)]
    assert {trial: one.checksum for trial, one in history.results(run.layout).items()} == {
        trial: one.checksum for trial, one in follower.results.items()
    }


def test_of_two_ends_the_lower_attempt_counts_until_another_one_was_accepted(tmp_path: Path) -> None:
    made = RunBuilder(tmp_path / "run", points=2, folds=0)
    made.end(0, 0.2, worker=2, attempt=2, accept=False)
    follower = Follower(made.write(), made.plan)
    follower.refresh()
    assert follower.ends[0].value == 0.2
    # A zombie's end comes late.
    made.end(0, 0.1, worker=1, attempt=1, accept=False)
    made.write()
    follower.refresh()
    assert follower.ends[0].value == 0.1
    made.append(2, lines.Accepted(trial=0, attempt=2, end=follower_checksum(made, 2), worker=worker_id(2)))
    made.write()
    assert follower.refresh() == {0}
    assert follower.ends[0].value == 0.2


def test_a_seal_outranks_what_was_accepted(tmp_path: Path) -> None:
    made = RunBuilder(tmp_path / "run", points=2, folds=0)
    early = made.end(0, 0.1, worker=1, attempt=1, accept=False)
    made.end(0, 0.2, worker=2, attempt=2)
    layout = made.write()
    follower = Follower(layout, made.plan)
    follower.refresh()
    assert follower.ends[0].value == 0.2
    layout.seal(1).write_bytes(encode_seal([SealEntry(trial=0, attempt=1, worker=worker_id(1), end=early)]))

    follower.refresh()
    assert follower.ends[0].value == 0.1


def test_a_failure_that_was_taken_back_counts_no_more_and_the_next_attempt_does(
    run: LedgerRun, follower: Follower
) -> None:
    ledger = run.ledger()
    (claimed,) = ledger.claim()
    checksum = ledger.finish(end_of(claimed, "failed", cause="error"))
    ledger.flush()
    follower.refresh()
    assert follower.ends[0].state == "failed"
    run.layout.retries.mkdir()
    taken_back = Retried(trial=0, attempt=1, worker=ledger.id, end=checksum)
    batch = Retries(first=128, words="by hand", trials=(taken_back,))
    run.layout.retry(1).write_bytes(encode_retries(batch))

    assert follower.refresh() == {0}
    assert (follower.ends, follower.live) == ({}, set())


def test_without_reports_none_is_kept(run: LedgerRun) -> None:
    follower = Follower(run.layout, run.plan, reports=False)
    ledger = run.ledger()
    ledger.claim()
    ledger.report(0, 1, 3, {"acc": 0.25})
    follower.refresh()
    assert follower.reports(0) == []
    assert follower.live == {0}


def test_where_nothing_changed_no_file_is_opened(run: LedgerRun, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(4):
        ledger = run.ledger()
        ledger.finish(end_of(ledger.claim()[0]))
    follower = Follower(run.layout, run.plan)
    for _ in range(3):
        follower.refresh()
    opened: list[object] = []
    real = Path.open

    def opening(self: Path, *args: object, **more: object) -> object:
        opened.append(self)
        return real(self, *args, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", opening)
    assert follower.refresh() == set()
    assert opened == []
    ledger.report(3, 1, 1, {"acc": 1.0})
    assert follower.refresh() == {3}
    assert opened == [run.layout.journal(ledger.id, 1)]


def test_journals_of_another_run_are_passed_over(run: LedgerRun, follower: Follower) -> None:
    ledger = run.ledger()
    ledger.finish(end_of(ledger.claim()[0]))
    path = run.layout.journal(ledger.id, 1)
    first, rest = path.read_bytes().split(b"\n", 1)
    opening = lines.parse_line(first)
    assert isinstance(opening, lines.Open)
    fields = {name: getattr(opening, name) for name in opening.__struct_fields__} | {"run_id": "another"}
    path.write_bytes(lines.encode_line(lines.Open(**fields)) + rest)

    assert follower.refresh() == set()


def follower_checksum(made: RunBuilder, worker: int) -> str:
    """Return the checksum of the last end record of *worker*."""
    (*_, line) = [line for line in made.lines[worker_id(worker)] if lines.kind(line) == b"end"]
    return line[-19:-3].decode()
