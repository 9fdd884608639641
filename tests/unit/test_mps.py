"""An own MPS daemon: a stand-in for NVIDIA's program, since there is no GPU here."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from hpc_search.config.profile import parse_profile
from hpc_search.config.slices import Slice
from hpc_search.slices.observed import Observed
from hpc_search.worker.mps import Daemon, why_not
from tests.gpus import fake_control
from tests.waiting import wait_until


def packed(mps: str = "auto") -> Slice:
    text = f"slice: {{request: {{gres: 'gpu:1'}}, pack: {{workers: 2, mps: {mps}}}}}"
    return parse_profile(text.encode(), "profile.yaml").slice


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    base = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_MPS")}
    # That of a test is too long for a socket.
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as short:
        yield {**base, "PATH": fake_control(tmp_path), "TMPDIR": short}


def test_a_daemon_has_private_directories_and_leaves_none(environ: dict[str, str]) -> None:
    daemon = Daemon(environ)

    pipe = Path(daemon.variables["CUDA_MPS_PIPE_DIRECTORY"])
    assert pipe.is_relative_to(environ["TMPDIR"])
    assert pipe.stat().st_mode & 0o777 == 0o700
    process = psutil.Process(int((pipe / "control").read_text()))
    assert process.is_running()

    daemon.close()

    assert not process.is_running()
    assert os.listdir(environ["TMPDIR"]) == []


def test_a_path_that_is_too_long_for_a_socket_is_not_used(environ: dict[str, str], tmp_path: Path) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()

    daemon = Daemon({**environ, "SLURM_TMPDIR": str(long)})

    try:
        assert Path(daemon.variables["CUDA_MPS_PIPE_DIRECTORY"]).is_relative_to(environ["TMPDIR"])
        assert os.listdir(long) == []
    finally:
        daemon.close()


def test_a_daemon_that_makes_no_socket_is_an_error_and_leaves_nothing(
    environ: dict[str, str], tmp_path: Path
) -> None:
    broken = tmp_path / "bin" / "nvidia-cuda-mps-control"
    broken.write_text("#!/bin/sh\nexit 1\n")

    with pytest.raises(OSError, match="made no socket"):
        Daemon(environ)

    assert os.listdir(environ["TMPDIR"]) == []


def test_a_daemon_dies_with_its_leader(environ: dict[str, str]) -> None:
    code = (
        "import os, sys, time\nfrom hpc_search.worker.mps import Daemon\n"
        "print(Daemon(os.environ).variables['CUDA_MPS_PIPE_DIRECTORY'], flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE) as leader:
        assert leader.stdout is not None
        pipe = Path(leader.stdout.readline().decode().strip())
        daemon = psutil.Process(int((pipe / "control").read_text()))

        leader.kill()

    wait_until(lambda: not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE)

    # What the killed one left goes with the next one, and what others use stays.
    os.utime(pipe.parent, (0, 0))
    with closing(Daemon(environ)) as used:
        assert not pipe.parent.exists()
        directory = Path(used.variables["CUDA_MPS_PIPE_DIRECTORY"]).parent
        os.utime(directory, (0, 0))
        Daemon(environ).close()
        assert directory.exists()


@pytest.mark.parametrize(
    ("wanted", "seen", "more", "words"),
    [
        (packed(), Observed(compute_mode="default"), {}, ""),
        (packed("never"), Observed(), {}, "`mps: never`"),
        (packed(), Observed(compute_mode="mode 3"), {}, "mode 3 instead of default"),
        (packed(), Observed(), {"CUDA_MPS_PIPE_DIRECTORY": "/run/mps"}, "the site's own daemon"),
        (packed(), Observed(), {"PATH": "/nowhere"}, "is not on PATH"),
    ],
)
def test_why_there_is_no_daemon_is_said(
    environ: dict[str, str], wanted: Slice, seen: Observed, more: dict[str, str], words: str
) -> None:
    found = why_not(wanted, seen, {**environ, **more})

    assert found == words if not words else words in found
