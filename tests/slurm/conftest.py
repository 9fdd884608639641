"""Fixtures of the tests on SLURM: a real cluster, an ordinary user of it, and that user's Python."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import CLUSTER, Cluster, build_user_python, is_up, why_not


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this directory, and give the first test the time that apt may take."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("slurm")
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    """Give the running test cluster; it is stopped at the end if it was started here.

    HPC_SEARCH_KEEP_CLUSTER=1 leaves it running. Without root, or where it cannot be installed, the
    test is skipped and says why.
    """
    if reason := why_not():
        pytest.skip(f"SLURM TESTS ARE SKIPPED: {reason}")
    was_up = is_up()
    if not was_up:
        started = subprocess.run([CLUSTER, "up"], check=False, capture_output=True, text=True)
        if started.returncode:
            pytest.fail(f"tools/slurm-cluster up failed:\n{started.stdout}{started.stderr}", pytrace=False)
    directory = Path(os.environ.get("HPC_SEARCH_CLUSTER_DIR", "/tmp/hpc_search-cluster"))
    user = os.environ.get("HPC_CLUSTER_USER", "labuser")
    with pytest.MonkeyPatch.context() as patch:
        # A configuration of someone else in /etc/slurm is left alone, and not used.
        patch.setenv("SLURM_CONF", str(directory / "etc" / "slurm.conf"))
        yield Cluster(directory, user)
    if not was_up and os.environ.get("HPC_SEARCH_KEEP_CLUSTER", "0") != "1":
        subprocess.run([CLUSTER, "down"], check=False, capture_output=True)


@pytest.fixture(scope="session")
def ordinary_user_python(slurm: Cluster) -> Path:
    """Give an interpreter with the project (a copy) and its core dependencies that the user can run."""
    try:
        return build_user_python()
    except LookupError as error:
        pytest.skip(f"SKIPPED, needs the system's Python: {error}")


@pytest.fixture
def user_directory(slurm: Cluster) -> Iterator[Path]:
    """Give a directory of the ordinary user that all nodes see; removed after the test."""
    with slurm.user_directory() as directory:
        yield directory
