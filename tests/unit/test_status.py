"""status: counts, rate, best, workers and failures from the index."""

from __future__ import annotations

import io
import os
from pathlib import Path

import msgspec

from hpc_search.ledger import liveness
from hpc_search.progress import Progress
from hpc_search.records import index, journal
from hpc_search.status import Rate, Status, eta, read_status, recent_rate
from hpc_search.status.text import duration, plain
from tests.run_builder import RunBuilder, worker_id


def status_of(run: RunBuilder, now: float = 2000.0) -> Status:
    return read_status(run.layout, run.plan, now=now)


def half_done(root: Path) -> RunBuilder:
    run = RunBuilder(root)
    for trial in range(3):
        run.end(trial, 0.1 * (trial + 1), worker=1)
    run.end(3, state="failed", cause="error", detail="Traceback\nValueError: no\n", worker=2)
    run.append(2, journal.Claim(trial=4, attempt=1, params={}))
    run.mark(4, state=index.RUNNING, attempt=1, owner=2, changed=1010)
    run.mark(5, state=index.CLAIMED, attempt=1, owner=2, changed=1010)
    run.write()
    return run


def test_the_counts_are_those_of_the_index(tmp_path: Path) -> None:
    status = status_of(half_done(tmp_path / "run"))

    assert (status.trials, status.done, status.failed, status.pruned) == (8, 3, 1, 0)
    assert (status.pending, status.claimed, status.running, status.paused) == (2, 1, 1, 0)
    assert (status.causes, status.source, status.unknown) == ({"error": 1}, "index", 0)
    assert (status.finished, status.left) == (4, 4)
    assert status.busy_seconds == 8.0


def test_json_has_the_promised_keys(tmp_path: Path) -> None:
    found = msgspec.json.decode(status_of(half_done(tmp_path / "run")).json())

    wanted = {
        "name",
        "run_id",
        "trials",
        "pending",
        "claimed",
        "running",
        "paused",
        "done",
        "failed",
        "pruned",
    }
    wanted |= {
        "causes",
        "best",
        "rate_per_min",
        "eta_seconds",
        "busy_seconds",
        "workers",
        "failures",
        "stopped",
    }
    assert wanted <= set(found)
    assert found["best"] == {"trial": 2, "point": 2, "value": found["best"]["value"]}


def test_workers_are_those_without_an_exit_and_not_certainly_gone(tmp_path: Path) -> None:
    run = half_done(tmp_path / "run")
    run.append(1, journal.Exit(reason="no work"))
    me = liveness.this_process()
    run.lines[worker_id(3)] = [
        journal.encode_line(
            journal.Open(
                worker=worker_id(3),
                run_id="",
                segment=1,
                host=me.host,
                boot_id=me.boot_id,
                pid=2**22 + 1,
                start_time=1,
            )
        )
    ]
    run.write()

    (worker,) = status_of(run).workers

    assert (worker.id, worker.node, worker.seat, worker.trials) == (worker_id(2), "node-a", "local:2", (4, 5))


def test_failures_are_grouped_by_cause_and_by_what_was_raised(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", points=6, folds=0)
    for trial in (5, 1, 3):
        trace = f'Trace\n  File "t.py", line {trial}, in f\n    raise E\nValueError: bad\nand more words\n'
        run.end(trial, state="failed", cause="error", detail=trace, worker=trial)
    run.end(2, state="failed", cause="oom", detail="CUDA out of memory")
    run.write()

    found = status_of(run).failures

    assert [(f.cause, f.detail, f.count, f.trial) for f in found] == [
        ("error", "ValueError: bad", 3, 1),
        ("oom", "CUDA out of memory", 1, 2),
    ]


def test_failures_without_a_readable_journal_are_still_counted(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    run.mark(0, state=index.FAILED, cause=2, owner=77, end=5, attempt=1)
    run.write()

    (failure,) = status_of(run).failures

    assert (failure.cause, failure.detail, failure.count) == ("oom", "", 1)


def test_the_best_point_is_the_best_complete_one(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", goal="min")
    for trial, value in {0: 0.5, 4: 0.5, 1: 0.4, 5: 0.2, 2: 0.0}.items():
        run.end(trial, value)
    run.write()

    status = status_of(run)

    assert status.best is not None
    assert status.best_point is not None
    assert (status.best.trial, status.best.point, status.best.value) == (2, 2, 0.0)
    assert (status.best_point.point, status.best_point.n) == (1, 2)
    assert abs(status.best_point.mean - 0.3) < 1e-12


def test_a_run_that_nobody_started_says_what_to_do(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    run.write()

    status = status_of(run)

    assert (status.pending, status.best, status.rate_per_min, status.eta_seconds) == (8, None, None, None)
    assert "nothing was started yet" in status.text()
    assert "`submit RUN`" in status.text()


def test_a_missing_or_damaged_index_is_counted_from_the_journals_and_said(tmp_path: Path) -> None:
    run = half_done(tmp_path / "run")
    for content in (None, b"", b"rubbish" * 100):
        run.layout.claims.unlink(missing_ok=True)
        if content is not None:
            run.layout.claims.write_bytes(content)

        status = status_of(run)

        assert (status.source, status.done, status.failed, status.running) == ("journals", 3, 1, 1)
        assert "missing or damaged" in status.text()


def test_a_record_that_does_not_verify_is_unknown_and_the_rest_is_counted(tmp_path: Path) -> None:
    run = half_done(tmp_path / "run")
    data = bytearray(run.layout.claims.read_bytes())
    data[index.entry_offset(1) + 20] ^= 0xFF
    run.layout.claims.write_bytes(data)

    status = status_of(run)

    assert (status.unknown, status.done, status.source) == (1, 2, "index")
    assert "1 unknown" in status.text()


def test_a_stopped_run_shows_why(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    run.write()
    run.layout.stop.write_text("cancelled by alice\n")

    status = status_of(run)

    assert status.stopped == "cancelled by alice"
    assert "cancelled by alice" in status.text()


def test_status_writes_nothing(tmp_path: Path) -> None:
    run = half_done(tmp_path / "run")
    before = {path: os.stat(path).st_mtime_ns for path in (tmp_path / "run").rglob("*")}

    status_of(run)

    assert {path: os.stat(path).st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_text_fits_the_width_and_holds_no_control_characters(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    run.end(0, state="failed", cause="error", detail="\x1b[2J" + "x" * 500)
    run.write()

    text = status_of(run).text(60)

    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 60
    assert "?[2Jxxx" in text
    assert plain("a\x07b") == "a?b"


def test_rate_is_that_of_the_last_ends_and_falls_while_an_active_run_is_silent() -> None:
    ends = list(range(1000, 1100, 10))

    assert recent_rate(ends, None) == Rate(0.1, 9)
    assert recent_rate(ends, 1180.0) == Rate(0.05, 9)
    assert recent_rate([1000], None) is None
    assert recent_rate([1000, 1000, 1000], None) == Rate(2.0, 2)


def test_time_left_is_a_range_that_narrows_with_the_number_of_ends() -> None:
    few, many = eta(Rate(1.0, 3), 100), eta(Rate(1.0, 100), 100)

    assert few is not None
    assert many is not None
    assert few.high is None
    assert many.high is not None
    assert many.low < 100 < many.high
    assert eta(Rate(1.0, 100), 0) is None


def test_durations_are_read_at_a_glance() -> None:
    assert [duration(s) for s in (5, 65, 3700, 90061)] == ["5 s", "1 min 05 s", "1 h 01 min", "1 d 01 h"]


def test_progress_prints_a_plain_line_at_most_every_ten_seconds(tmp_path: Path) -> None:
    run = half_done(tmp_path / "run")
    status = status_of(run)
    out, times = io.StringIO(), iter([0.0, 0.0, 5.0, 11.0, 11.0])

    with Progress(run.plan, out, clock=lambda: next(times)) as progress:
        progress.update(status)
        progress.update(msgspec.structs.replace(status, done=4))
        progress.update(msgspec.structs.replace(status, done=5))

    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("4/8 trials | 3 done, 1 running, 1 failed")
    assert "best trial's val_acc 0.3" in lines[0]


def test_progress_in_a_terminal_is_one_bar(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    run = half_done(tmp_path / "run")
    status = status_of(run)
    out = Terminal()

    with Progress(run.plan, out) as progress:
        progress.update(status)

    assert "4/8" in out.getvalue()
