"""A refit on a real cluster: `refit` adds it and submits it, and its states are tested from here."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hpc_search.planning import load_plan
from tests.slurm.cluster import Cluster
from tests.slurm.searches import Search, cancelled_at_the_end
from tests.waiting import wait_until

TRIAL: Final = """
def train(trial):
    state = {"sum": 0.0}
    for step in range(trial.restore(state=state), 2):
        state["sum"] += trial.params["x"]
        trial.save(step + 1, state=state)
    return {"acc": trial.params["x"]}

def evaluate(trial):
    state = {"sum": 0.0}
    assert trial.restore(state=state) == 2
    return {"acc": state["sum"]}
"""
SEARCH: Final = """
name: Refitted on SLURM
trial: trial.py:train
test: trial.py:evaluate
metric: {name: acc, goal: max}
space: {x: [1, 2]}
strategy: grid
heartbeat: 1
lease: 20
"""


def test_a_refit_is_submitted_as_the_search_was_and_tested_once(slurm: Cluster, tmp_path: Path) -> None:
    search = Search(slurm, tmp_path)
    search.write("trial.py", TRIAL)
    search.plan(SEARCH)
    run = str(search.layout.root)
    with cancelled_at_the_end(search):
        search.submit("--workers=1", mem="100M")
        wait_until(lambda: search.states() == {"done": 2}, 150, on_timeout=lambda: search)
        search.wait_for_the_end_of_all_jobs()
        said = search.call("refit", run, "--seeds", "2", "--workers", "2").stdout
        assert "point 1, the best of 2 complete points by acc (max)" in said
        assert "submitted" in said
        search.wait_for_the_end_of_all_jobs()
    assert search.status()["done"] == 4
    assert load_plan(search.layout).number == 2
    assert "already refitted" in search.call("refit", run, "--seeds", "2").stdout
    assert "test: acc = 4" in search.call("test", run, "--yes").stdout
