"""A run on this machine through the command line: to its end, detached, killed, interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_search.launchers import processes
from hpc_search.layout import Layout
from hpc_search.ledger.submits import submissions
from tests.waiting import wait_until

SEARCH = """
name: small search
trial: trial.py:train
metric: {name: acc, goal: max}
space: {x: [1, 2, 3, 4, 5, 6]}
strategy: grid
seeds: [0, 1]
heartbeat: 0.5
lease: 10
"""
#: `gate` holds the trials back until the test opens it.
TRIAL = """
import os, time
from pathlib import Path

def train(trial):
    gate = Path(os.environ["GATE"])
    gate.with_name(f"started-{trial.number}").touch()
    while gate.exists():
        trial.alive()
        time.sleep(0.02)
        trial.report(0, acc=0.0)
    return {"acc": trial.params["x"] / 10 + trial.seed}
"""
TRIALS = 12


class Site:
    """A planned run and the command line."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.gate = root / "gate"
        self.environment = {**os.environ, "GATE": str(self.gate), "SECRET_TOKEN": "xyz-secret"}
        (root / "search.yaml").write_text(SEARCH)
        (root / "trial.py").write_text(TRIAL)
        self.run = root / "my run"
        self.call("plan", "search.yaml", "--run", str(self.run))
        self.layout = Layout(self.run)

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "hpc_search", *arguments]

    def call(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            self.argv(*arguments),
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        )
        return done.stdout

    def submit(self, *more: str) -> str:
        return self.call("submit", str(self.run), "--launcher", "local", "--workers", "2", *more)

    def status(self) -> dict[str, Any]:
        counts: dict[str, Any] = json.loads(self.call("status", str(self.run), "--json"))
        return counts

    def workers(self) -> list[processes.WorkerProcess]:
        return processes.running(frozenset(one.token for one in submissions(self.layout)))

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in self.root.rglob("*.log"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.gate.unlink(missing_ok=True)
    for one in site.workers():
        os.kill(one.pid, signal.SIGKILL)


def test_submit_and_wait_does_all_the_trials_and_a_second_submit_nothing(site: Site) -> None:
    site.submit("--wait")

    assert site.status()["done"] == TRIALS
    assert "nothing is left" in site.submit()
    assert len(submissions(site.layout)) == 1


def test_submit_without_wait_returns_and_the_workers_go_on(site: Site) -> None:
    site.gate.touch()
    site.submit()

    assert len(site.workers()) == 2
    assert "already submitted" in site.submit()

    site.gate.unlink()
    wait_until(lambda: site.status()["done"] == TRIALS, 60, on_timeout=site.logs)
    wait_until(lambda: not site.workers(), 30)


def test_worker_killed_while_submit_waits_is_replaced(site: Site) -> None:
    site.gate.touch()
    waiting = _start(site)
    try:
        first = wait_until(lambda: site.workers() if _started(site) >= 2 else [], 60, on_timeout=site.logs)
        os.kill(first[0].pid, signal.SIGKILL)
        wait_until(lambda: len({one.pid for one in site.workers()} - {one.pid for one in first}) == 1, 30)
        site.gate.unlink()
        assert waiting.wait(90) == 0
    finally:
        waiting.kill()
        waiting.communicate()

    assert site.status()["done"] == TRIALS


def test_interrupt_ends_the_workers_and_the_next_submit_goes_on(site: Site) -> None:
    site.gate.touch()
    waiting = _start(site)
    try:
        wait_until(lambda: _started(site) >= 2, 60, on_timeout=site.logs)
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(60) == 130
    finally:
        waiting.kill()
        waiting.communicate()
    assert site.workers() == []
    assert site.status()["failed"] == 0

    site.gate.unlink()
    site.submit("--wait")

    assert site.status()["done"] == TRIALS


def test_cancel_ends_detached_workers(site: Site) -> None:
    site.gate.touch()
    site.submit()
    wait_until(lambda: _started(site) >= 2, 60, on_timeout=site.logs)

    site.call("cancel", str(site.run))

    wait_until(lambda: not site.workers(), 30, on_timeout=site.logs)


def test_no_file_of_the_run_holds_a_secret_of_the_environment(site: Site) -> None:
    site.submit("--wait")

    files = [path for path in site.run.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if b"xyz-secret" in path.read_bytes()] == []


def _start(site: Site) -> subprocess.Popen[str]:
    return subprocess.Popen(
        site.argv("submit", str(site.run), "--launcher", "local", "--workers", "2", "--wait"),
        cwd=site.root,
        env=site.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _started(site: Site) -> int:
    return len(list(site.root.glob("started-*")))


def test_a_paused_run_starts_and_claims_nothing_and_resume_goes_on_where_it_was(site: Site) -> None:
    site.gate.touch()
    site.submit()
    wait_until(lambda: _started(site) >= 2, 60, on_timeout=site.logs)

    assert "2 workers told to save and end" in site.call("pause", str(site.run), "--reason", "a demo")
    wait_until(lambda: not site.workers(), 60, on_timeout=site.logs)
    status = site.status()
    assert (status["pending"], status["running"]) == (TRIALS, 0)
    assert "a demo" in status["notes"][0]
    site.gate.unlink()

    site.layout.stop.write_text("3 trials in a row failed\n")
    site.call("submit", str(site.run), "--launcher", "local", code=2)
    assert site.layout.stop.exists()
    assert "resume" in site.call("work", str(site.run), code=2)
    token = submissions(site.layout)[0].token
    site.call("work", str(site.run), "--token", token, "--seat", "local:0")
    assert "already paused by" in site.call("pause", str(site.run))
    assert len(os.listdir(site.layout.workers)) == 2
    assert site.status()["pending"] == TRIALS

    assert "no longer paused; 2 workers submitted" in site.call("resume", str(site.run))
    wait_until(lambda: site.status()["done"] == TRIALS, 60, on_timeout=site.logs)
    assert "not paused" in site.call("resume", str(site.run))
