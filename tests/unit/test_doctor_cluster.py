"""The profile that follows from what was found on a cluster, and what the measurements mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hpc_search.config.profile import Profile, parse_profile
from hpc_search.config.slices import CHECKS, Slice
from hpc_search.doctor.cluster import choice, follow, outcome
from hpc_search.doctor.cluster import rows as of_cluster
from hpc_search.doctor.cluster.found import (
    Account,
    Asked,
    Bounds,
    Cluster,
    Event,
    Look,
    Permission,
    Timing,
    Tried,
    Wish,
)
from hpc_search.doctor.cluster.rows import cluster_rows
from hpc_search.doctor.report import Row
from hpc_search.errors import UsageError
from hpc_search.search.cluster import ClusterPlan, place
from hpc_search.site.config import Config
from hpc_search.site.machines import read_machines
from hpc_search.site.partitions import Partition
from hpc_search.slices.observed import Device, Observed

SETTINGS = {
    "SLURM_VERSION": "24.11.1", "ClusterName": "site", "PreemptType": "preempt/partition_prio",
    "PreemptMode": "REQUEUE", "KillWait": "30 sec", "JobRequeue": "1", "AuthInfo": "(null)",
    "ProctrackType": "proctrack/cgroup", "SelectTypeParameters": "CR_CORE_MEMORY", "SlurmdTimeout": "300 sec",
    "AccountingStorageType": "accounting_storage/slurmdbd", "MinJobAge": "300 sec",
}  # fmt: skip
MACHINES = "cpu|8|32|128000|idle|(null)|(null)\ngpu|2|64|512000|mix|(null)|gpu:a100:4(S:0-1),shard:a100:16\n"
LOOK = Look(
    node="n1", age=0.5, worker=0.2, worker_code=0, same=True, writable="", umask=0o77, cores=1,
    scontrol="", sbatch="", times=True, restarts=0,
)  # fmt: skip
TIMING = Timing(
    asked=15, warning=31.0, warned=30.0, limit=61.0, killed=29.8, cancelled=0.2, cancel_killed=30.1,
    requeued=True, pending=121.0, restarts=1,
)  # fmt: skip
RAN = Tried(outcome="ran", wait=2.0, signals=True, look=LOOK, timing=TIMING)


def partition(name: str, **changes: Any) -> Partition:
    return Partition(name=name, **{"nodes": 8, "cpus": 256, "preempt": "OFF", **changes})


def asked(*partitions: Partition, **changes: Any) -> Asked:
    found = Asked(
        settings=SETTINGS,
        partitions=partitions or (partition("cpu", default=True), partition("gpu", max_time=120)),
        machines=read_machines(MACHINES),
        accounts=(Account("ml", qos="normal"), Account("physics")),
        default_account="ml",
        qoses=("normal", "long"),
        user="me",
        groups=("users",),
    )
    return msgspec.structs.replace(found, **changes)


def chosen(found: Asked | None = None, bounds: Bounds | None = None, **wish: str) -> Profile:
    return choice.choose(found or asked(), bounds or Bounds(), Wish(**wish)).profile


def refused(found: Asked | None = None, **wish: str) -> str:
    with pytest.raises(UsageError) as error:
        choice.choose(found or asked(), Bounds(), Wish(**wish))
    return error.value.message


# -- the profile


def test_the_default_partition_and_account_are_taken() -> None:
    found = chosen()

    assert (found.partition, found.account, found.qos) == ("cpu", "ml", "")
    assert (found.time, found.cpus, found.mem, found.workers) == (0, 1, "4000M", 8)
    assert (found.max_array, found.max_submit) == (0, 0)


def test_a_slice_takes_the_partition_that_has_it_and_its_share_of_cores() -> None:
    found = chosen(gres="gpu:a100:1")

    assert (found.partition, found.slice.kind, found.cpus, found.mem) == ("gpu", "whole", 16, "128000M")
    assert found.time == 0


def test_workers_are_no_more_than_slices_or_running_jobs() -> None:
    assert chosen(gres="gpu:a100:2").workers == 4
    assert chosen(bounds=Bounds(running=3, running_rule="QOSMaxJobsPerUserLimit")).workers == 3


def test_only_unusual_limits_are_written() -> None:
    assert chosen(bounds=Bounds(array=1000)).max_array == 0
    found = chosen(bounds=Bounds(array=100, submit=120, submit_rule="QOSMaxSubmitJobPerUserLimit"))
    assert (found.max_array, found.max_submit) == (100, 120)


def test_an_account_that_the_partition_takes_is_found() -> None:
    found = asked(partition("cpu", default=True, accounts=("physics",)))

    assert chosen(found).account == "physics"


def test_a_default_partition_that_refuses_is_passed_over() -> None:
    found = asked(partition("cpu", default=True, groups=("staff",)), partition("gpu"))

    assert chosen(found).partition == "gpu"


def test_memory_stays_within_the_partition_and_is_left_out_where_it_is_not_allocated() -> None:
    assert chosen(asked(partition("cpu", default=True, most_mem_per_cpu=2000))).mem == "2000M"
    settings = {**SETTINGS, "SelectTypeParameters": "CR_CORE"}
    assert chosen(asked(settings=settings)).mem == ""


def test_a_site_that_says_nothing_gives_a_profile_of_its_defaults() -> None:
    found = chosen(Asked(settings={"ClusterName": "site"}), partition="cpu", account="ml")

    assert (found.account, found.mem, found.name) == ("ml", "", "site")


def test_all_that_is_unknown_is_said_at_once() -> None:
    said = refused(partition="cpuu", account="mll", qos="lnog", gres="gpu:h100:1")

    assert [word in said for word in ("'cpuu'", "'mll'", "'lnog'", "'gpu:h100:1'")] == [True] * 4
    assert "did you mean 'cpu'" in said
    assert '"gpu:a100:1"' in said


def test_a_partition_that_cannot_be_used_is_refused_with_the_reason() -> None:
    assert "groups staff" in refused(asked(partition("cpu", groups=("staff",))), partition="cpu")
    assert "partition cpu has no slice 'gpu:1'" in refused(partition="cpu", gres="gpu:1")


def test_the_written_profile_reads_back_and_says_where_each_value_comes_from() -> None:
    bounds = Bounds(array=100, submit=120, submit_rule="QOSMaxSubmitJobPerUserLimit")
    made = choice.choose(asked(), bounds, Wish(gres="shard:1"))
    made = choice.measured(made, asked(), RAN)

    text = choice.text(made, ("Cluster site.", ""))

    assert parse_profile(text.encode(), "p.yaml") == made.profile
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "name:"))]
    assert all("  # " in line for line in lines), text
    assert "measured" in next(line for line in lines if line.startswith("requeue:"))


def test_what_was_measured_changes_the_profile() -> None:
    def after(**changes: Any) -> Profile:
        tried = msgspec.structs.replace(RAN, **changes)
        return choice.measured(choice.choose(asked(), Bounds(), Wish()), asked(), tried).profile

    assert after().signal_delay == 120
    assert after(timing=msgspec.structs.replace(TIMING, warning=55.0, warned=6.0)).signal_delay == 127
    assert after(timing=Timing(requeue_words="not permitted")).requeue is False
    assert after().nodes_submit is True
    assert after(look=msgspec.structs.replace(LOOK, sbatch="sbatch is not on PATH")).nodes_submit is False


# -- rows


def rows(found: Asked, name: str, tried: Tried = RAN) -> dict[str, Row]:
    cluster = Cluster(asked=found, bounds=Bounds(), tried=tried)
    both = (*cluster_rows(cluster, name, Wish()), *outcome.tried_rows(tried, found.config))
    return {row.subject: row for row in both}


@pytest.mark.parametrize(
    ("preempt", "grace", "settings", "subject", "status", "words"),
    [
        ("REQUEUE", 0, {}, "grace", "NOTE", "save_interval bounds what is lost"),
        ("REQUEUE", 60, {}, "grace", "PASS", "workers save on TERM"),
        ("REQUEUE", 0, {"SlurmctldParameters": "preempt_send_user_signal"}, "grace", "PASS", "warned"),
        ("CANCEL", 60, {}, "preemption", "NOTE", "`submit` starts the missing workers"),
        ("SUSPEND,GANG", 0, {}, "preemption", "NOTE", "no result changes"),
        ("OFF", 0, {}, "preemption", "PASS", "not preempted"),
    ],
)
def test_preemption_is_judged_by_what_it_costs(
    preempt: str, grace: int, settings: dict[str, str], subject: str, status: str, words: str
) -> None:
    found = asked(partition("cpu", preempt=preempt, grace=grace), settings={**SETTINGS, **settings})
    row = rows(found, "cpu")[subject]
    assert (row.status, words in row.meaning) == (status, True), row


@pytest.mark.parametrize(
    ("settings", "subject", "words"),
    [
        ({"ProctrackType": "proctrack/linuxproc"}, "end of a job", "run twice"),
        ({"AccountingStorageType": "accounting_storage/none"}, "accounting", "no sacct"),
        ({"ConstrainRAMSpace": "no"}, "memory", "not stopped"),
        ({"MinJobAge": "10 sec"}, "ended jobs", "looked up"),
        ({"SlurmdTimeout": "3600 sec"}, "dead nodes", "requeued after that"),
    ],
)
def test_what_a_site_lacks_is_attended_to(settings: dict[str, str], subject: str, words: str) -> None:
    row = rows(asked(settings={**SETTINGS, **settings}), "cpu")[subject]
    assert (row.status, words in row.meaning) == ("NOTE", True), row
    assert rows(asked(), "cpu")["end of a job"].status == "PASS"


def test_measured_times_are_held_against_the_configured_ones() -> None:
    good = rows(asked(), "cpu")
    assert [good[name].status for name in ("scancel", "at the limit of 60 s", "requeue by itself")] == [
        "PASS"
    ] * 3
    short = msgspec.structs.replace(RAN, timing=msgspec.structs.replace(TIMING, cancel_killed=5.0))
    assert rows(asked(), "cpu", short)["scancel"].status == "NOTE"
    late = msgspec.structs.replace(RAN, timing=msgspec.structs.replace(TIMING, warning=55.0, warned=6.0))
    assert rows(asked(), "cpu", late)["warning before the end"].status == "NOTE"


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ("slurmstepd-n1: error: execve(): /opt/py/bin/python: No such file or directory", "interpreter /py"),
        ("slurmstepd: error: execve(): /site/env/bin/python3: Permission denied", "interpreter /py"),
        ("/py: No module named hpc_search", "does not find hpc_search"),
        ("JobState=FAILED Reason=JobLaunchFailure ExitCode=0:53", "do not see /scratch/me"),
        ("slurmstepd: error: couldn't chdir to `/x': No such file or directory", "do not see /scratch/me"),
        ("JobState=FAILED ExitCode=1:0", "without a word"),
    ],
)
def test_the_end_of_a_task_without_a_record_is_translated(words: str, meaning: str) -> None:
    said, advice = outcome.failure(words, python="/py", directory="/scratch/me")
    assert meaning in said
    assert advice


def test_a_node_that_shows_another_directory_is_a_problem() -> None:
    look = msgspec.structs.replace(LOOK, same=False, worker_code=1)
    assert len(outcome.problems(msgspec.structs.replace(RAN, look=look), Slice())) == 2
    assert outcome.problems(RAN, Slice()) == ()


def with_gpu(**seen: Any) -> tuple[Profile, tuple[str, ...]]:
    """Return the profile and the problems where a task got one GPU and saw this of it."""
    look = msgspec.structs.replace(LOOK, seen=Observed(visible=("0",), **seen))
    tried = msgspec.structs.replace(RAN, look=look)
    made = choice.measured(choice.choose(asked(), Bounds(), Wish(gres="gpu:a100:1")), asked(), tried)
    return made.profile, outcome.problems(tried, made.profile.slice)


def test_ways_of_looking_that_are_not_possible_are_left_out() -> None:
    profile, found = with_gpu(looked=("environment",), unseen={"nvml": "no driver", "torch": "without CUDA"})

    assert profile.slice.expect.checks == ("environment", "canary")
    assert not found


def test_a_torch_that_cannot_use_a_gpu_that_is_there_is_a_problem() -> None:
    profile, found = with_gpu(
        looked=("environment", "nvml"),
        devices=(Device(name="NVIDIA A100"),),
        unseen={"torch": "without CUDA"},
    )
    assert profile.slice.expect.checks == CHECKS
    assert "without CUDA" in found[0]


def test_a_gpu_that_the_task_did_not_get_is_a_problem() -> None:
    made = choice.choose(asked(), Bounds(), Wish(gres="gpu:a100:1")).profile
    assert "CUDA_VISIBLE_DEVICES is not set" in outcome.problems(RAN, made.slice)[0]


def test_what_slurm_did_not_say_is_unknown_and_no_failure() -> None:
    found = rows(asked(unknown=("accounts and QOS",), accounts=(), default_account=""), "cpu")
    assert found["accounts and QOS"].status == "n/a"
    assert "jobs" not in found
    assert not [row for row in found.values() if row.status == "FAIL"]


# -- following


def record(directory: Path, name: str, *events: tuple[str, float]) -> None:
    lines = [msgspec.json.encode(Event(what=what, at=at)) + b"\n" for what, at in events]
    (directory / f"{name}.jsonl").write_bytes(b"".join(lines) + b'{"what": "ali')


def test_times_are_read_from_the_records_of_the_tasks(tmp_path: Path) -> None:
    beats = [("alive", 61.5 + tenth / 10) for tenth in range(45)]
    record(tmp_path, "limit-0", ("start", 0.5), ("SIGUSR2", 31.0), ("alive", 32.0), ("SIGTERM", 61.4), *beats)
    record(tmp_path, "requeue-0", ("start", 0.4), ("requeue", 0.6), ("SIGTERM", 0.7))
    record(tmp_path, "requeue-1", ("start", 0.4))
    record(tmp_path, "cancel-0", ("start", 0.4), ("SIGTERM", 1.0), ("SIGCONT", 1.0), ("alive", 5.6))
    records = follow.Records(tmp_path)
    records.read()

    found = follow.timing(follow.Followed("ran", "", 1.0, records, None), asked=15)

    assert (found.warning, found.warned, found.limit, found.killed) == (31.0, 30.4, 61.4, 4.5)
    assert (found.cancel_killed, found.restarts, found.requeued) == (4.6, 1, True)


def test_an_array_that_never_starts_is_given_up_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "START_S", 0.0)
    calls = follow.Calls(lambda: follow.Queue(3, "Priority"), lambda: None)

    found = follow.follow(tmp_path, calls, signals=False, kill_wait=5)

    assert (found.outcome, found.words) == ("not started", "Priority")


def test_an_array_that_ended_without_a_record_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_ASK_S", 0.0)
    calls = follow.Calls(lambda: follow.Queue(0), lambda: None)

    assert follow.follow(tmp_path, calls, signals=False, kill_wait=5).outcome == "failed"


def test_settings_that_slurm_does_not_say_give_no_row() -> None:
    found = asked(settings={})
    assert "TERM to KILL" not in rows(found, "cpu")
    assert Config({}).number("KillWait") is None


def test_a_profile_that_is_there_keeps_its_name_and_the_new_one_gets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lab-low.yaml", "lab-low-2.yaml"):
        Path(name).touch()

    assert place(ClusterPlan(wish=Wish()), "lab-low") == Path("lab-low-3.yaml")
    assert place(ClusterPlan(wish=Wish(), force=True), "lab-low") == Path("lab-low.yaml")
    assert place(ClusterPlan(wish=Wish(), out=Path("x.yaml")), "lab-low") == Path("x.yaml")


def test_no_slice_is_no_slice_that_sbatch_takes() -> None:
    permissions = (Permission("", ""), Permission("gpu:1", ""))

    assert [row.found for row in of_cluster._slices(permissions)] == ["sbatch takes gpu:1"]
