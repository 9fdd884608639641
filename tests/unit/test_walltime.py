"""How long a job may still run: only the scheduler's own times and our monotonic clock."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from hpc_search.ledger.seats import REQUEUE
from hpc_search.worker.departure import requeue, requeues
from hpc_search.worker.walltime import Walltime, parse_duration, parse_job, requeue_this_job
from tests.ledger_run import LedgerRun

VARIABLES = ("SLURM_JOB_ID", "SLURM_JOB_START_TIME", "SLURM_JOB_END_TIME")
SHOWN = "JobId=5 JobName=x\n   RunTime=00:01:40 TimeLimit=01:00:00 TimeMin=N/A\n"


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def answer(monkeypatch: pytest.MonkeyPatch, result: object) -> list[list[str]]:
    """Let scontrol answer *result*; return the calls."""
    calls: list[list[str]] = []

    def run(arguments: list[str], **_: Any) -> object:
        calls.append(arguments)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def shown(text: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, stdout=text, stderr="")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("01:40", 100.0),
        ("01:00:00", 3600.0),
        ("2-03:04:05", 2 * 86400 + 3 * 3600 + 4 * 60 + 5.0),
        ("UNLIMITED", None),
        ("Partition_Limit", None),
        ("INVALID", None),
        ("", None),
        ("1:2:3:4", None),
    ],
)
def test_durations_of_slurm_are_read(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


def test_a_shown_job_gives_limit_and_run_time() -> None:
    assert parse_job(SHOWN) == (3600.0, 100.0)
    assert parse_job(SHOWN.replace("01:00:00", "UNLIMITED")) is None
    assert parse_job("") is None


def test_outside_a_job_nothing_ever_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answer(monkeypatch, shown(SHOWN))
    found = Walltime.of_this_job()
    assert (found.limit, found.left(), found.margin, calls) == (None, float("inf"), 0.0, [])


def test_the_times_in_the_environment_are_used_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answer(monkeypatch, shown(SHOWN))
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    # Times of the controller, whose clock need not be ours.
    monkeypatch.setenv("SLURM_JOB_START_TIME", "1000")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "4600")
    found = Walltime.of_this_job()
    assert found.limit == 3600.0
    assert 3600 - 120 - 5 < found.left() <= 3600 - 120
    assert calls == []


@pytest.mark.parametrize(("start", "end"), [("", ""), ("x", "4600"), ("4600", "1000"), ("1000", "Unknown")])
def test_times_that_make_no_sense_are_asked_for_once(
    monkeypatch: pytest.MonkeyPatch, start: str, end: str
) -> None:
    calls = answer(monkeypatch, shown(SHOWN))
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SLURM_JOB_START_TIME", start)
    monkeypatch.setenv("SLURM_JOB_END_TIME", end)
    found = Walltime.of_this_job()
    assert (found.limit, len(calls)) == (3600.0, 1)
    assert found.ends - time.monotonic() <= 3500.0


@pytest.mark.parametrize(
    "result",
    [
        shown("slurm_load_jobs error", 1),
        shown("?"),
        FileNotFoundError(),
        subprocess.TimeoutExpired("scontrol", 15),
    ],
)
def test_a_controller_that_does_not_answer_means_no_limit(
    monkeypatch: pytest.MonkeyPatch, result: object
) -> None:
    answer(monkeypatch, result)
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    assert Walltime.of_this_job().limit is None


def test_a_short_job_keeps_a_tenth_for_its_end() -> None:
    assert Walltime(600.0, 0.0).margin == 60.0
    assert Walltime(100_000.0, 0.0).margin == 120.0


def test_a_requeue_is_asked_for_only_inside_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answer(monkeypatch, shown(""))
    assert not requeue_this_job()
    assert calls == []
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    assert requeue_this_job()
    assert calls == [["scontrol", "requeue", "5"]]


@pytest.mark.parametrize(
    "result", [shown("", 1), FileNotFoundError(), subprocess.TimeoutExpired("scontrol", 15)]
)
def test_a_refused_requeue_is_no_error(monkeypatch: pytest.MonkeyPatch, result: object) -> None:
    answer(monkeypatch, result)
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    assert not requeue_this_job()


def test_a_trial_that_does_not_stop_is_killed_in_the_last_quarter_of_the_margin() -> None:
    walltime = Walltime(3600.0, time.monotonic() + 100.0)
    assert -20.1 < walltime.left() <= -20.0
    assert 69.9 < walltime.left_to_kill() <= 70.0
    assert Walltime(None, float("inf")).left_to_kill() == float("inf")


# -- running again
def test_a_requeue_that_is_refused_is_tried_once_more() -> None:
    for answers, agreed, pauses in (([True], True, 0), ([False, True], True, 1), ([False, False], False, 1)):
        waited: list[float] = []
        left = iter(answers)
        assert requeue(lambda left=left: next(left), waited.append) is agreed  # type: ignore[misc]
        assert len(waited) == pauses


def test_requeues_are_counted_by_seat_over_all_incarnations(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run")
    for seat, asks in (("slurm:1:0", True), ("slurm:1:0", False), ("slurm:2:0", True), ("slurm:1:0", True)):
        ledger = run.ledger(token="t", seat=seat)
        if asks:
            ledger.note(REQUEUE)
        ledger.exit("x")
    assert requeues(run.layout, "t", "slurm:1:0") == 2
    assert requeues(run.layout, "t", "slurm:2:0") == 1
    assert requeues(run.layout, "other", "slurm:1:0") == 0
    run.close()
