"""The test cluster is a real SLURM: it runs, and it refuses what a site refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster

_SCRIPT = "#!/bin/sh\necho $(hostname) > {directory}/task-$SLURM_ARRAY_TASK_ID\n"


def _script(directory: Path) -> Path:
    script = directory / "job.sh"
    script.write_text(_SCRIPT.format(directory=directory), "utf-8")
    script.chmod(0o755)
    return script


def _sbatch(directory: Path, *options: str) -> list[str | Path]:
    return ["sbatch", "--parsable", "--output=/dev/null", *options, _script(directory)]


def test_every_task_of_an_array_runs(slurm: Cluster, user_directory: Path) -> None:
    sent = slurm.run(*_sbatch(user_directory, "--array=0-15"))

    assert sent.returncode == 0, sent.stderr
    assert slurm.wait(sent.stdout.strip(), tasks=16) == ["COMPLETED"] * 16
    assert len(list(user_directory.glob("task-*"))) == 16


def test_nodes_have_names_of_their_own(slurm: Cluster, user_directory: Path) -> None:
    names = slurm.run("srun", "-N4", "-n4", "hostname")

    assert sorted(names.stdout.split()) == ["node1", "node2", "node3", "node4"], names.stderr


def test_an_ordinary_user_can_submit(slurm: Cluster, user_directory: Path) -> None:
    sent = slurm.run_as_user(*_sbatch(user_directory, "--array=0-3"), cwd=user_directory)

    assert sent.returncode == 0, sent.stderr
    assert slurm.wait(sent.stdout.strip(), tasks=4) == ["COMPLETED"] * 4
    assert {path.owner() for path in user_directory.glob("task-*")} == {slurm.user}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--account=nope", "Invalid account or account/partition combination specified"),
        ("--account=closed", "Invalid account or account/partition combination specified"),
        ("--partition=nope", "invalid partition specified: nope"),
        ("--qos=nope", "Invalid qos specification"),
        ("--gres=gpu:a100:1", "Requested node configuration is not available"),
        ("--array=0-1001", "Invalid job array specification"),
    ],
    ids=["account", "account-of-others", "partition", "qos", "gres", "array"],
)
def test_what_a_site_refuses_is_refused(
    slurm: Cluster, user_directory: Path, option: str, words: str
) -> None:
    sent = slurm.run_as_user(*_sbatch(user_directory, option))

    assert sent.returncode == 1
    assert words in sent.stderr


def test_a_qos_bounds_the_jobs_of_a_user(slurm: Cluster, user_directory: Path) -> None:
    allowed = slurm.run_as_user(*_sbatch(user_directory, "--qos=small", "--hold", "--array=0-119"))
    refused = slurm.run_as_user(*_sbatch(user_directory, "--qos=small"))
    slurm.run_as_user("scancel", allowed.stdout.strip())

    assert allowed.returncode == 0, allowed.stderr
    assert refused.returncode == 1
    assert "QOSMaxSubmitJobPerUserLimit" in refused.stderr


def test_a_gpu_and_a_share_of_one_are_given(slurm: Cluster, user_directory: Path) -> None:
    show = ("sh", "-c", "echo $CUDA_VISIBLE_DEVICES")

    whole = slurm.run_as_user("srun", "--gres=gpu:1g.10gb:1", *show, cwd=user_directory)
    share = slurm.run_as_user("srun", "--gres=shard:1", *show, cwd=user_directory)

    assert whole.stdout.strip() == "2", whole.stderr
    assert share.stdout.strip() in {"0", "1"}, share.stderr


def test_the_ordinary_user_has_an_interpreter_with_the_project(
    slurm: Cluster, ordinary_user_python: Path, user_directory: Path
) -> None:
    code = "import hpc_search, h5py, submitit, yaml; print(hpc_search.__file__)"

    asked = slurm.run_as_user("srun", ordinary_user_python, "-c", code, cwd=user_directory)

    assert asked.returncode == 0, asked.stderr
    assert Path(asked.stdout.strip()).is_relative_to(ordinary_user_python.parents[1])
