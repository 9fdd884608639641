"""The quickstart's search, from its file to its best hyperparameters."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.command_line import Desk
from tests.quickstart import CONFIG, TRIALS, Quickstart

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]


def test_the_plan_says_what_it_is(finished_quickstart: Quickstart) -> None:
    assert "18 points x 5 folds x 1 seed = 90 trials" in finished_quickstart.planned
    assert "learning_rate  3 values: 0.001, 0.003, 0.01" in finished_quickstart.planned
    assert "5 (stratified, shuffled by split seed 0)" in finished_quickstart.planned


def test_every_trial_is_done_and_the_best_mean_is_good(
    finished_quickstart: Quickstart, tmp_path: Path
) -> None:
    seen = json.loads(Desk(tmp_path).good("status", finished_quickstart.run, "--json"))
    assert (seen["trials"], seen["done"], seen["failed"], seen["pending"]) == (TRIALS, TRIALS, 0, 0)
    assert seen["best_point"]["mean"] >= 0.97
    assert seen["best_point"]["n"] == 5


def test_what_is_printed_has_the_best_with_mean_and_sd_and_the_files(finished_quickstart: Quickstart) -> None:
    said = finished_quickstart.collected
    assert "90 of 90 trials finished: 90 done, 0 failed, 0 pruned" in said
    found = re.search(
        r"best: point (\d+), val_acc = (0\.\d+) \+- (0\.\d+) \(mean and standard deviation over 5 folds", said
    )
    assert found is not None, said
    assert float(found[2]) >= 0.97
    assert 0 < float(found[3]) < 0.05
    assert "best_hyperparams.json" in said
    for name in ("learning_rate", "width", "weight_decay"):
        assert f"  {name}" in said


def test_the_results_agree_with_each_other(finished_quickstart: Quickstart) -> None:
    results = finished_quickstart.run / "results"
    best = json.loads((results / "best_hyperparams.json").read_text())
    summary = (results / "summary.csv").read_text().splitlines()
    assert len(summary) == 1 + 18
    assert len((results / "results.csv").read_text().splitlines()) == 1 + TRIALS
    assert best["mean"] >= 0.97
    assert best["n"] == 5


def test_a_second_call_reuses_everything(finished_quickstart: Quickstart, tmp_path: Path) -> None:
    run = finished_quickstart.run
    before = (run / "results/attempts.csv").read_text()
    desk = Desk(tmp_path)
    assert "already planned" in desk.good("plan", CONFIG, "--run", run)
    assert "nothing is left to do" in desk.good("submit", run, "--launcher", "local", "--wait")
    assert desk.good("collect", run).splitlines()[:4] == finished_quickstart.collected.splitlines()[:4]
    assert (run / "results/attempts.csv").read_text() == before
    assert before.count("\n") == 1 + TRIALS


def test_few_files_are_left(finished_quickstart: Quickstart) -> None:
    files = [path for path in finished_quickstart.run.rglob("*") if "reruns" not in path.parts]
    assert len(files) < 80
    assert not list(finished_quickstart.run.glob("checkpoints/*"))
