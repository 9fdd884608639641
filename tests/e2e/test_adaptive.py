"""A search whose points are proposed, by the commands that a user gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.planning import load_plan
from hpc_search.steering.proposer import replay
from tests.e2e.command_line import Desk

TRAIN = """
def train(trial):
    rate = trial.params["rate"]
    momentum = trial.params["momentum"] if trial.params["optimizer"] == "sgd" else 0.5
    return {"loss": (rate - 0.3) ** 2 + (momentum - 0.9) ** 2, "size": 1 / rate}
"""
SEARCH = """
name: proposed
trial: train.py:train
{goal}
space:
  rate: {{log_uniform: [1e-3, 1]}}
  optimizer: [adam, sgd]
  momentum: {{uniform: [0, 1]}}
when: {{momentum: "optimizer == 'sgd'"}}
points: [{{rate: 0.5, optimizer: sgd, momentum: 0.25}}]
strategy: {strategy}
heartbeat: 0.5
lease: 10
"""
ONE = "metric: {name: loss, goal: min}"
SEVERAL = "objectives: [{name: loss, goal: min}, {name: size, goal: min}]"
#: Goes before everything that Python imports: Optuna is not installed.
WITHOUT = """
import importlib.machinery as machinery

find = machinery.PathFinder.find_spec
machinery.PathFinder.find_spec = staticmethod(
    lambda name, *more: None if name == "optuna" else find(name, *more)
)
"""


@pytest.mark.parametrize(
    ("goal", "strategy"),
    [
        (ONE, "{tpe: {points: 12, seed: 3, startup: 4}}"),
        (SEVERAL, "{nsga2: {points: 10, population: 4}}"),
    ],
)
def test_a_search_is_proposed_to_its_end_and_can_be_proposed_again(
    goal: str, strategy: str, tmp_path: Path
) -> None:
    desk = Desk(tmp_path)
    desk.write("train.py", TRAIN)
    desk.write("search.yaml", SEARCH.format(goal=goal, strategy=strategy))
    assert desk("plan", "search.yaml", "--run", "run").code == 0
    said = desk("submit", "run", "--launcher", "local", "--workers", "2", "--wait")
    assert said.code == 0, said.all

    points = int(strategy.split("points: ")[1].split(",", maxsplit=1)[0].rstrip("}"))
    layout = Layout(tmp_path / "run")
    results = history.results(layout)
    assert sorted(results) == list(range(points))
    assert results[0].end.params == {"rate": 0.5, "optimizer": "sgd", "momentum": 0.25}
    assert all(
        ("momentum" in one.end.params) == (one.end.params["optimizer"] == "sgd") for one in results.values()
    )
    found = replay(layout, load_plan(layout))
    # The first point was given.
    assert [one.equal for one in found] == [True] * (points - 1)

    again = desk("submit", "run", "--launcher", "local", "--wait")
    assert again.code == 0, again.all
    assert history.results(layout).keys() == results.keys()


def test_the_same_plan_with_one_worker_gives_the_same_trials_in_the_same_order(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("train.py", TRAIN)
    desk.write("search.yaml", SEARCH.format(goal=ONE, strategy="{tpe: {points: 9, startup: 3}}"))
    orders = []
    for run in ("a", "b"):
        assert desk("plan", "search.yaml", "--run", run).code == 0
        assert desk("work", run).code == 0
        ends = [json.loads(line.data) for line in history.lines(Layout(tmp_path / run), frozenset({b"end"}))]
        orders.append([(end["trial"], end["params"], end.get("value")) for end in ends])
    assert len(orders[0]) == 9
    assert orders[0] == orders[1]


def test_a_machine_without_the_library_is_told_its_name_and_loses_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("train.py", TRAIN)
    desk.write("search.yaml", SEARCH.format(goal=ONE, strategy="{tpe: {points: 4}}"))
    desk.write("without/sitecustomize.py", WITHOUT)
    path = desk.variables()["PYTHONPATH"]
    poor = Desk(tmp_path, environment={"PYTHONPATH": f"{tmp_path / 'without'}:{path}"})

    refused = poor("plan", "search.yaml", "--run", "run")
    assert refused.code == 2
    assert "search.yaml:11: strategy" in refused.err
    assert "strategy tpe needs the Python package optuna, which is not installed here" in refused.err
    assert "pip install 'hpc_search[optuna]'" in refused.err

    assert desk("plan", "search.yaml", "--run", "run").code == 0
    stopped = poor("work", "run")
    assert stopped.code == 75
    assert "strategy tpe needs the Python package optuna" in stopped.all
    assert "pip install 'hpc_search[optuna]'" in stopped.all

    assert desk("work", "run").code == 0
    assert len(history.results(Layout(tmp_path / "run"))) == 4


STAGED = """
name: staged
trial: train.py:train
metric: {name: loss, goal: min}
space: {x: {uniform: [-5, 10]}, y: {uniform: [0, 15]}}
strategy: {tpe: {points: 10}}
pruning: {median: {startup: 3, warmup: 0}}
stages:
  - {name: coarse, strategy: {tpe: {points: 10, startup: 4}}}
  - {name: fine, narrow: {stage: coarse, top: 0.3}, strategy: {tpe: {points: 8, startup: 3}}, seeds: [0, 1]}
heartbeat: 0.5
lease: 10
"""
CURVE = """
def train(trial):
    loss = (trial.params["x"] - 2) ** 2 + (trial.params["y"] - 3) ** 2
    for step in range(4):
        trial.report(step, loss=loss * (1 + 1 / (step + 1)))
    return {"loss": loss}
"""


def test_stages_that_narrow_and_trials_that_are_pruned_are_proposed_again_too(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("train.py", CURVE)
    desk.write("search.yaml", STAGED)
    assert desk("plan", "search.yaml", "--run", "run").code == 0
    said = desk("submit", "run", "--launcher", "local", "--workers", "2", "--wait")
    assert said.code == 0, said.all
    layout = Layout(tmp_path / "run")
    plan = load_plan(layout)
    assert len(history.results(layout)) == plan.trials == 10 + 8 * 2
    found = replay(layout, plan)
    assert [one.equal for one in found] == [True] * 18
    # Pruned points were seen, and each stage saw its own only.
    assert any("pruned" in one.entry.seen for one in found)
    assert found[10].entry.seen == ""
