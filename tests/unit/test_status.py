"""status: counts, rate, best, workers and failures from the index."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from hpc_search import durable
from hpc_search.config.profile import Profile
from hpc_search.ledger import liveness, submits
from hpc_search.progress import Progress, line
from hpc_search.records import checked, index, journal
from hpc_search.site.queue import Job
from hpc_search.site.shared import Desk
from hpc_search.status import Eta, Rate, Status, Watcher, eta, read_status, recent_rate
from hpc_search.status.estimate import Crew, Length, by_slots, work_left
from hpc_search.status.model import Use
from hpc_search.status.text import cut, duration, flow, plain, screen
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


def test_a_list_that_does_not_verify_leaves_a_status(tmp_path: Path) -> None:
    run = half_done(tmp_path / "run")
    run.layout.claims.unlink()
    durable.write_file(run.layout.mode_exclusive, b"no locks")
    run.layout.retries.mkdir()
    run.layout.retry(1).write_bytes(b"nothing")

    status = status_of(run)

    assert (status.unknown, status.finished, status.state) == (8, 0, "running")
    assert any("retries/0001.json" in note and "fsck" in note for note in status.notes)
    assert screen(status, 80, 24)


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


def running(root: Path, *, heartbeat: float = 60.0) -> tuple[RunBuilder, float]:
    """Return a run whose worker 2 runs trial 3, and the file server's time."""
    run = RunBuilder(root, points=8, folds=0)
    run.plan = msgspec.structs.replace(
        run.plan, search=msgspec.structs.replace(run.plan.search, heartbeat=heartbeat)
    )
    for trial in range(3):
        run.end(trial, 0.1 * trial, worker=2, seconds=20.0)
    run.append(2, journal.Start(trial=3, attempt=1), 1100.0)
    run.mark(3, state=index.RUNNING, attempt=1, owner=2, changed=1100)
    run.write()
    run.layout.cache.mkdir()
    run.layout.heartbeat(worker_id(2)).write_bytes(b"{}")
    return run, durable.now(run.layout.cache)


def age(path: Path, now: float, seconds: float) -> None:
    os.utime(path, (now - seconds, now - seconds))


def aged(run: RunBuilder, now: float, beat: float, journal_: float) -> None:
    age(run.layout.heartbeat(worker_id(2)), now, beat)
    age(run.layout.journal(worker_id(2), 1), now, journal_)


def test_a_worker_without_three_heartbeats_is_silent_and_not_counted(tmp_path: Path) -> None:
    run, now = running(tmp_path / "run")
    watcher = Watcher(run.layout, run.plan, ask=False)
    aged(run, now, 100, 300)
    fresh = watcher.look()
    aged(run, now, 200, 300)
    old = watcher.look()

    assert (fresh.state, fresh.workers[0].state) == ("running", "live")
    assert (old.state, old.workers[0].state, old.eta_seconds) == ("silent", "silent", None)
    assert 199 < old.workers[0].quiet < 260
    assert "no sign of life" in old.text()


def submitted(run: RunBuilder, **fields: Any) -> None:
    """Record a submission to SLURM of which worker 2 is task 3."""
    about: dict[str, Any] = {"number": 1, "token": "example-01234567-0001", "launcher": "slurm", "tasks": 4}
    about |= {"wanted": 4, "outcome": "sent", "profile": Profile(name="site", cpus=2)}
    answer = submits.Answer(**(about | fields))
    run.layout.submit_record(answer.number).write_bytes(checked.encode(answer))
    opening = journal.parse_line(run.lines[worker_id(2)][0][:-1])
    assert isinstance(opening, journal.Open)
    fields = {name: getattr(opening, name) for name in opening.__struct_fields__}
    fields |= {"token": "example-01234567-0001", "seat": "slurm:3:0"}
    run.lines[worker_id(2)][0] = journal.encode_line(journal.Open(**fields))
    run.write()


def job(state: str, tasks: str, count: int = 1, reason: str = "None", start: float = 0.0) -> Job:
    return Job("example-01234567-0001", state, reason, "38", tasks, count, start)


def watched(run: RunBuilder, *jobs: Job) -> Watcher:
    desk = Desk(run.layout, lambda _tokens, _user, _timeout: jobs)
    return Watcher(run.layout, run.plan, desk=desk)


def test_a_worker_whose_task_slurm_does_not_know_is_gone_unless_it_beat_since(tmp_path: Path) -> None:
    run, now = running(tmp_path / "run")
    submitted(run)
    aged(run, now, 100, 300)
    watcher = watched(run, job("RUNNING", "0"))

    assert watcher.look().workers[0].state == "gone"
    aged(run, now + 300, 0, 300)
    assert watcher.look().workers[0].state == "live"
    shutil.rmtree(run.layout.cache)
    aged(run, now, 100, 300)
    assert watched(run, job("SOME_NEW_STATE", "0-7")).look().workers[0].state == "live"
    shutil.rmtree(run.layout.cache)
    assert watched(run, job("PENDING", "3", reason="BeginTime")).look().workers[0].state == "gone"


def test_missing_workers_are_wanted_less_live_less_waiting(tmp_path: Path) -> None:
    run, _ = running(tmp_path / "run")
    submitted(run)
    status = watched(run, job("RUNNING", "3"), job("PENDING", "0", reason="Priority")).look()

    assert [msgspec.structs.astuple(one) for one in status.slots] == [("site", 4, 1, 0, 1, 2)]
    assert "2 workers are missing of profile site" in status.text(200)
    assert status.next == "hpc-search submit RUN"


def test_a_task_that_has_begun_without_a_worker_yet_is_starting_not_missing(tmp_path: Path) -> None:
    run, now = running(tmp_path / "run")
    submitted(run)
    aged(run, now, 0, 0)
    status = watched(run, job("RUNNING", "0-3", count=4)).look()

    assert [msgspec.structs.astuple(one) for one in status.slots] == [("site", 4, 1, 3, 0, 0)]
    assert "missing" not in status.text(200)
    assert "running: 1 worker live, 3 starting, 4 wanted" in status.text(200)
    assert status.next == "hpc-search status RUN --watch"


def test_why_tasks_could_not_start_is_said_of_the_newest_submission(tmp_path: Path) -> None:
    run, _ = running(tmp_path / "run")
    submitted(run)
    run.append(2, journal.Exit(reason="signal SIGTERM"))
    run.write()
    run.layout.submitit.mkdir()
    for token, why in (("example-01234567-0001", "no python"), ("example-01234567-0000", "old")):
        log = run.layout.submitit / f"{token}_0.log"
        log.write_text(f"hpc_search: this task cannot start on n1: {why}\n")
    status = watched(run, job("RUNNING", "0", count=1)).look()

    assert status.state == "starting"
    assert "1 task could not start on n1: no python" in status.notes
    assert not [note for note in status.notes if "old" in note]


def test_what_was_sent_since_slurm_was_asked_is_not_missing(tmp_path: Path) -> None:
    run, now = running(tmp_path / "run")
    submitted(run)
    aged(run, now, 0, 0)
    watcher = watched(run, job("RUNNING", "3"))
    watcher.look()
    newer: dict[str, Any] = {
        "number": 2,
        "token": "example-01234567-0002",
        "launcher": "slurm",
        "tasks": 3,
        "wanted": 4,
    }
    answer = submits.Answer(**newer, outcome="sent", profile=Profile(name="site"))
    run.layout.submit_record(2).write_bytes(checked.encode(answer))
    status = watcher.look()

    assert [msgspec.structs.astuple(one) for one in status.slots] == [("site", 4, 1, 0, 3, 0)]
    assert "missing" not in status.text(200)


def test_the_next_command_of_a_task_that_waits_for_somebody_can_be_typed(tmp_path: Path) -> None:
    run, _ = running(tmp_path / "run")
    submitted(run)
    run.append(2, journal.Exit(reason="signal SIGTERM"))
    run.write()
    for reason, command in (
        ("JobHeldUser", "scontrol release 38"),
        ("JobArrayTaskLimit", "hpc-search submit RUN --set throttle=N"),
        ("PartitionConfig", "hpc-search cancel RUN"),
        ("Priority", ""),
    ):
        shutil.rmtree(run.layout.cache)
        assert watched(run, job("PENDING", "0-3", 4, reason)).look().next == command


def test_what_was_cancelled_since_slurm_was_asked_is_not_starting(tmp_path: Path) -> None:
    run, _ = running(tmp_path / "run")
    submitted(run, wanted=0)
    run.append(2, journal.Exit(reason="signal SIGTERM"))
    run.write()
    status = watched(run, job("RUNNING", "0-3", count=4)).look()

    assert (status.state, status.next) == ("idle", "hpc-search submit RUN")


def test_large_rates_and_hours_are_written_out(tmp_path: Path) -> None:
    status = msgspec.structs.replace(
        status_of(half_done(tmp_path / "run")),
        rate_per_min=1440.4,
        budget=(Use("gpu_hours", 1234.5, 1_000_000.0), Use("hours", 0.0256, 150.5)),
    )

    assert "1,440 trials/min" in status.text()
    assert "1,234 of 1,000,000 GPU-hours, 0.0256 of 150.5 hours" in status.text(1000)
    assert "| 1,440/min" in line(status)


def test_skipped_trials_do_not_make_the_rate(tmp_path: Path) -> None:
    run, now = running(tmp_path / "run")
    aged(run, now, 0, 0)
    for trial in (4, 5, 6, 7):
        run.mark(trial, state=index.PRUNED, attempt=0, owner=0, changed=1110)
    without = read_status(run.layout, run.plan, now=1120).rate_per_min
    run.write()

    assert read_status(run.layout, run.plan, now=1120).rate_per_min == without


def test_a_task_whose_worker_has_left_is_missing_although_slurm_still_shows_it(tmp_path: Path) -> None:
    run, _ = running(tmp_path / "run")
    submitted(run, tasks=1, wanted=1)
    run.append(2, journal.Exit(reason="node failed"))
    run.write()
    status = watched(run, job("RUNNING", "3")).look()

    assert (status.state, status.slots[0].starting, status.slots[0].missing) == ("idle", 0, 1)
    assert status.next == "hpc-search submit RUN"


def test_what_waits_is_explained_with_what_to_do(tmp_path: Path) -> None:
    run, now = running(tmp_path / "run")
    submitted(run)
    aged(run, now, 900, 900)
    status = watched(run, job("PENDING", "0-3", 4, reason="JobHeldUser")).look()

    assert status.state == "waiting"
    assert status.queue is not None
    assert [(one.reason, one.tasks) for one in status.queue.waiting] == [("JobHeldUser", 4)]
    assert status.next == "scontrol release 38"
    assert "held by you" in status.text()


def test_tasks_that_pause_holds_are_released_by_resume(tmp_path: Path) -> None:
    run, _ = running(tmp_path / "run")
    submitted(run)
    run.layout.paused.write_text("paused by alice at noon\n")
    status = watched(run, job("PENDING", "0-3", 4, reason="JobHeldUser")).look()

    assert status.state == "paused"
    assert status.queue is not None
    assert status.queue.waiting[0].next == "`resume RUN`"
    assert "paused by alice at noon" in status.text()

    # As SLURM said before they were held.
    run.layout.queue.unlink()
    for asked in run.layout.cache.glob("asked.*"):
        asked.unlink()
    waiting = watched(run, job("PENDING", "0-3", 4, reason="Resources"))
    assert waiting.look().eta_seconds is None
    run.layout.paused.unlink()
    assert waiting.look().eta_seconds is not None
    run.layout.paused.write_text("paused by alice at noon\n")

    run.layout.stop.write_text("3 trials in a row failed\nTraceback\n")
    status = status_of(run)
    assert (status.state, status.next) == ("paused", "hpc-search resume RUN")
    assert "stopped: 3 trials in a row failed" in status.text()
    assert "scontrol" not in status.text()


def test_time_left_counts_those_that_wait_from_when_slurm_expects_them(tmp_path: Path) -> None:
    one = Length(mean=10.0, error=0.0, median=10.0, high=10.0)
    work = work_left(one, 100, 1.0, 0.0)

    alone = by_slots(work, one, Crew(2), 100)
    known = by_slots(work, one, Crew(2, ((100.0, 2),)), 100)
    unknown = by_slots(work, one, Crew(2, ((None, 2),)), 100)
    nobody = by_slots(work, one, Crew(0, ((600.0, 10),)), 100)

    assert alone == Eta(500.0, 510.0)
    assert known == Eta(300.0, 310.0)
    assert unknown == Eta(250.0, 510.0)
    assert nobody == Eta(700.0, 710.0)
    assert by_slots(work, one, Crew(0), 100) is None
    assert by_slots(work, one, Crew(0, ((None, 10),)), 100) == Eta(100.0, None)


def test_more_slots_than_trials_help_nobody() -> None:
    one = Length(mean=10.0, error=0.0, median=10.0, high=10.0)

    assert by_slots(work_left(one, 2, 1.0, 0.0), one, Crew(50), 2) == Eta(10.0, 20.0)


def test_a_trial_that_is_long_or_says_nothing_is_shown(tmp_path: Path) -> None:
    run, now = running(tmp_path / "run", heartbeat=60.0)
    aged(run, now, 1, 50)
    usual = Watcher(run.layout, run.plan, ask=False).look()
    aged(run, now, 1, 100)
    long = Watcher(run.layout, run.plan, ask=False).look()
    aged(run, now, 1, 1000)
    stuck = Watcher(run.layout, run.plan, ask=False).look()

    assert usual.slow == ()
    assert [(one.trial, one.node, one.stall) for one in long.slow] == [(3, "node-a", False)]
    assert [one.stall for one in stuck.slow] == [True]
    assert "it will be stopped as hung" in stuck.text(200)


def test_a_failure_names_its_log_and_where(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", points=6, folds=0)
    for trial, number in ((1, 20), (2, 30)):
        detail = f"RuntimeError: {number}.00 MiB at 0x7f{number}"
        run.end(trial, state="failed", cause="oom", detail=detail, worker=1, log=(trial, 100), node="n7")
    run.write()
    run.layout.log(worker_id(1)).write_bytes(b"x" * 200)

    (failure,) = status_of(run).failures

    assert (failure.count, failure.trial, failure.node, failure.log_bytes) == (2, 1, "n7", (1, 100))
    assert failure.log == f"workers/{worker_id(1)}/log.txt"
    assert [(node.node, node.failures) for node in status_of(run).nodes] == [("n7", {"oom": 2})]


def test_a_refused_submission_is_told_in_slurms_words(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    run.end(0, 0.5, worker=2)
    submitted(run, outcome="refused", words="Invalid account")
    run.append(2, journal.Exit(reason="x"))
    run.write()
    status = watched(run).look()

    assert status.queue is None
    assert "was refused: Invalid account" in status.text(200)


def test_workers_that_left_for_a_wrong_slice_are_told_by_node(tmp_path: Path) -> None:
    run, _ = running(tmp_path / "run")
    for worker, node in ((5, "n3"), (6, "n3"), (7, "n4")):
        run.append(worker, journal.Note(event="node", text=node))
        run.append(worker, journal.Note(event="slice mismatch", text="expected 1g.10gb, found H200"))
        if worker == 7:
            run.append(worker, journal.Note(event="requeue elsewhere", text="n4"))
        run.append(worker, journal.Exit(reason="slice mismatch"))
    run.write()
    status = status_of(run)

    assert status.mismatches == {"n3": 2, "n4": 1}
    words = "3 workers are missing: slice mismatch on n3 (2), n4 (1); 1 will be tried elsewhere: expected 1g"
    assert words in status.text(300)
    assert "found H200; if no node has it, correct `slice` in the profile" in status.text(300)


def test_workers_for_whom_others_were_sent_are_not_missing(tmp_path: Path) -> None:
    run, _ = running(tmp_path / "run")
    submitted(run)
    run.append(2, journal.Note(event="slice mismatch", text="x"))
    run.append(2, journal.Exit(reason="slice mismatch"))
    run.write()
    assert "1 worker is missing" in status_of(run).text(300)

    submitted(run, number=2, token="example-01234567-0002", profile=Profile(name="another"))
    assert "1 worker is missing" in status_of(run).text(300)

    submitted(run, number=3, token="example-01234567-0003")
    assert "missing: slice mismatch" not in status_of(run).text(300)


def test_what_slurm_was_not_asked_for_yet_waits_and_what_it_never_told_is_unknown(tmp_path: Path) -> None:
    run, now = running(tmp_path / "run")
    submitted(run)
    aged(run, now, 1, 1)
    run.append(2, journal.Exit(reason="x"))
    run.write()
    dead = Watcher(run.layout, run.plan, desk=Desk(run.layout, lambda *_: None)).look()
    shutil.rmtree(run.layout.cache)
    Desk(run.layout, lambda *_: ()).look(["an older token"])
    fresh = watched(run).look()

    assert (dead.state, dead.next) == ("unknown", "")
    assert "SLURM does not answer" in dead.text()
    assert "nothing runs" not in dead.text()
    assert fresh.state == "waiting"
    assert "submitted since SLURM was last asked" in fresh.text()


def test_a_screen_of_24_rows_holds_what_matters(tmp_path: Path) -> None:
    run, now = running(tmp_path / "run")
    submitted(run)
    for trial in range(4, 8):
        words = "abcd"[trial - 4] * 200
        run.end(trial, state="failed", cause="error", detail=f"E: {words}", worker=trial)
    run.write()
    aged(run, now, 1, 1)
    jobs = [job("PENDING", str(n), reason=f"Reason{n}") for n in range(10)]
    status = watched(run, job("RUNNING", "3"), *jobs).look()

    for width, height in ((80, 24), (120, 40), (40, 24), (80, 12), (20, 3)):
        rows = screen(status, width, height, "runs/x")
        assert len(rows) <= height
        assert max(len(row.text) for row in rows) <= max(width, 30)
    text = status.text(80, lines=24)
    assert text.startswith("example")
    assert "running: 5 workers live, 10 tasks waiting in SLURM" in text
    assert "7 of 8 trials" in text


def test_nothing_is_cut_in_a_number() -> None:
    assert cut("trial 12345 done", 12) == "trial..."
    assert cut("x" * 5 + "1234567890", 12) == "xxxxx..."
    assert flow(["123456 done", "234567 failed"], 20) == ["123456 done", "  234567 failed"]
