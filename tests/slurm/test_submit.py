"""Submitting to a real SLURM: one array under our token, its own words when it refuses, nothing twice."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_search.config.profile import Profile
from hpc_search.config.slices import Request as SliceRequest
from hpc_search.config.slices import Slice
from hpc_search.errors import RefusedError
from hpc_search.launchers import sending, submission
from hpc_search.launchers.base import token
from hpc_search.launchers.slurm import SlurmLauncher
from hpc_search.layout import Layout
from hpc_search.ledger import submits
from hpc_search.records.plan import Plan
from hpc_search.records.search import Metric, Search, StrategySpec, TrialSpec
from hpc_search.space import Space
from tests.slurm.cluster import ROOT, Cluster
from tests.waiting import wait_until

#: A stand-in for the worker: says where it runs, what it was told and what it sees.
TASK = """#!/bin/bash
echo "task $SLURM_ARRAY_TASK_ID restart ${SLURM_RESTART_COUNT:-0} umask $(umask) cwd $PWD"
printf 'argument <%s>\\n' "$@"
env | grep -E '^(SECRET|WANDB|HPC_SEARCH_|CUDA_VISIBLE|MULTI)' | sort
[ "$1" = stay ] && exec sleep 300
if [ "$1" = save ]; then
    trap 'sleep 2; echo saved; exit 0' TERM
    echo armed
    for _ in $(seq 1000); do sleep 0.1; done
fi
exit 0
"""


WHOLE = Slice(kind="whole", request=SliceRequest(gres="gpu:a100:1"))
FPGA = Slice(kind="whole", request=SliceRequest(gres="fpga:1"))


class Site:
    """A run on the cluster with a random id, and its submissions."""

    def __init__(self, cluster: Cluster, root: Path) -> None:
        self.cluster = cluster
        self.layout = Layout(root)
        self.launcher = SlurmLauncher(pause=lambda _: None)
        search = Search(
            name="Digits on 'SLURM'",
            trial=TrialSpec(command=("true",)),
            metric=Metric(name="acc", goal="max"),
            space=Space(dimensions={}),
            strategy=StrategySpec(kind="grid", options={}),
        )
        run_id = "a" * 12 + secrets.token_hex(4)
        self.plan = Plan(
            search_id="a" * 12, run_id=run_id, created=0.0, search=search, blocks=(), points=1, trials=1
        )
        # No space in the name itself: proctrack/linuxproc does not signal a process called so.
        self.task = root.parent / "task.sh"
        self.task.write_text(TASK)
        self.task.chmod(0o755)

    def order(
        self, *arguments: str, profile: dict[str, Any] | None = None, **changes: Any
    ) -> submission.Order:
        given: dict[str, Any] = {"partition": "low", "time": 2, "mem": "100M"} | (profile or {})
        if gres := given.pop("gres", ""):
            given["slice"] = Slice(request=SliceRequest(gres=gres))
        values: dict[str, Any] = {"pending": 90, "workers": 4, "environ": dict(os.environ)} | changes
        return submission.Order(
            layout=self.layout,
            plan=self.plan,
            launcher=self.launcher,
            profile=Profile(**given),
            command=(str(self.task), *arguments),
            **values,
        )

    def token(self, number: int = 1) -> str:
        return token(self.plan, number)

    def logs(self, number: int = 1) -> list[str]:
        return [path.read_text() for path in sorted(self.layout.submitit.glob(f"{self.token(number)}_*.log"))]

    def wait_for_logs(self, count: int, number: int = 1) -> list[str]:
        wait_until(
            lambda: sum("argument <--token>" in text for text in self.logs(number)) == count,
            60,
            on_timeout=self.cluster.picture,
        )
        return self.logs(number)


@pytest.fixture
def site(slurm: Cluster, tmp_path: Path) -> Iterator[Site]:
    root = tmp_path / 'it\'s a "run" 50%j'
    (root / "ledger").mkdir(parents=True)
    site = Site(slurm, root)
    yield site
    submission.cancel(site.layout, site.launcher)
    wait_until(lambda: submission.live(submits.submissions(site.layout), site.launcher) == {}, 60)


def test_one_array_under_the_token_runs_steps_in_the_run(site: Site) -> None:
    outcome = submission.submit(site.order("x y", "it's"))

    assert outcome.sent == 4
    assert site.token().startswith("digits-on-slurm-")
    texts = site.wait_for_logs(4)
    for index, text in enumerate(texts):
        assert f"task {index} restart 0 umask 0077 cwd {site.layout.root}" in text
        assert "argument <x y>\nargument <it's>\nargument <--token>" in text
    names = {path.name for path in site.layout.submitit.iterdir()}
    assert names == {f"{site.token()}.sh", *(f"{site.token()}_{index}.log" for index in range(4))}
    modes = {path.stat().st_mode & 0o777 for path in site.layout.submitit.iterdir()}
    assert modes == {0o600}


def test_submit_twice_is_one_array_in_squeue(site: Site) -> None:
    submission.submit(site.order("stay"))
    outcome = submission.submit(site.order("stay"))

    rows = site.cluster.run("squeue", "--me", "-h", "-r", f"--name={site.token()}", "-o", "%F").stdout.split()
    assert outcome.sent == 0
    assert (len(rows), len(set(rows))) == (4, 1)


def test_the_throttle_bounds_what_runs_at_once(site: Site) -> None:
    submission.submit(site.order("stay", profile={"throttle": 2}, workers=5))
    known = submits.submissions(site.layout)

    def two_run() -> bool:
        (jobs,) = (submission.live(known, site.launcher) or {}).values()
        return (jobs.running, jobs.pending) == (2, 3)

    wait_until(two_run, 30, on_timeout=site.cluster.picture)


def test_arrays_are_cut_and_cancelled_by_token(site: Site) -> None:
    outcome = submission.submit(site.order("stay", profile={"max_array": 2}, workers=5))

    assert outcome.tokens == (site.token(1), site.token(2), site.token(3))
    assert submission.cancel(site.layout, site.launcher) == 5
    wait_until(lambda: submission.live(submits.submissions(site.layout), site.launcher) == {}, 60)


@pytest.mark.parametrize(
    ("profile", "words", "field"),
    [
        ({"partition": "nope"}, "Invalid partition name specified", "partition"),
        ({"account": "nope"}, "Invalid account or account/partition", "account"),
        ({"qos": "nope"}, "Invalid qos specification", "qos"),
        ({"slice": WHOLE}, "Requested node configuration is not available", "gres"),
        ({"slice": FPGA}, "Invalid generic resource (gres) specification", "gres"),
        ({"mem": "900G"}, "Memory specification can not be satisfied", "mem"),
        ({"constraint": "nope"}, "Invalid feature specification", "constraint"),
        ({"reservation": "nope"}, "reservation", "reservation"),
        ({"max_array": 5000}, "Invalid job array specification", "max_array"),
        ({"extra": {"frobnicate": "1"}}, "unrecognized option", "extra"),
    ],
    ids=[
        "partition",
        "account",
        "qos",
        "gres",
        "no-such-gres",
        "mem",
        "feature",
        "reservation",
        "array",
        "option",
    ],
)
def test_refusals_show_the_words_of_slurm_and_what_to_change(
    site: Site, profile: dict[str, Any], words: str, field: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        submission.submit(site.order(profile=profile, workers=2000, pending=5000))

    assert words in caught.value.message
    assert f"`{field}" in caught.value.hint or f", {field}" in caught.value.hint
    (record,) = submits.submissions(site.layout)
    assert isinstance(record, submits.Answer)
    assert record.outcome == "refused"


def test_an_answer_that_was_lost_is_found_by_its_token(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("sbatch")
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    lost = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    fake.write_text(
        f'#!/bin/sh\necho x >> {tmp_path}/calls\n{real} "$@" >/dev/null\necho "{lost}" >&2\nexit 1\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")

    outcome = submission.submit(site.order("stay"))

    assert (tmp_path / "calls").read_text() == "x\n"
    record = json.loads(site.layout.submit_record(1).read_text())
    assert record["outcome"] == "adopted"
    assert outcome.jobs[0].tasks == 4


def test_a_submitter_killed_after_sbatch_submits_nothing_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sending, "answer", _killed)
        with pytest.raises(KeyboardInterrupt):
            submission.submit(site.order("stay"))
    assert not site.layout.submit_record(1).exists()

    outcome = submission.submit(site.order("stay"))

    assert (outcome.sent, outcome.live) == (0, 4)
    assert json.loads(site.layout.submit_record(1).read_text())["outcome"] == "adopted"


def test_a_cancelled_worker_has_time_to_save_and_its_last_output_is_kept(site: Site) -> None:
    submission.submit(site.order("save", workers=1))
    site.wait_for_logs(1)
    wait_until(lambda: "armed" in site.logs()[0], 30)

    submission.cancel(site.layout, site.launcher)

    wait_until(lambda: "saved" in site.logs()[0], 30, on_timeout=lambda: site.logs()[0])


def test_a_requeued_task_appends_to_its_log(site: Site) -> None:
    outcome = submission.submit(site.order("stay", workers=1))
    site.wait_for_logs(1)

    site.cluster.run("scontrol", "requeue", f"{outcome.jobs[0].id}_0")

    wait_until(lambda: "restart 1" in site.logs()[0], 90, on_timeout=site.cluster.picture)
    assert "restart 0" in site.logs()[0]


def test_secrets_reach_no_file_and_only_asked_for_names_reach_the_tasks(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "xyz-secret")
    monkeypatch.setenv("WANDB_API_KEY", "wandb-secret")
    monkeypatch.setenv("HPC_SEARCH_NOTE", "it's $HOME")
    monkeypatch.setenv("SBATCH_JOB_NAME", "other")

    submission.submit(site.order(profile={"environment": ("WANDB_API_KEY",)}, environ=dict(os.environ)))

    for text in site.wait_for_logs(4):
        assert "SECRET" not in text
        assert "WANDB_API_KEY=wandb-secret" in text
        assert "HPC_SEARCH_NOTE=it's $HOME" in text
    for path in site.layout.root.rglob("*"):
        if path.is_file() and path.suffix != ".log":
            assert b"-secret" not in path.read_bytes()


def test_workers_that_have_ended_are_submitted_again_as_a_new_array(site: Site) -> None:
    submission.submit(site.order())
    site.wait_for_logs(4)
    wait_until(lambda: submission.live(submits.submissions(site.layout), site.launcher) == {}, 60)

    outcome = submission.submit(site.order())

    assert outcome.sent == 4
    assert outcome.tokens == (site.token(2),)
    assert outcome.gone == (site.token(1),)
    site.wait_for_logs(4, number=2)


def by_hand(site: Site, directory: Path, template: str, changes: dict[str, str]) -> str:
    """Send *template* with the marked lines changed, as a user does; return the id of its array."""
    text = (ROOT / "slurm" / "templates" / template).read_text()
    common = {
        "--partition=CHANGE": "--partition=low",
        "--job-name=my-search-1": f"--job-name={site.token()}",
        "/path/to/venv/bin/python": f"'{site.task}'",
        "/path/to/runs/NAME": "'/a run'",
    }
    for old, new in (common | changes).items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (directory / template).write_text(text)
    (directory / "logs").mkdir()
    sent = site.cluster.run("sbatch", template, cwd=directory)
    assert sent.returncode == 0, sent.stderr
    return sent.stdout.split()[-1]


def test_the_template_for_sending_by_hand_runs(site: Site, tmp_path: Path) -> None:
    job = by_hand(site, tmp_path, "array.sbatch", {"--mem=4G": "--mem=100M"})

    assert site.cluster.wait(job, tasks=8) == ["COMPLETED"] * 8
    log = (tmp_path / "logs" / f"{site.token()}_7.log").read_text()
    assert "<-P>\nargument <-m>\nargument <hpc_search>\nargument <work>\nargument </a run>" in log
    assert f"<--token>\nargument <{site.token()}-{job}>" in log


def test_the_template_for_gpus_starts_the_workers_of_a_task_on_its_slice(site: Site, tmp_path: Path) -> None:
    small = {
        "--gres=gpu:1": "--gres=gpu:1g.10gb:1",
        "--mem=32G": "--mem=100M",
        "--array=0-3%4": "--array=0-1%2",
    }
    packed = {
        "#SBATCH --ntasks=1": "#SBATCH --ntasks=2",
        "STAGGER=5": "STAGGER=1",
        "cpus-per-task=4": "cpus-per-task=1",
    }
    job = by_hand(site, tmp_path, "gpu.sbatch", small | packed)

    assert site.cluster.wait(job, tasks=2) == ["COMPLETED"] * 2
    for task in range(2):
        log = (tmp_path / "logs" / f"{site.token()}_{task}.log").read_text()
        assert all(f"argument <{site.token()}-{job}-{worker}>" in log for worker in range(2))
        seen = [line for line in log.splitlines() if line.startswith("CUDA_VISIBLE_DEVICES=")]
        assert len(seen) == 2
        assert len(set(seen)) == 1
        assert log.count("HPC_SEARCH_MEMORY_FRACTION=0.45") == 2


def _killed(*_args: object, **_kwargs: object) -> None:
    raise KeyboardInterrupt
