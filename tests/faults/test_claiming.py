"""The same guarantees where locks are refused, lie, or are not used from the start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpc_search.ledger import history, mode
from hpc_search.mounts import VARIABLE
from hpc_search.records import journal as lines
from tests.faults.site import TIMEOUT, Site
from tests.waiting import wait_until

SEARCH = """
name: claims
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: {int: [1, 40]}}
strategy: grid
save_interval: 0
heartbeat: 0.2
lease: 20
"""
TRAIN = """
import os, time
from pathlib import Path

def train(trial):
    root = Path(os.environ["HPC_TEST_ROOT"])
    if trial.number == 3 and (root / "gate").exists():
        (root / "pid").write_text(str(os.getpid()))
        while True:
            trial.alive()
            time.sleep(0.01)
    return {"acc": trial.params["x"]}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv(VARIABLE, "exclusive")
    return Site(tmp_path, SEARCH, TRAIN)


def values(site: Site) -> list[float | None]:
    return [result.end.value for _, result in sorted(site.results().items())]


def command(site: Site, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hpc_search", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        env={**os.environ, "HPC_TEST_ROOT": str(site.root)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_workers_without_locks_run_every_trial_once(site: Site) -> None:
    with site.worker() as one, site.worker() as two:
        assert (one.wait(TIMEOUT), two.wait(TIMEOUT)) == (0, 0), site.said()
    assert values(site) == list(range(1, 41))
    assert len(site.ends()) == 40
    assert not site.layout.claims.exists()
    assert not site.layout.claims_lock.exists()


def test_every_verb_reads_a_run_without_an_index(site: Site) -> None:
    site.work()
    counts = json.loads(command(site, "status", str(site.layout.root), "--json"))
    assert (counts["trials"], counts["done"], counts["pending"]) == (40, 40, 0)
    assert "best" in command(site, "collect", str(site.layout.root))
    assert "nothing is left" in command(site, "submit", str(site.layout.root), "--launcher", "local")
    assert "done" in command(site, "show", str(site.layout.root), "7")
    assert "equal to the last bit" in command(site, "rerun", str(site.layout.root), "7")


def test_what_a_killed_worker_held_is_taken_over_without_locks(site: Site) -> None:
    site.gate.touch()
    with site.worker() as worker:
        site.trial_process()
        worker.kill()
        worker.wait()
    site.gate.unlink()
    site.work()
    assert values(site) == list(range(1, 41))
    assert [(end.state, end.cause) for end in site.ends(3)] == [("pending", "lost"), ("done", "")]
    assert [trial for trial in range(40) if len(site.ends(trial)) != 1] == [3]


def test_a_stopped_worker_gives_back_without_locks(site: Site) -> None:
    site.gate.touch()
    with site.worker() as worker:
        site.trial_process()
        worker.terminate()
        assert worker.wait(TIMEOUT) == 0, site.said()
    site.gate.unlink()
    site.work()
    assert values(site) == list(range(1, 41))


@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS", "EIO", "EOPNOTSUPP"])
def test_where_locks_are_refused_trials_are_claimed_by_exclusive_names(tmp_path: Path, error: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace on this machine")
    site = Site(tmp_path, SEARCH, TRAIN)
    assert site.run.plan.claiming == "lock"
    inject = ["-e", f"inject=flock:error={error}", "-e", "trace=flock"]
    argv = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        *inject,
        sys.executable,
        "-m",
        "hpc_search",
        "work",
        str(site.layout.root),
    ]
    env = {**os.environ, "HPC_TEST_ROOT": str(site.root)}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=TIMEOUT, env=env)
    assert done.returncode == 0, done.stderr
    assert values(site) == list(range(1, 41))
    assert "refuses locks" in mode.why_exclusive(site.layout)
    notes = [lines.parse_line(line.data) for line in history.lines(site.layout, frozenset({b"note"}))]
    events = [note.event for note in notes if isinstance(note, lines.Note)]
    assert "claiming by exclusively created names" in events
    # It never goes back.
    site.work()
    assert len(site.ends()) == 40


def test_a_worker_that_uses_locks_changes_over_when_the_run_does(tmp_path: Path) -> None:
    site = Site(tmp_path, SEARCH, TRAIN)
    site.gate.touch()
    with site.worker() as worker:
        site.trial_process()
        mode.require_exclusive(site.layout, "doctor said so")
        wait_until(lambda: "exclusive" in beats(site), timeout=TIMEOUT)
        site.trial_process().kill()
        site.gate.unlink()
        assert worker.wait(TIMEOUT) == 0, site.said()
    site.work()
    assert [end.state for end in site.ends(3)][-1] in ("failed", "done")
    assert len(site.results()) == 40


def beats(site: Site) -> str:
    return "".join(path.read_text() for path in site.layout.workers.glob("*/heartbeat"))
