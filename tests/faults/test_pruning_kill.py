"""Early stopping with workers and trials that are killed at any moment: nothing changes, all of it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from hpc_search.fsck import check_run
from hpc_search.ledger import history
from hpc_search.mounts import Claiming
from hpc_search.records import journal as lines
from tests.faults.site import TIMEOUT, Site

ROOT = Path(__file__).resolve().parents[2]
SEARCH = """
name: rungs
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [5, 3, 8, 1, 9, 2, 7, 6, 4]}
strategy: grid
pruning: {asha: {max_steps: 9, eta: 3}}
heartbeat: 0.2
lease: 20
"""
#: Values depend on every step and on the generator's state at each.
TRAIN = """
import random

def train(trial):
    state = {"sum": 0.0}
    start = trial.restore(state=state)
    for step in range(start, 9):
        state["sum"] += random.random() / 10 + trial.params["x"]
        trial.report(step, acc=state["sum"])
        trial.save(step + 1, state=state)
    return {"acc": state["sum"]}
"""
FOLDS = """
data: {index: data.csv, id: id, label: y}
folds: {kfold: 2}
"""


class Outcome(NamedTuple):
    """What became of a run: state and value of each trial, the curves, and what was decided."""

    ends: dict[int, tuple[str, float | None]]
    curves: dict[int, dict[int, dict[str, float]]]
    verdicts: set[tuple[int, int, str, float | None]]


def outcome(site: Site) -> Outcome:
    ends = {number: (str(one.end.state), one.end.value) for number, one in site.results().items()}
    curves: dict[int, dict[int, dict[str, float]]] = {}
    verdicts: set[tuple[int, int, str, float | None]] = set()
    for line in history.lines(site.layout, frozenset({b"report", b"verdict"})):
        record = lines.parse_line(line.data)
        if isinstance(record, lines.Report):
            known = curves.setdefault(record.trial, {}).setdefault(record.step, record.metrics)
            assert known == record.metrics
        elif isinstance(record, lines.Verdict):
            verdicts.add((record.trial, record.rung, record.decision, record.value))
    return Outcome(ends, curves, verdicts)


def site_of(root: Path, text: str = SEARCH, code: str = TRAIN) -> Site:
    root.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"s{number},{number % 2}\n" for number in range(12))
    (root / "data.csv").write_text(f"id,y\n{rows}")
    return Site(root, text, code)


def killed(site: Site, moment: str, count: int) -> None:
    """Run a worker that is killed, or whose trial is, at the call *count* of *moment*; say if it was not."""
    with (site.root / "worker.log").open("ab") as log:
        worker = subprocess.run(
            [sys.executable, "-m", "tests.faults.killed_at", moment, str(count), str(site.layout.root)],
            env={**os.environ, "HPC_TEST_ROOT": str(site.root)},
            cwd=ROOT,
            stdout=log,
            stderr=log,
            timeout=TIMEOUT,
            check=False,
        )
    assert worker.returncode == (0 if moment.startswith("trial") else -signal.SIGKILL), site.said()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return what becomes of the search when nothing happens to it."""
    site = site_of(tmp_path_factory.mktemp("undisturbed"))
    site.work()
    found = outcome(site)
    assert sorted(state for state, _ in found.ends.values()).count("done") >= 1
    assert {decision for _, _, decision, _ in found.verdicts} == {"continue", "pause", "promote"}
    return found


@pytest.mark.parametrize(
    ("moment", "count", "claiming"),
    [
        ("reported, not judged", 6, "lock"),
        ("judged, not told", 7, "lock"),
        # Its checkpoint is beyond the rung: it waits there, and does not train on.
        ("saved, not paused", 1, "lock"),
        ("paused, not marked", 1, "lock"),
        ("paused, not marked", 3, "exclusive"),
        ("promotion recorded, not owned", 1, "lock"),
        ("promoted, not started", 1, "lock"),
        ("promoted, not started", 1, "exclusive"),
        ("owned to be ended", 1, "lock"),
        ("owned to be ended", 1, "exclusive"),
        ("trial: judged, not told", 2, "lock"),
        ("trial: told", 5, "lock"),
    ],
)
def test_a_kill_changes_no_value_and_no_decision(
    moment: str,
    count: int,
    claiming: Claiming,
    undisturbed: Outcome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HPC_SEARCH_CLAIMING", claiming)
    site = site_of(tmp_path)
    killed(site, moment, count)
    site.work()
    assert outcome(site) == undisturbed
    assert not [finding for finding in check_run(site.layout).findings if finding.level != "note"]


def test_workers_killed_again_and_again_end_all_trials(undisturbed: Outcome, tmp_path: Path) -> None:
    site = site_of(tmp_path)
    moments = ["told", "judged, not told", "paused, not marked", "reported, not judged"]
    for turn in range(8):
        if len(site.results()) == 9:
            break
        killed(site, moments[turn % 4], 1 + turn % 2)
    site.work()
    assert outcome(site) == undisturbed
