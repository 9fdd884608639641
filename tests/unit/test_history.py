"""Which end record is a trial's result, and that every line counts once wherever its journal lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.ledger.fold import fold
from hpc_search.records import archive
from hpc_search.records import journal as lines
from hpc_search.records.seal import SealEntry, encode_seal
from tests.ledger_run import NO_PID, LedgerRun, end_of
from tests.run_builder import RunBuilder, worker_id


@pytest.fixture
def built(tmp_path: Path) -> RunBuilder:
    return RunBuilder(tmp_path / "run")


def archived(layout: Layout, number: int, *workers: int, keep: bool = False) -> None:
    """Fold the journals of *workers* into an archive; with *keep* as if killed before removing them."""
    sections = b""
    for worker in map(worker_id, workers):
        for segment, data in history.worker_segments(layout, worker):
            sections += archive.encode_section(worker, layout.journal(worker, segment).name, data)
        if not keep:
            durable.take_away(layout.worker(worker))
    layout.archive_file(number).write_bytes(sections)


def seal(layout: Layout, trial: int, attempt: int, worker: int, end: str, number: int = 1) -> None:
    entry = SealEntry(trial=trial, attempt=attempt, worker=worker_id(worker), end=end)
    layout.seal(number).write_bytes(encode_seal([entry]))


def test_without_acceptance_the_lowest_attempt_and_worker_wins(built: RunBuilder) -> None:
    built.end(0, 0.3, worker=3, attempt=2, accept=False)
    built.end(0, 0.2, worker=2, attempt=1, accept=False)
    built.end(0, 0.1, worker=1, attempt=3, accept=False)
    built.end(1, 0.9, worker=3, attempt=1, accept=False)
    built.end(1, 0.8, worker=2, attempt=1, accept=False)
    found = history.results(built.write())
    assert (found[0].worker, found[0].end.value) == (worker_id(2), 0.2)
    assert (found[1].worker, found[1].end.value) == (worker_id(2), 0.8)


def test_an_accepted_end_wins_over_a_lower_attempt(built: RunBuilder) -> None:
    built.end(0, 0.2, worker=2, attempt=1, accept=False)
    built.end(0, 0.3, worker=3, attempt=2)
    assert history.results(built.write())[0].end.value == 0.3


def test_a_seal_wins_over_an_accepted_end(built: RunBuilder) -> None:
    sealed = built.end(0, 0.2, worker=2, attempt=1, accept=False)
    built.end(0, 0.3, worker=3, attempt=2)
    layout = built.write()
    seal(layout, 0, 1, 2, sealed)
    assert history.results(layout)[0].end.value == 0.2


def test_the_first_seal_wins_over_a_later_one(built: RunBuilder) -> None:
    one = built.end(0, 0.2, worker=2, attempt=1)
    two = built.end(0, 0.3, worker=3, attempt=2)
    layout = built.write()
    seal(layout, 0, 2, 3, two, number=1)
    seal(layout, 0, 1, 2, one, number=2)
    assert history.results(layout)[0].end.value == 0.3


def test_an_accepted_end_whose_record_is_lost_does_not_lose_the_trial(built: RunBuilder) -> None:
    built.end(0, 0.2, worker=2, attempt=2, accept=False)
    built.append(2, lines.Accepted(trial=0, attempt=1, end="f" * 16, worker=worker_id(9)))
    assert history.results(built.write())[0].end.value == 0.2


def test_only_final_ends_are_results(built: RunBuilder) -> None:
    built.end(0, state="pending", cause="preempted")
    built.end(1, state="paused", rung=1)
    built.end(2, state="failed", cause="error")
    built.end(3, state="pruned")
    assert sorted(history.results(built.write())) == [2, 3]


def test_a_damaged_end_record_is_not_a_result(built: RunBuilder) -> None:
    built.end(0, 0.2, worker=1, attempt=1, accept=False)
    layout = built.write()
    path = layout.journal(worker_id(1), 1)
    path.write_bytes(path.read_bytes().replace(b'"value":0.2', b'"value":0.9'))
    assert history.results(layout) == {}


def test_archived_journals_are_read(built: RunBuilder) -> None:
    built.end(0, 0.2, worker=1)
    built.end(1, 0.3, worker=2)
    layout = built.write()
    archived(layout, 1, 1, 2)
    assert history.live_workers(layout) == []
    assert {trial: result.worker for trial, result in history.results(layout).items()} == {
        0: worker_id(1),
        1: worker_id(2),
    }


def test_a_worker_that_is_live_and_archived_is_counted_once(built: RunBuilder) -> None:
    built.end(0, 0.2, worker=1, reports=3)
    layout = built.write()
    alone = [line.data for line in history.lines(layout)]
    archived(layout, 1, 1, keep=True)
    assert [line.data for line in history.lines(layout)] == alone


def test_a_worker_that_stands_in_two_archives_is_counted_once(built: RunBuilder) -> None:
    built.end(0, 0.2, worker=1)
    layout = built.write()
    alone = [line.data for line in history.lines(layout)]
    archived(layout, 1, 1, keep=True)
    archived(layout, 2, 1)
    assert [line.data for line in history.lines(layout)] == alone


@pytest.mark.parametrize("first_archived", [False, True])
def test_lines_repeated_in_a_later_segment_are_counted_once(
    built: RunBuilder, *, first_archived: bool
) -> None:
    built.end(0, 0.2, worker=1)
    layout = built.write()
    worker = worker_id(1)
    rows = layout.journal(worker, 1).read_bytes().splitlines(keepends=True)
    archived(layout, 1, 1) if first_archived else None
    layout.worker(worker).mkdir(exist_ok=True)
    extra = lines.encode_line(lines.Note(n=99, event="later"))
    layout.journal(worker, 2).write_bytes(rows[0] + b"".join(rows[2:]) + extra)
    numbers = [lines.parse_line(line.data).n for line in history.lines(layout)]  # type: ignore[union-attr]
    assert sorted(number for number in numbers if number) == [*range(1, len(rows)), 99]
    assert len(list(history.lines(layout, frozenset({b"end"})))) == 1


def test_a_parameter_called_n_is_not_taken_for_the_number_of_a_line(built: RunBuilder) -> None:
    layout = built.write()
    worker = worker_id(1)
    layout.worker(worker).mkdir()
    opening = lines.encode_line(built._opening(1))
    for segment in (1, 2):
        rows = [
            lines.Claim(n=2 * segment + place, trial=place, attempt=1, params={"n": 1, "k": {"n": 2}})
            for place in range(2)
        ]
        layout.journal(worker, segment).write_bytes(opening + b"".join(map(lines.encode_line, rows)))
    assert len(list(history.lines(layout, frozenset({b"claim"})))) == 4


def test_the_kinds_asked_for_come_and_no_others(built: RunBuilder) -> None:
    built.end(0, 0.2, worker=1, reports=2)
    layout = built.write()
    found = [lines.kind(line.data) for line in history.lines(layout, frozenset({b"end", b"report"}))]
    assert found == [b"report", b"report", b"end"]


def test_places_of_lines_are_where_they_stand(built: RunBuilder) -> None:
    built.end(0, 0.2, worker=1, reports=2)
    layout = built.write()
    data = layout.journal(worker_id(1), 1).read_bytes()
    for line in history.lines(layout):
        assert data[line.offset :].startswith(line.data + b"\n")


def test_folding_changes_no_result_and_leaves_no_directory(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run", trials=4)
    for _ in range(2):
        worker = run.ledger(pid=NO_PID)
        for claimed in worker.claim(2):
            worker.finish(end_of(claimed))
        worker.exit("done")
    before = history.results(run.layout)
    assert fold(run.layout, run.identity(), many=3) == 0
    assert fold(run.layout, run.identity(), many=2) == 2
    assert history.results(run.layout) == before
    assert history.live_workers(run.layout) == []
    assert [path.name for path in run.layout.archive.iterdir()] == ["0001"]


def test_small_archives_are_merged(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run", trials=4)
    for _ in range(3):
        worker = run.ledger(pid=NO_PID)
        worker.finish(end_of(worker.claim()[0]))
        worker.exit("done")
        assert fold(run.layout, run.identity(), many=1) == 1
    assert [path.name for path in run.layout.archive.iterdir()] == ["0003"]
    assert sorted(history.results(run.layout)) == [0, 1, 2]


def test_a_worker_that_lives_or_owns_something_is_not_folded(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run", trials=4)
    living, crashed = run.ledger(), run.mortal()
    living.claim()
    crashed.claim()
    assert fold(run.layout, run.identity(), many=1) == 0
    assert sorted(history.live_workers(run.layout)) == sorted([living.id, crashed.id])
    run.close()


def test_the_log_of_a_folded_worker_is_still_found(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run", trials=4)
    worker = run.ledger(pid=NO_PID)
    run.layout.log(worker.id).write_bytes(b"printed")
    worker.exit("done")
    assert history.log_bytes(run.layout, worker.id) == b"printed"
    fold(run.layout, run.identity(), many=1)
    assert history.log_bytes(run.layout, worker.id) == b"printed"
    assert history.log_bytes(run.layout, "f" * 16) is None
