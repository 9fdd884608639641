"""`doctor --cluster` on real SLURM: what it measures is so, and its profile works unchanged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hpc_search.config.profile import load_profile
from hpc_search.durable import TEMPORARY
from hpc_search.layout import Layout
from tests.slurm.cluster import ROOT, Cluster
from tests.slurm.searches import Search
from tests.waiting import wait_until

SEARCH = """
name: After doctor
trial: trial.py:train
metric: {name: twice, goal: max}
space: {x: [1, 2, 3]}
strategy: grid
"""
TRIAL = "def train(trial):\n    return {'twice': 2 * trial.params['x']}\n"


class Doctor:
    """The command in one directory, run by root or by the ordinary user."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.profile = search.directory / "found.yaml"

    def __call__(self, *options: str, code: int = 0) -> dict[str, Any]:
        given = ["--cluster", "--profile-out", str(self.profile), "--json", *options]
        said = self.search.call("doctor", ".", *given, code=code)
        left = [name for name in os.listdir(self.search.directory) if name.startswith(TEMPORARY)]
        assert not left, said.stdout
        report: dict[str, Any] = json.loads(said.stdout)
        return report


def queued(cluster: Cluster, *options: str) -> list[str]:
    shown = cluster.run("squeue", "-h", "-o", "%j", *options).stdout.split()
    return [name for name in shown if name.startswith("hpc_search-doctor-")]


def setting(cluster: Cluster, key: str) -> int:
    lines = cluster.run("scontrol", "show", "config").stdout.splitlines()
    (value,) = (line.partition("=")[2].split()[0] for line in lines if line.split()[:1] == [key])
    return int(value)


def row(report: dict[str, Any], subject: str) -> dict[str, str]:
    return next(row for row in report["rows"] if row["subject"] == subject)


@contextmanager
def seen_here_only(directory: Path) -> Iterator[Path]:
    """Mount something over *directory*; the nodes go on to see what is below it."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def completes(doctor: Doctor) -> None:
    """Run a search by the profile exactly as it was written."""
    search = doctor.search
    search.write("trial.py", TRIAL)
    search.plan(SEARCH)
    search.call("submit", search.run, "--launcher=slurm", "--profile", doctor.profile, "--wait")
    assert search.collect().count(b"\n") == 4


def test_the_profile_made_for_an_ordinary_user_works_unchanged(
    slurm: Cluster, user_directory: Path, ordinary_user_python: Path
) -> None:
    doctor = Doctor(Search(slurm, user_directory, ordinary_user_python))

    report = doctor("--no-signals")

    tried = report["cluster"]["tried"]
    look, timing = tried["look"], tried["timing"]
    assert look["same"]
    assert not any(look[what] for what in ("writable", "worker_code", "scontrol", "sbatch"))
    assert timing["restarts"] == 1
    # What slurmctld counts in whole seconds, and a requeued job waits for: configured here, measured there.
    assert timing["pending"] > setting(slurm, "KillWait") - 1
    assert abs(timing["cancel_killed"] - setting(slurm, "KillWait")) < 3
    assert {one["gres"] for one in report["cluster"]["permissions"]} >= {"gpu:h200:1", "gpu:1g.10gb:1"}
    found = load_profile(doctor.profile)
    assert (found.partition, found.account, found.mem) == ("low", "lab", "1000M")
    completes(doctor)


def test_the_profile_for_a_slice_and_another_partition_works_for_root(slurm: Cluster, tmp_path: Path) -> None:
    doctor = Doctor(Search(slurm, tmp_path))

    report = doctor("--no-signals", "--partition=abrupt", "--slice=gpu:1g.10gb:1")

    # A device file stands for the GPU: only the environment can be looked at.
    assert len(report["cluster"]["tried"]["look"]["seen"]["visible"]) == 1
    assert not {"nvml", "torch"} & set(load_profile(doctor.profile).slice.expect.checks)
    assert row(report, "grace")["status"] == "NOTE"
    assert load_profile(doctor.profile).slice.kind == "mig"
    completes(doctor)


@pytest.mark.slow
def test_signals_come_when_doctor_says(slurm: Cluster, tmp_path: Path) -> None:
    timing = Doctor(Search(slurm, tmp_path))()["cluster"]["tried"]["timing"]

    kill_wait = setting(slurm, "KillWait")
    # SLURM looks at limits every 30 s: it warns early by up to that, and ends late by up to that.
    assert timing["asked"] == 15
    assert 10 < timing["warning"] < 60 < timing["limit"] + 2 < 100
    assert timing["warned"] >= 15
    assert abs(timing["killed"] - kill_wait) < 3


def test_a_directory_that_the_nodes_do_not_see_is_said(slurm: Cluster, tmp_path: Path) -> None:
    with seen_here_only(tmp_path / "here") as here:
        said = slurm.run(
            sys.executable, "-m", "hpc_search", "doctor", here, "--cluster", "--no-signals", cwd=tmp_path
        )
    assert said.returncode == 1
    assert f"the nodes do not see {here}" in said.stdout
    assert "no profile is written" in said.stdout
    assert not list(tmp_path.glob("*.yaml"))


def test_an_interpreter_that_the_nodes_cannot_run_is_said(slurm: Cluster, tmp_path: Path) -> None:
    with seen_here_only(tmp_path / "env") as env:
        (env / "bin").mkdir()
        (env / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
        (env / "lib").symlink_to(Path(sys.prefix) / "lib")
        (env / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
        command: list[str | Path] = [
            env / "bin" / "python",
            "-m",
            "hpc_search",
            "doctor",
            ".",
            "--cluster",
            "--no-signals",
        ]
        said = slurm.run(*command, cwd=tmp_path, environment={"PYTHONPATH": str(ROOT)})
    assert said.returncode == 1
    assert f"the nodes cannot run the interpreter {env / 'bin' / 'python'}" in said.stdout


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_doctor_that_is_ended_takes_its_job_along(slurm: Cluster, tmp_path: Path, how: int) -> None:
    command = [sys.executable, "-m", "hpc_search", "doctor", ".", "--cluster"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as doctor:
        wait_until(lambda: list(tmp_path.glob(f"{TEMPORARY}doctor-*/cancel-0.jsonl")))
        doctor.send_signal(how)
        _, err = doctor.communicate(timeout=60)
    assert doctor.returncode == 128 + how
    assert b"Traceback" not in err
    assert not os.listdir(tmp_path)
    wait_until(lambda: not queued(slurm, "-t", "PD,R"))


def test_what_is_not_there_is_said_at_once(slurm: Cluster, tmp_path: Path) -> None:
    search = Search(slurm, tmp_path)
    wrong = ["--partition=lwo", "--account=labb", "--qos=smal", "--slice=gpu:a100:1"]

    said = search.call("doctor", ".", "--cluster", *wrong, code=2).stderr

    for name in ("partition 'lwo'", "account 'labb'", "QOS 'smal'", "slice 'gpu:a100:1'"):
        assert f"{name}" in said
    assert "did you mean 'low'" in said


def test_a_cluster_that_is_not_configured_here_is_said(slurm: Cluster, tmp_path: Path) -> None:
    search = Search(slurm, tmp_path)
    said = search.call("doctor", ".", "--cluster", code=2, environment={"SLURM_CONF": "/nowhere/slurm.conf"})
    assert "SLURM_CONF is /nowhere/slurm.conf, and there is no such file" in said.stderr


def test_a_refusal_is_shown_in_the_words_of_sbatch(slurm: Cluster, tmp_path: Path) -> None:
    report = Doctor(Search(slurm, tmp_path))("--account=closed", "--qos=small", code=1)

    assert report["cluster"]["tried"]["outcome"] == "refused"
    assert "Invalid qos specification" in report["cluster"]["problems"][0]
    assert not report["cluster"]["profile"]


def test_a_run_keeps_what_was_found_of_the_cluster(slurm: Cluster, tmp_path: Path) -> None:
    search = Search(slurm, tmp_path)
    search.write("trial.py", TRIAL)
    search.plan(SEARCH)

    search.call("doctor", search.run, "--cluster", "--no-job")

    kept = json.loads(Layout(search.run).doctor.read_bytes())
    assert kept["cluster"]["asked"]["settings"]["ClusterName"] == "lab"
    assert kept["cluster"]["tried"]["outcome"] == "skipped"
    search.call("fsck", search.run)
