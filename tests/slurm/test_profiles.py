"""Profiles on a real SLURM: every kind of slice, environments, and what is told where a task cannot start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from hpc_search.config import load_profile, profile_with
from hpc_search.config.profile import Profile, parse_profile
from hpc_search.launchers.base import Request
from hpc_search.launchers.slurm import SlurmLauncher
from tests.slurm.cluster import ROOT, Cluster
from tests.slurm.searches import Search, cancelled_at_the_end
from tests.waiting import wait_until

SEARCH: Final = """
name: Environments
trial: trial.py:train
metric: {name: one, goal: max}
space: {x: [1]}
strategy: grid
"""
#: Says which interpreter runs it and what stands in the environment.
TRIAL: Final = """
import json, os, sys
from pathlib import Path

def train(trial):
    keys = ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "HOOK", "INSIDE")
    seen = {key: os.environ.get(key) for key in keys}
    Path("seen.json").write_text(json.dumps({"python": sys.executable, "prefix": sys.prefix, **seen}))
    return {"one": trial.params["x"]}
"""
#: What is the same on every site but for partition, account and the names of the GPUs.
PROFILES: Final = sorted((ROOT / "slurm" / "profiles").glob("*.yaml"))
#: What the test cluster has in the place of a site's GPUs.
HERE: Final = {"gpu:h100:1": "gpu:h200:1"}


@pytest.fixture
def search(slurm: Cluster, tmp_path: Path) -> Iterator[Search]:
    with cancelled_at_the_end(Search(slurm, tmp_path)) as search:
        search.write("trial.py", TRIAL)
        search.plan(SEARCH)
        yield search


# -- what is asked for


def asked_for(cluster: Cluster, profile: Profile, directory: Path) -> str:
    """Return what ``sbatch --test-only`` says of the script of *profile*."""
    request = Request(run=str(directory), token="test-12345678-0001", tasks=2, profile=profile, minutes_min=1)
    script = directory / "script.sh"
    script.write_text(SlurmLauncher().script(request))
    done = cluster.run("sbatch", "--test-only", script)
    assert done.returncode == 0, f"{profile}\n{script.read_text()}\n{done.stderr}"
    return done.stderr


def test_every_profile_and_every_kind_of_slice_is_accepted(slurm: Cluster, tmp_path: Path) -> None:
    kinds = set()
    for path in PROFILES:
        profile = load_profile(path)
        # The nodes are small: 4 cores, 4000 MB, and have shard instead of mps.
        small = ["mem=100M", "cpus=1", f"slice.pack.workers={min(profile.slice.pack.workers, 4)}"]
        gres = HERE.get(profile.gres, profile.gres)
        if profile.slice.kind == "mps":
            continue
        changed = profile_with(profile, [*small, f"gres={gres}", f"slice.kind={profile.slice.kind}"])
        assert "to start at" in asked_for(slurm, changed, tmp_path), path
        kinds.add(changed.slice.kind)
    assert kinds == {"cpu", "whole", "mig", "shard", "packed"}


@pytest.mark.parametrize(
    "text", ["time_min: 5", "time: site\ntime_min: 5", "time: auto", "extra: {exclusive: true, nice: 5}"]
)
def test_what_a_profile_leaves_out_is_left_to_the_site(slurm: Cluster, tmp_path: Path, text: str) -> None:
    assert "to start at" in asked_for(slurm, parse_profile(text.encode(), "p.yaml"), tmp_path)


# -- environments


def venv(directory: Path) -> Path:
    """Make a virtual environment that has this project, and return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    (site,) = (directory / "lib").glob("python3*/site-packages")
    found = [path for path in sys.path if path.endswith("site-packages")]
    (site / "here.pth").write_text("\n".join([*found, str(ROOT)]) + "\n")
    return directory / "bin" / "python3"


def conda_base(directory: Path, name: str) -> Path:
    """Make, by hand, what conda installs and this file needs; return the prefix of its environment *name*.

    The real conda is not here: the shell function is one of ours with the name and the effect of conda's.
    """
    prefix = directory / "envs" / name
    venv(prefix)
    (prefix / "pyvenv.cfg").rename(prefix / "conda-meta.cfg")
    (prefix / "conda-meta.cfg").rename(prefix / "pyvenv.cfg")
    (prefix / "conda-meta").mkdir()
    hooks = prefix / "etc" / "conda" / "activate.d"
    hooks.mkdir(parents=True)
    (hooks / "own.sh").write_text("export HOOK=run\necho noise\n")
    for folder in ("bin", "etc/profile.d"):
        (directory / folder).mkdir(parents=True)
    (directory / "bin" / "conda").write_text("#!/bin/sh\nexit 1\n")
    (directory / "bin" / "conda").chmod(0o755)
    (directory / "etc" / "profile.d" / "conda.sh").write_text(
        f"""conda() {{
    [ "$1 $2" = "activate {name}" ] || {{ echo "EnvironmentNameNotFound: $2" >&2; return 1; }}
    export CONDA_PREFIX='{prefix}' CONDA_DEFAULT_ENV={name} PATH='{prefix}/bin':"$PATH"
    . "$CONDA_PREFIX/etc/conda/activate.d/own.sh"
}}
"""
    )
    return prefix


def seen_by(search: Search, **changes: Any) -> dict[str, str | None]:
    """Run the search with *changes* of the profile; return what its trial saw."""
    search.submit("--workers=1", **changes, environment={"VIRTUAL_ENV": "/of the submitter"})
    search.wait()
    seen: dict[str, str | None] = json.loads((search.directory / "seen.json").read_text())
    return seen


def test_a_venv_brings_its_own_interpreter(search: Search, tmp_path: Path) -> None:
    python = venv(tmp_path / "a venv")

    seen = seen_by(search, venv=tmp_path / "a venv")

    assert (seen["python"], seen["VIRTUAL_ENV"]) == (str(python), str(tmp_path / "a venv"))


@pytest.mark.parametrize("by_name", [False, True], ids=["prefix", "name"])
def test_a_conda_environment_is_activated_without_a_word(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, by_name: bool
) -> None:
    prefix = conda_base(tmp_path / "conda", "mine")
    monkeypatch.setenv("CONDA_EXE", str(tmp_path / "conda" / "bin" / "conda"))

    seen = seen_by(search, conda="mine" if by_name else prefix)

    assert (seen["python"], seen["CONDA_PREFIX"]) == (str(prefix / "bin" / "python3"), str(prefix))
    assert (seen["HOOK"], seen["VIRTUAL_ENV"]) == ("run", None)
    assert not any("noise" in log.read_text() for log in search.layout.submitit.glob("*.log"))


def test_a_container_prefix_starts_the_python_inside(search: Search, tmp_path: Path) -> None:
    # A mount namespace of its own, in which the environment stands at a place that is empty outside.
    image, inside = tmp_path / "image", tmp_path / "inside"
    venv(image)
    inside.mkdir()
    search.write(
        "enter",
        "#!/bin/sh\nset -e\n"
        f'[ -n "$IN_NAMESPACE" ] || IN_NAMESPACE=1 exec unshare --mount "$0" "$@"\n'
        f"mount --bind '{image}' '{inside}'\n"
        f'export INSIDE=$1 PATH=\'{inside}/bin\':"$PATH"\nshift\nexec "$@"\n',
    )

    seen = seen_by(search, container=json.dumps([str(tmp_path / "enter"), "an image"]))

    assert list(inside.iterdir()) == []
    assert (seen["prefix"], seen["INSIDE"], seen["VIRTUAL_ENV"]) == (str(inside), "an image", None)


# -- what cannot start


def test_a_python_that_the_node_cannot_execute_is_told_to_an_ordinary_user(
    slurm: Cluster, user_directory: Path, ordinary_user_python: Path, tmp_path: Path
) -> None:
    # Below a directory that only root can enter, as a home is.
    tmp_path.chmod(0o700)
    hidden = tmp_path / "python3"
    hidden.symlink_to(sys.executable)
    with cancelled_at_the_end(Search(slurm, user_directory, ordinary_user_python)) as search:
        search.write("trial.py", TRIAL)
        search.plan(SEARCH)
        search.submit("--workers=1", python=hidden)

        logs = wait_until(
            lambda: [text for one in search.layout.submitit.glob("*.log") if (text := one.read_text())],
            60,
            on_timeout=lambda: search,
        )
        again = search.submit("--workers=1", python="")

    why = f"{hidden} is missing there, or {slurm.user} may not execute it: change python in the profile"
    assert logs[0].startswith("hpc_search: this task cannot start on node")
    assert logs[0].rstrip().endswith(why)
    assert "1 task could not start on node" in again.stdout
    assert why in again.stdout


def test_a_python_without_hpc_search_is_told_and_does_not_swallow_the_array(
    search: Search, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", empty], check=True)
    search.write("bare", f"#!/bin/sh\nunset PYTHONPATH\nexec '{empty}/bin/python3' \"$@\"\n")

    search.submit("--workers=1", python=tmp_path / "bare")

    (log,) = wait_until(
        lambda: [
            text
            for one in search.layout.submitit.glob("*.log")
            if "cannot import hpc_search: install it there" in (text := one.read_text())
        ],
        60,
        on_timeout=lambda: search,
    )
    assert "No module named hpc_search" in log
    # It stays for a while, so that the next task does not die of the same at once; a cancel is not held up.
    assert [state for _, _, state, _ in search.jobs()] == ["RUNNING"]
    search.call("cancel", search.run)
    search.wait_for_the_end_of_all_jobs(15)


def test_a_run_that_the_nodes_do_not_have_is_told_without_any_log(slurm: Cluster, tmp_path: Path) -> None:
    # Mounted after the nodes have started: it is seen here and not there, as /tmp of a login node is.
    here = tmp_path / "local"
    here.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", here], check=True)
    try:
        with cancelled_at_the_end(Search(slurm, here)) as search:
            search.write("trial.py", TRIAL)
            search.plan(SEARCH)
            search.submit("--workers=1")
            search.wait_for_the_end_of_all_jobs()

            again = search.submit("--workers=1")

            assert "1 task could not start on node" in again.stdout
            assert f"their logs cannot be written to {search.layout.submitit}" in again.stdout
            search.wait_for_the_end_of_all_jobs()
    finally:
        subprocess.run(["umount", "-l", here], check=True)


def test_a_log_folder_without_permission_is_told_with_its_path(
    slurm: Cluster, user_directory: Path, ordinary_user_python: Path
) -> None:
    with cancelled_at_the_end(Search(slurm, user_directory, ordinary_user_python)) as search:
        search.write("trial.py", TRIAL)
        search.plan(SEARCH)
        os.chown(search.layout.submitit, 0, 0)

        refused = search.submit("--workers=1", code=2)

    assert f"{search.layout.submitit}" in refused.stderr
    assert "Permission denied\n  next: it has to be writable for you" in refused.stderr
    assert search.jobs() == []


def test_a_missing_slurm_conf_is_told_at_once(search: Search) -> None:
    refused = search.submit(code=2, environment={"SLURM_CONF": "/nonexistent/slurm.conf"})

    assert "SLURM_CONF is /nonexistent/slurm.conf, and there is no such file" in refused.stderr
    assert "log in to the cluster" in refused.stderr
    assert os.listdir(search.layout.submits) == []


# -- from inside of a job


def test_a_submit_from_inside_of_a_job_inherits_nothing_of_that_job(search: Search, tmp_path: Path) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text("partition: low\ntime: 5 min\nmem: 200M\nprolog: ['env >prolog.env']\n")
    submit = [sys.executable, "-m", "hpc_search", "submit", search.run, "--launcher=slurm", "--workers=1"]
    outer = " ".join(f"'{word}'" for word in [*submit, f"--profile={profile}"])
    sent = search.cluster.run(
        *("sbatch", "--parsable", "--gres=gpu:1g.10gb:1", "--cpus-per-task=2", "--mem=300M", "--time=3"),
        *("--signal=USR1@50", "--output=outer.log", f"--wrap=export SBATCH_GRES=gpu:9; srun {outer}"),
        cwd=tmp_path,
    )
    assert sent.returncode == 0, sent.stderr
    search.wait()

    inner = dict(
        line.split("=", 1) for line in (tmp_path / "prolog.env").read_text().splitlines() if "=" in line
    )
    assert inner["SLURM_JOB_ID"] != sent.stdout.strip()
    assert inner["SLURM_CPUS_PER_TASK"] == "1"
    left = {"CUDA_VISIBLE_DEVICES", "SLURM_STEP_ID", "SLURM_STEP_GPUS", "SBATCH_GRES", "SLURM_JOB_GPUS"}
    assert not left & inner.keys()
