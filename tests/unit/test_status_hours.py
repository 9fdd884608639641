"""Where the time of workers went, by their journals; each byte read once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hpc_search.config.profile import Profile
from hpc_search.config.slices import Pack, Request, Slice
from hpc_search.ledger import fold, liveness
from hpc_search.records import journal
from hpc_search.status import hours
from hpc_search.status.hours import Sums
from hpc_search.status.slots import share_of
from tests.run_builder import RunBuilder, worker_id


def read(run: RunBuilder, *, keep: bool = False) -> hours.Book:
    return hours.read(run.layout, run.plan.run_id, keep=keep)


def sums_of(run: RunBuilder, worker: int, seen: float = 0.0, *, live: bool = False) -> Sums:
    return hours.sums(hours.workers(read(run))[worker_id(worker)], seen, live=live)


def attempt(
    run: RunBuilder, trial: int, began: float, ended: float, *, saved: float = 0.0, **end: object
) -> None:
    """Write an attempt of worker 1, with a checkpoint at *saved*, and its end where there is one."""
    run.append(1, journal.Start(trial=trial, attempt=1), began)
    if saved:
        run.append(1, journal.Checkpoint(trial=trial, attempt=1, step=1, slot=0), saved)
    if end:
        fields = {"params": {}, "seconds": ended - began, "node": "n1", **end}
        run.append(1, journal.End(trial=trial, attempt=1, **fields), ended)  # type: ignore[arg-type]


def test_the_time_of_a_worker_that_exits_is_split(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    attempt(run, 0, 1010, 1020, state="done", value=1.0)
    attempt(run, 1, 1020, 1030, saved=1028, state="pending", cause="preempted")
    attempt(run, 2, 1030, 1040, state="failed", cause="error", detail="no")
    attempt(run, 3, 1040, 1050, saved=1045, state="pending", cause="oom")
    run.append(1, journal.Exit(reason="no work left"), 1055)
    run.write()

    found = sums_of(run, 1)

    assert (found.spent, found.busy, found.idle) == (55, 40, 15)
    assert (found.interrupted, found.failed, found.lost) == (2, 15, 0)
    assert found.wasted == 32


def test_an_attempt_without_an_end_is_running_or_lost(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    attempt(run, 0, 1010, 0, saved=1030)
    run.write()

    alive, dead = sums_of(run, 1, 1050, live=True), sums_of(run, 1, 1050)

    assert (alive.spent, alive.running, alive.lost, alive.idle) == (50, 40, 0, 10)
    assert (dead.running, dead.lost, dead.idle) == (0, 20, 10)


def test_a_result_that_was_not_taken_is_superseded(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    attempt(run, 0, 1010, 1020, state="done", value=1.0)
    run.append(1, journal.Note(event="superseded", trial=0, attempt=1), 1021)
    run.write()

    assert sums_of(run, 1).superseded == 10


def test_given_back_unstarted_is_no_waste_and_no_failure(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    run.append(1, journal.End(trial=0, attempt=1, state="pending", params={}), 1010)
    run.write()

    row = hours.workers(read(run))[worker_id(1)]
    assert (row.causes, row.failed, row.interrupted) == ({}, 0, 0)


def test_read_in_pieces_is_as_read_at_once(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", points=40)
    for number in range(20):
        began = 1000 + 10 * number
        bad = number % 3 == 0
        state = {"state": "failed", "cause": "error"} if bad else {"state": "done", "value": 1.0}
        attempt(run, number, began, began + 8, saved=began + 4, **state)
    run.append(1, journal.Note(event="late", text="3 s"), 1300)
    run.write()
    whole = run.layout.journal(worker_id(1), 1).read_bytes()
    at_once = read(run)

    run.layout.cache.mkdir()
    for size in range(1, len(whole) + 700, 700):
        run.layout.journal(worker_id(1), 1).write_bytes(whole[:size])
        pieces = read(run, keep=True)

    assert pieces == at_once
    assert at_once.rows[f"{worker_id(1)}/1"].events == {"late": 1}
    assert len(at_once.rows[f"{worker_id(1)}/1"].failures) == 7


def test_what_is_folded_into_the_archive_counts_once(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", points=40)
    for worker in range(1, 6):
        run.end(worker, 0.5, worker=worker)
        run.append(worker, journal.Exit(reason="no work left"))
    run.write()
    run.layout.cache.mkdir()
    before = read(run, keep=True)

    assert fold.fold(run.layout, liveness.this_process(), many=1) == 5
    after = read(run, keep=True)
    run.layout.hours.unlink()

    assert before.rows == after.rows == read(run).rows


def test_a_hole_that_may_still_fill_is_not_passed(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    attempt(run, 0, 1010, 1020, state="done", value=1.0)
    run.write()
    path = run.layout.journal(worker_id(1), 1)
    whole = path.read_bytes()
    at = whole.index(b'{"k":"end"')
    run.layout.cache.mkdir()
    path.write_bytes(whole[:at] + bytes(50) + whole[at + 50 :])
    holed = read(run, keep=True)
    path.write_bytes(whole)

    assert holed.rows[f"{worker_id(1)}/1"].busy == 0
    assert read(run, keep=True).rows[f"{worker_id(1)}/1"].busy == 10


def test_lines_that_a_second_segment_repeats_count_once(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    attempt(run, 0, 1010, 1020, state="done", value=1.0)
    run.write()
    first = run.layout.journal(worker_id(1), 1).read_bytes().splitlines(keepends=True)
    opening = journal.parse_line(first[0][:-1])
    assert isinstance(opening, journal.Open)
    fields = {name: getattr(opening, name) for name in opening.__struct_fields__}
    again = journal.encode_line(journal.Open(**{**fields, "segment": 2, "repeats": 2}))
    exit_line = journal.encode_line(journal.Exit(n=9, t=1030.0, reason="x"))
    second = run.layout.journal(worker_id(1), 2)
    second.write_bytes(b"".join([again, *first[1:3], exit_line]))

    row = hours.workers(read(run))[worker_id(1)]
    assert (row.busy, row.last - row.opened, row.exited) == (10, 30, True)


def test_parameters_and_metrics_may_be_called_as_fields_are(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    named = {"a": 1.0, "seconds": 1000.0, "state": "failed", "z": 1.0}
    run.append(1, journal.Start(trial=0, attempt=1), 1010)
    numbers = {"a": 1.0, "seconds": 1000.0, "z": 1.0}
    run.append(1, journal.Report(trial=0, attempt=1, step=1, metrics=numbers), 1012)
    run.append(1, journal.Checkpoint(trial=0, attempt=1, step=1, slot=0, bytes=9, seconds=3.0), 1015)
    attempt(run, 0, 1010, 1020, state="done", params=named, metrics=named, value=1.0, started=1010.0)
    attempt(run, 1, 1020, 1030, state="failed", params=named, cause="error", detail="no")
    run.write()

    row = hours.workers(read(run))[worker_id(1)]

    assert (row.busy, row.failed, row.causes) == (20, 10, {"error": 1})


def test_a_cache_whose_values_changed_is_made_again(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    attempt(run, 0, 1010, 1020, state="failed", cause="error", detail="no")
    run.write()
    run.layout.cache.mkdir()
    whole = read(run, keep=True)
    content = run.layout.hours.read_bytes()
    key = f"{worker_id(1)}/1"
    for old, new in ((key, "x"), ('{"0":0}', '{"0":9}'), (f'"{key}":[', f'"{key}":[-')):
        assert old.encode() in content
        run.layout.hours.write_bytes(content.replace(old.encode(), new.encode()))

        assert read(run, keep=True) == whole


@pytest.mark.parametrize("content", [b"", b"{", b'{"run_id":"another","rows":{}}', b"[]"])
def test_a_cache_that_is_damaged_or_of_another_run_is_made_again(tmp_path: Path, content: bytes) -> None:
    run = RunBuilder(tmp_path / "run")
    attempt(run, 0, 1010, 1020, state="done", value=1.0)
    run.write()
    run.layout.cache.mkdir()
    run.layout.hours.write_bytes(content)

    assert read(run, keep=True).rows[f"{worker_id(1)}/1"].busy == 10
    shutil.rmtree(run.layout.cache)
    assert read(run, keep=True).rows[f"{worker_id(1)}/1"].busy == 10


def profile(kind: str, gres: str = "", pack: int = 1, cpus: int = 2) -> Profile:
    part = Slice(kind=kind, request=Request(gres=gres), pack=Pack(workers=pack))  # type: ignore[arg-type]
    return Profile(slice=part, cpus=cpus)


def test_an_hour_is_one_of_what_the_worker_holds() -> None:
    assert share_of(profile("cpu"), "cpu", 1) == ("core", 2)
    assert share_of(profile("whole", "gpu:h200:4"), "cuda", 1) == ("GPU", 4)
    assert share_of(profile("whole", "gpu"), "cuda", 1) == ("GPU", 1)
    assert share_of(profile("whole", "gpu:2,tmpdisk:100"), "cuda", 1) == ("GPU", 2)
    assert share_of(profile("packed", "gpu:1", pack=4), "cuda", 1) == ("GPU", 0.25)
    assert share_of(profile("mig", "gpu:1g.10gb:1"), "cuda", 1) == ("slice", 1)
    assert share_of(None, "cuda", 1) == ("GPU", 1)
    assert share_of(None, "cpu", 3) == ("core", 3)
