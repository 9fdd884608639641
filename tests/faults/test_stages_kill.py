"""Whoever opens a stage may be killed at any point: another one opens the same, and the search goes on."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from hpc_search import fsck
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.ledger.gates import Gates
from hpc_search.planning import load_plan
from hpc_search.steering import stages
from tests.faults.dying import killed_before
from tests.faults.site import TIMEOUT, Site

SEARCH: Final = """
name: staged
metric: {name: acc, goal: max}
space: {x: {uniform: [0, 1]}, y: {int: [1, 100]}}
heartbeat: 0.2
lease: 2
stages:
  - {name: coarse, strategy: {random: {points: 4}}}
  - {name: fine, strategy: {random: {points: 3}}, narrow: {stage: coarse, top: 0.5}}
  - {name: again, strategy: {top: {points: 2, stage: fine}}, seeds: [0, 1]}
searches:
  left: {trial: train.py:train}
  right: {trial: train.py:train, metric: {name: acc, goal: min}}
"""
TRAIN: Final = """
def train(trial):
    return {"acc": trial.params["x"] * trial.params["y"]}
"""
MOMENTS: Final = ("ended, not sealed", "sealed, not derived", "derived, not published", "published")
#: Everything that changes what is on disk, or makes it last.
_CALLS: Final = ("open", "write", "fsync", "link", "unlink", "rename", "mkdir")
#: Of two searches the stages after the first.
OPENED: Final = 4


def opened(layout: Layout) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(layout.stages.glob("*.json"))}


@pytest.mark.parametrize("claiming", ["lock", "exclusive"])
def test_a_worker_killed_at_each_moment_of_each_stage_changes_nothing(
    tmp_path: Path, claiming: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_SEARCH_CLAIMING", claiming)
    site = Site(tmp_path, SEARCH, TRAIN)
    seen: dict[str, bytes] = {}
    deaths = 0
    for moment in MOMENTS:
        command = [sys.executable, "-m", "tests.faults.killed_at", moment, "1", str(site.layout.root)]
        died = subprocess.run(command, check=False, timeout=TIMEOUT, capture_output=True)
        deaths += died.returncode == -signal.SIGKILL
        now = opened(site.layout)
        assert {name: now[name] for name in seen} == seen, "what was opened stays as it is"
        seen = now
    site.work()

    assert deaths == len(MOMENTS)
    assert len(opened(site.layout)) == OPENED
    assert {end.state for end in site.ends() if end.state != "pending"} == {"done"}
    assert len(site.results()) == site.run.plan.trials == 22
    assert fsck.check_run(site.layout).findings == ()


def test_a_kill_before_any_call_that_writes_leaves_the_same_stage_to_be_opened(tmp_path: Path) -> None:
    site = Site(tmp_path, SEARCH, TRAIN)
    # The first stage of both: the worker opens the next as it leaves, and that is taken back.
    subprocess.run(
        [sys.executable, "-m", "hpc_search", "work", str(site.layout.root), "--trials", "8"],
        check=True,
        timeout=TIMEOUT,
        stdout=subprocess.DEVNULL,
    )
    layout, plan, kept = site.layout, load_plan(site.layout), tmp_path / "kept"
    for path in (*layout.stages.iterdir(), *layout.seals.iterdir()):
        path.unlink()
    shutil.copytree(layout.root, kept)
    assert stages.advance(layout, plan, Gates(layout, plan)) == 2
    wanted, sealed = opened(layout), history.seals(layout)
    assert (len(wanted), len(sealed)) == (2, 8)

    for call in range(200):
        shutil.rmtree(layout.root)
        shutil.copytree(kept, layout.root)
        killed = killed_before(call, _CALLS, lambda: stages.advance(layout, plan, Gates(layout, plan)))
        stages.advance(layout, plan, Gates(layout, plan))
        assert opened(layout) == wanted
        assert history.seals(layout) == sealed
        if not killed:
            return
    pytest.fail("it never got to its end")
