"""A search with nested, conditional, normalised and derived parameters, from its file to its results."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from tests.e2e.command_line import Desk

SEARCH = """
name: heads
trial: train.py:train
metric: {name: acc, goal: max}
space:
  n_head: [4, 6]
  n_kv_heads: [null, 2, 4]
  optimizer: [adamw, sgd]
  momentum: [0.5, 0.9]
  model:
    subspaces:
      cnn: {kernel: [3, 5]}
      linear:
when: {momentum: "optimizer == 'sgd'"}
normalise:
  n_kv_heads: {unless: "n_head % n_kv_heads == 0", to: null}
constraints: ["model == 'linear' or n_head == 4"]
derived: {dim: "64 * n_head"}
expect_points: 33
strategy: grid
heartbeat: 0.5
lease: 10
"""
TRAIN = """
def train(trial):
    params = trial.params
    kernel = params["model.cnn"]["kernel"] if params["model"] == "cnn" else 0
    return {"acc": params["dim"] + kernel + (params["n_kv_heads"] or 0) + params.get("momentum", 0)}
"""
PROGRAM = """
import json, os, sys
params = json.loads(os.environ["HPC_SEARCH_TRIAL"])["params"]
open(os.environ["HPC_SEARCH_REPORT"], "w").write(json.dumps({"acc": len(sys.argv) - 1, "n": len(params)}))
"""


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "runs/heads/results/results.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_point_that_the_rules_leave_runs_once_and_reads_what_it_has(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("search.yaml", SEARCH)
    desk.write("train.py", TRAIN)
    said = desk.good("plan", "search.yaml")
    assert "33 points" in said
    assert "normalise.n_kv_heads (line 16): " in said
    assert "n_head 6, n_kv_heads 4 -> null" in said
    assert "constraints[0] (line 17): " in said
    desk.go("heads")
    desk.good("collect", "heads")
    done = rows(tmp_path)
    # 3 pairs of heads with 4 for each of 3 models, 2 with 6 for one of them; and 3 optimizers.
    assert len(done) == 33 == (3 * 3 + 2) * 3
    assert {row["state"] for row in done} == {"done"}
    assert {row["param_momentum"] for row in done if row["param_optimizer"] == "adamw"} == {""}
    assert {row["param_n_kv_heads"] for row in done if row["param_n_head"] == "6"} == {"null", "2"}
    assert max(float(row["value"]) for row in done) == 64 * 6 + 2 + 0.9


def test_a_wrong_count_is_refused_with_the_true_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("search.yaml", SEARCH.replace("expect_points: 33", "expect_points: 72"))
    desk.write("train.py", TRAIN)
    said = desk.refused("plan", "search.yaml")
    assert "the search has 33 points, not 72" in said


def test_a_trial_that_never_reads_one_of_its_parameters_says_which(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("search.yaml", SEARCH + "stop_after: 0\n")
    desk.write("train.py", TRAIN.replace('params["model.cnn"]["kernel"]', "3"))
    desk.good("plan", "search.yaml")
    desk.go("heads", code=1)
    desk.good("collect", "heads")
    causes = {row["param_model"]: row["cause"] for row in rows(tmp_path)}
    assert causes == {"cnn": "noop", "linear": ""}
    assert "model.cnn.kernel" in desk.good("status", "heads")


def test_a_program_gets_arguments_only_for_what_its_point_has(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    arguments = ["--heads={n_head}:{n_kv_heads}", "--momentum", "{momentum}", "--kernel={model.cnn.kernel}"]
    command = json.dumps([sys.executable, "program.py", "{optimizer}", *arguments, "{model}"])
    desk.write("search.yaml", SEARCH.replace("trial: train.py:train", f"command: {command}"))
    desk.write("program.py", PROGRAM)
    desk.good("plan", "search.yaml")
    desk.go("heads")
    desk.good("collect", "heads")
    lengths = {(row["param_optimizer"], row["param_model"]): row["value"] for row in rows(tmp_path)}
    assert lengths == {
        ("adamw", "linear"): "3.0",
        ("adamw", "cnn"): "4.0",
        ("sgd", "linear"): "5.0",
        ("sgd", "cnn"): "6.0",
    }
