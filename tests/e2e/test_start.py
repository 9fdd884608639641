"""Where points come from, through the command line: imports, catalogs, warm starts; planned and run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.command_line import TRAIN, Desk
from tests.unit.test_sequifier import LARGE_MODEL, LARGE_OUTER, LARGE_TRAINING, old

CATALOG = """
name: ranker
trial: train.py:train
metric: {name: acc, goal: max}
fixed: {x: 1, epochs: 3}
catalog:
  modes: {quick: [small, large]}
  experiments: {base: {}, small: {x: 2}, large: {x: 5}}
strategy: {catalog: {mode: quick}}
heartbeat: 0.5
lease: 10
"""
WARM = """
name: warm
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: {int: [1, 4]}}
fixed: {epochs: 9}
points: [{run: runs/ranker, top: 2}, {x: 4}]
strategy: {sobol: {points: 3}}
"""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.write("train.py", TRAIN)
    return desk


def test_imported_search_plans_with_the_count_that_was_told(desk: Desk) -> None:
    desk.write("old.yaml", old(LARGE_MODEL, LARGE_TRAINING, **LARGE_OUTER).decode())
    said = desk("import", "old.yaml", "-o", "search.yaml")
    assert said.code == 0, said.all
    assert "old.yaml: a grid of 2,560 points" in said.out
    assert "next: hpc-search plan search.yaml" in said.out
    planned = desk("plan", "search.yaml")
    assert planned.code == 0, planned.all
    assert "2,560 points x 1 seed = 2,560 trials" in planned.out
    # The same again changes nothing; another file is not written over.
    assert desk("import", "old.yaml", "-o", "search.yaml").code == 0
    refused = desk("import", "old.yaml", "-o", "old.yaml")
    assert (refused.code, "old.yaml is there already" in refused.err) == (2, True)


def test_import_without_a_file_prints_it_and_tells_the_rest_beside(desk: Desk) -> None:
    desk.write("old.yaml", old().decode())
    said = desk("import", "old.yaml", "--from", "sequifier", "--trial", "models.net:fit")
    assert said.out.startswith("# Imported from")
    assert 'trial: "models.net:fit"' in said.out
    assert "old.yaml: a grid of 1 point\n" in said.err
    assert "note: " in said.err


def test_catalog_runs_and_its_best_points_start_another_search(desk: Desk) -> None:
    desk.write("catalog.yaml", CATALOG)
    assert "1 point x" in desk("plan", "catalog.yaml", "--dry-run", "--experiments", "base").out
    assert "3 points x" in desk("plan", "catalog.yaml", "--dry-run", "--mode", "full").out
    wrong = desk("plan", "catalog.yaml", "--mode", "quik")
    assert (wrong.code, "did you mean 'quick'?" in wrong.err) == (2, True)
    said = desk("plan", "catalog.yaml")
    assert said.code == 0, said.all
    desk.go("ranker")
    assert "experiment" in desk("collect", "ranker").out
    results = desk.root / "runs" / "ranker" / "results"
    header, *rows = results.joinpath("results.csv").read_text().splitlines()
    place = header.split(",").index("param_experiment")
    assert sorted(row.split(",")[place] for row in rows) == ["large", "small"]
    best = json.loads(results.joinpath("best_hyperparams.json").read_text())
    assert best["params"] == {"experiment": "large", "x": 5, "epochs": 3}
    assert "large" in desk("show", "ranker", "1").out
    # 5 is out of its range: the point is left out, and the next best one comes.
    desk.write("warm.yaml", WARM)
    said = desk("plan", "warm.yaml")
    assert said.code == 0, said.all
    assert "points     2 given ones come first" in said.out
    assert "points of run runs/ranker, left out: point 1: x: 5 is not an integer between 1 and 4" in said.err
    desk.go("warm")
    first = desk.good("show", "warm", "0", "--yaml")
    assert "x: 2" in first
    assert "epochs: 9" in first
