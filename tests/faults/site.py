"""A planned run below a directory, and real worker processes on it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import psutil

from hpc_search import search
from hpc_search.ledger import history, read_index
from hpc_search.records import index
from hpc_search.records import journal as lines
from hpc_search.records.index import Entry
from tests.waiting import wait_until

TIMEOUT = 60


class Site:
    """One run, planned from *text* and *code* below *root*."""

    def __init__(self, root: Path, text: str, code: str = "", *, run: Path | None = None) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        (root / "search.yaml").write_text(dedent(text))
        if code:
            (root / "train.py").write_text(dedent(code))
        self.run = search.plan_search(root / "search.yaml", str(run or root / "run")).run
        self.layout = self.run.layout
        self.gate = root / "gate"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker with further *arguments*; what it says goes to worker.log."""
        with (self.root / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "hpc_search", "work", str(self.layout.root), *arguments],
                env={**os.environ, "HPC_TEST_ROOT": str(self.root), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @contextmanager
    def worker(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a worker and end it with the block, whatever happens."""
        process = self.start(*arguments, **environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait(TIMEOUT)

    def work(self, code: int = 0, *arguments: str) -> str:
        """Run a worker to its end; return what it and those before it said."""
        with self.worker(*arguments) as process:
            assert process.wait(TIMEOUT) == code, self.said()
        return self.said()

    def said(self) -> str:
        """Return what the workers printed."""
        return (self.root / "worker.log").read_text()

    def entries(self) -> list[Entry]:
        """Return the index."""
        return read_index(self.layout)[1]

    def states(self) -> list[str]:
        """Return the state of every trial."""
        return [index.STATES[entry.state] for entry in self.entries()]

    def ends(self, trial: int | None = None) -> list[lines.End]:
        """Return the end records, in order of time."""
        found = [lines.parse_line(line.data) for line in history.lines(self.layout, frozenset({b"end"}))]
        ends = [end for end in found if isinstance(end, lines.End) and trial in (None, end.trial)]
        return sorted(ends, key=lambda end: end.t)

    def results(self) -> Mapping[int, history.Result]:
        """Return the results."""
        return history.results(self.layout)

    def log(self) -> str:
        """Return what the trials printed."""
        logs = [history.log_bytes(self.layout, worker) or b"" for worker in history.live_workers(self.layout)]
        return b"".join(logs).decode(errors="replace")

    def wait_for(self, name: str) -> Path:
        """Wait until a trial touched *name*."""
        path = self.root / name
        wait_until(path.exists, timeout=TIMEOUT, on_timeout=lambda: self.said() + self.log())
        return path

    def trial_process(self, name: str = "pid") -> psutil.Process:
        """Return the process of the trial that wrote its pid to *name*."""
        return psutil.Process(int(self.wait_for(name).read_text()))


def gone(process: psutil.Process) -> bool:
    """Return whether *process* ended, reaped or not."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
