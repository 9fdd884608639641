"""`retry` and `skip` killed at any moment, then repeated: what was ordered holds once, nothing is damaged."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpc_search import fsck
from hpc_search.ledger import retries
from tests.faults.site import TIMEOUT, Site
from tests.waiting import wait_until

SEARCH = """
name: ordered
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [0, 1, 2, 3, 4, 5]}
strategy: grid
stop_after: 0
retry: {error: 0}
heartbeat: 0.2
lease: 2
"""
TRAIN = """
import os

def train(trial):
    if trial.params["x"] % 2 and os.path.exists("bad"):
        raise ValueError("bad environment")
    return {"acc": 1.0}
"""
KILLS = 6


@pytest.mark.parametrize("claiming", ["lock", "exclusive"])
def test_orders_that_are_killed_and_repeated_hold_once(
    tmp_path: Path, claiming: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_SEARCH_CLAIMING", claiming)
    site = Site(tmp_path, SEARCH, TRAIN)
    bad = tmp_path / "bad"
    bad.touch()
    site.work()
    bad.unlink()
    assert [end.trial for end in site.ends() if end.state == "failed"] == [1, 3, 5]

    rng = random.Random(claiming)
    for verb in (("retry", "--reason", "mended"), ("skip", "3")):
        command = [sys.executable, "-m", "hpc_search", verb[0], str(site.layout.root), *verb[1:]]
        for _ in range(KILLS):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.15, 0.6))
            process.kill()
            process.wait(TIMEOUT)
        assert subprocess.run(command, check=False, timeout=TIMEOUT).returncode == 0
    site.work()

    results = site.results()
    assert {trial: one.end.state for trial, one in results.items()} == {
        **dict.fromkeys(range(6), "done"),
        3: "pruned",
    }
    # A kill may leave a file that was never published beside it.
    assert list(retries.names(site.layout)) == [1]
    assert [one.what for one in fsck.check_run(site.layout).findings if one.level == "damaged"] == []


def test_a_skipped_trial_that_does_not_hear_is_killed(tmp_path: Path) -> None:
    command = """
    name: deaf
    command: [sh, -c, "trap '' TERM; while :; do sleep 0.1; done", sh, "{x}"]
    metric: {name: acc, goal: max}
    space: {x: [0]}
    strategy: grid
    heartbeat: 0.2
    lease: 2
    """
    site = Site(tmp_path, command)
    with site.worker() as worker:
        wait_until(lambda: site.states() == ["running"], timeout=TIMEOUT)
        subprocess.run([sys.executable, "-m", "hpc_search", "skip", str(site.layout.root), "0"], check=True)
        assert worker.wait(TIMEOUT) == 0
    assert site.states() == ["pruned"]
