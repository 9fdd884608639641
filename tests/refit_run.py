"""A search with a refit and a test, small enough to be run many times; each trial writes what it saw."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.e2e.command_line import Desk

SEARCH: Final = """
name: example
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [1, 2, 3]}
strategy: grid
data: {index: data.csv, id: sample, label: y}
folds: {stratified: 2, test_share: 0.25}
refit: {seeds: [0, 1]}
test: train.py:evaluate
heartbeat: 0.5
lease: 10
"""
#: The last point is the best; what was trained is the sum of its steps.
TRAIN: Final = """
def train(trial):
    state = {"sum": 0}
    for step in range(trial.restore(state=state), 3):
        state["sum"] += trial.params["x"]
        trial.save(step + 1, state=state)
    if trial.refit:
        assert not trial.split.val
        return {"rows": len(trial.split.train)}
    return {"acc": trial.params["x"] / 10 + len(trial.split.val) / 1000}


def evaluate(trial):
    state = {"sum": 0}
    step = trial.restore(state=state)
    assert (step, state["sum"], trial.params["x"], trial.testing) == (3, 9, 3, True), (step, state)
    right = [float(int(name[1:]) % 5 > 0) for name in trial.split.test]
    trial.report_samples(trial.split.test, right)
    return {"acc": sum(right) / len(right), "rows": len(right)}
"""
ROWS: Final = 96


def desk(root: Path, search: str = SEARCH, train: str = TRAIN) -> Desk:
    """Return a desk with the search in search.yaml; its run will be runs/example."""
    made = Desk(root)
    made.write("search.yaml", search)
    made.write("train.py", train)
    made.write("data.csv", "sample,y\n" + "".join(f"s{row},{row % 2}\n" for row in range(ROWS)))
    return made


def refitted(root: Path, search: str = SEARCH, train: str = TRAIN) -> Desk:
    """Return a desk whose search and refit are done."""
    made = desk(root, search, train)
    made.good("plan", "search.yaml")
    made.go("runs/example")
    return made
