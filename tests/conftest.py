"""Fixtures of all tests: nothing that a test started may outlive it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.quickstart import Quickstart, run_quickstart
from tests.waiting import wait_until

#: Seconds in which a process that was told to end may still be there.
_GRACE_S: Final = 10.0
#: Tests that share the cluster or the finished quickstart.
_SHARED: Final = ("tests/slurm/", "tests/e2e/test_quickstart.py", "tests/e2e/test_rerun_show.py")
#: Helpers of multiprocessing that live as long as the interpreter.
_HELPERS: Final = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --slow."""
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow tests out unless they are asked for; begin with those that take longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(_SHARED))
    for item in items:
        if item.get_closest_marker("slow") is not None and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: tools/test --slow"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With ``-n 2`` one process runs the tests that share a cluster or a run, the other one file by file.

    xdist's own groups (3.8) are not seen under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class Grouped(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return "shared" if nodeid.startswith(_SHARED) else nodeid.split("::", 1)[0]

    return Grouped(config, log)


def pytest_report_header() -> list[str]:
    """Say what decides about results here."""
    return [
        f"machine: {platform.system()} {platform.release()}, {os.cpu_count()} cores, uid {os.getuid()}",
        f"interpreter: {sys.executable}",
    ]


@pytest.fixture(scope="session")
def finished_quickstart(tmp_path_factory: pytest.TempPathFactory) -> Quickstart:
    """Run the quickstart's 90 trials here, once a session; tests only read it.

    A test that asks for it may be the one that waits for it: mark its module with ``timeout(600)``.
    """
    pytest.importorskip("torch")
    return run_quickstart(tmp_path_factory.mktemp("quickstart"))


@pytest.fixture(autouse=True)
def nothing_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a child, or any process started on its temporary directory."""
    before = set(psutil.Process().children(recursive=True))
    directory: Path | None = None
    if "tmp_path" in request.fixturenames:
        directory = request.getfixturevalue("tmp_path")
    yield

    def left() -> list[psutil.Process]:
        return _children(before) + _started_on(directory)

    try:
        wait_until(lambda: not left(), timeout=_GRACE_S)
    except AssertionError:
        processes = left()
        if not processes:
            return
        shown = "\n".join(_describe(process) for process in processes)
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=_GRACE_S)
        pytest.fail(f"processes outlive the test:\n{shown}", pytrace=False)


def _children(before: set[psutil.Process]) -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if child not in before and not _is_harmless(child)]


def _started_on(directory: Path | None) -> list[psutil.Process]:
    """Return the processes with *directory* in their arguments: detached workers, jobs of SLURM."""
    if directory is None:
        return []
    needle = os.fsencode(directory)
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError, psutil.Error):
            if needle in entry.read_bytes() and int(entry.parent.name) != os.getpid():
                found.append(psutil.Process(int(entry.parent.name)))
    return found


def _is_harmless(process: psutil.Process) -> bool:
    # A zombie is dead; whether somebody asked for its status is not what matters here.
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return any(helper in " ".join(process.cmdline()) for helper in _HELPERS)
    except psutil.NoSuchProcess:
        return True


def _describe(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return f"  {process.pid} ({process.status()}): {' '.join(process.cmdline()) or process.name()}"
    return f"  {process.pid}"


@pytest.fixture(scope="session")
def quickstart_here(finished_quickstart: Quickstart) -> Path:
    """Give the run of the quickstart's search, done on this machine by the local launcher (a minute)."""
    return finished_quickstart.run
