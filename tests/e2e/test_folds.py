"""Folds by the command line: some of them alone, and splits and data that changed after the plan."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.e2e.command_line import Desk

SEARCH = """
name: folds
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [1, 2]}
strategy: grid
data: {index: data.csv, id: sample, label: y, path: file, root: files}
folds: {stratified: 3}
heartbeat: 0.5
lease: 10
"""
TRAIN = """
def train(trial):
    return {"acc": trial.params["x"] / len(trial.split.train)}
"""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.write("search.yaml", SEARCH)
    made.write("train.py", TRAIN)
    made.write("data.csv", "sample,y,file\n" + "".join(f"s{row},{row % 2},{row}.bin\n" for row in range(12)))
    for row in range(12):
        made.write(f"files/{row}.bin", "1234")
    made.good("plan", "search.yaml", "--run", "r")
    return made


def counts(desk: Desk) -> tuple[int, int, int]:
    found = json.loads(desk.good("status", "r", "--json"))
    return found["done"], found["pending"], found["failed"]


def untouched(desk: Desk) -> None:
    """Check that no trial was begun."""
    assert counts(desk) == (0, 6, 0)
    assert not os.listdir(desk.root / "r" / "checkpoints")


# -- some folds alone
def test_folds_are_submitted_alone_and_the_rest_later(desk: Desk) -> None:
    local = ("submit", "r", "--launcher", "local", "--workers", "2", "--wait")
    said = desk.good(*local, "--folds", "2", "0", "2")
    assert (
        "folds 0 2 have ended; 2 trials are left of other folds; `hpc-search submit r` does the rest" in said
    )
    assert counts(desk) == (4, 2, 0)
    again = desk.good(*local, "--folds", "0")
    assert "nothing is left to do of folds 0" in again
    desk.good(*local)
    assert counts(desk) == (6, 0, 0)


def test_what_would_be_submitted_shows_the_folds(desk: Desk) -> None:
    for launcher, words in (("local", "work .*/r --folds 0 2 --token"), ("slurm", "work .*/r --folds 0 2 ")):
        said = desk.good("submit", "r", "--launcher", launcher, "--dry-run", "--folds", "2", "0")
        assert re.search(words, said), said
    assert "--folds" not in desk.good("submit", "r", "--launcher", "slurm", "--dry-run")
    assert ", folds 0 2" in desk.good("submit", "r", "--launcher", "slurm", "--dry-run", "--folds", "0", "2")


@pytest.mark.parametrize("verb", ["submit", "work"])
def test_fold_numbers_that_do_not_exist_are_refused_with_those_of_the_run(desk: Desk, verb: str) -> None:
    said = desk.refused(verb, "r", "--folds", "1", "3", "7")
    assert "--folds: no fold 3, 7; the run has 0 1 2" in said
    assert "'r' is not the number of a fold (write RUN before --folds)" in desk.refused(
        verb, "--folds", "1", "r"
    )
    plain = "\n".join(line for line in SEARCH.splitlines() if not line.startswith(("data", "folds")))
    desk.write("plain.yaml", plain)
    desk.write("train.py", TRAIN.replace("len(trial.split.train)", "2"))
    desk.good("plan", "plain.yaml", "--run", "plain")
    assert "the run has no folds" in desk.refused(verb, "plain", "--folds", "1")


# -- what changed since the plan
def test_a_manifest_that_was_edited_after_the_plan_stops_the_search_before_any_training(desk: Desk) -> None:
    path = desk.root / "r" / "splits" / "fold_01" / "val.csv"
    planned = path.read_bytes()
    train = (desk.root / "r" / "splits" / "fold_01" / "train.csv").read_text().splitlines()
    path.write_text(path.read_text() + train[-1] + "\n")
    said = desk.go("r", code=1).out
    assert "stopped: the folds are not those of the plan" in said
    assert "splits/fold_01/val.csv is not what was planned" in said
    assert "`hpc-search fsck RUN --repair`, then `submit RUN`" in said
    untouched(desk)
    desk("fsck", "r", "--repair")
    assert path.read_bytes() == planned
    desk.go("r")
    assert counts(desk) == (6, 0, 0)


def test_data_that_changed_after_the_plan_stop_the_search_with_the_difference(desk: Desk) -> None:
    table = desk.root / "data.csv"
    planned = table.read_text()
    desk.write("data.csv", planned.replace("s3,1,", "s3,0,") + "s12,0,0.bin\n")
    said = desk.go("r", code=1).out
    assert "stopped: the data are not those of the plan" in said
    assert "1 row added: s12; " in said
    assert "1 label changed: s3 (1 -> 0)" in said
    assert "put back what was planned with" in said
    assert "cannot be imported" not in said
    assert "stopped: the data are not those of the plan" in desk.good("status", "r")
    untouched(desk)
    # The same rows in other bytes are the same data.
    table.write_bytes(planned.replace("\n", "\r\n").encode())
    desk.go("r")
    assert counts(desk) == (6, 0, 0)


def test_missing_files_and_files_of_another_size_are_named_before_any_training(desk: Desk) -> None:
    (desk.root / "files" / "4.bin").unlink()
    desk.write("files/7.bin", "12345")
    said = desk.go("r", code=1).out
    assert "1 is missing: '4.bin'; 1 file of another size: 7.bin (4 -> 5 bytes)" in said
    untouched(desk)


def test_where_the_data_s_place_is_not_there_that_is_noted_and_trials_run(desk: Desk) -> None:
    place = desk.root / "elsewhere"
    place.mkdir()
    # The package is kept in the run: nothing else of the place is needed.
    for name in ("search.yaml", "train.py", "data.csv", "files"):
        (desk.root / name).rename(place / name)
    moved = Desk(desk.root)
    moved.good("plan", "elsewhere/search.yaml", "--run", "q")
    place.rename(desk.root / "gone")
    moved.good("work", "q")
    found = json.loads(moved.good("status", "q", "--json"))
    assert found["done"] == 6
    journals = b"".join(path.read_bytes() for path in (desk.root / "q" / "workers").glob("*/journal.*"))
    assert b"data not compared" in journals


# -- words on what people do wrong
def test_plan_says_that_no_group_was_named_and_what_a_refit_does_not_have(desk: Desk) -> None:
    desk.write("search.yaml", SEARCH + "refit: true\n")
    said = desk.good("plan", "search.yaml", "--dry-run", "--run", "other")
    assert "groups     none: each row counts as independent of all others" in said
    assert "the chosen point again, on train+val; its split.val is empty" in said


def test_the_check_names_a_metric_that_the_first_report_does_not_have(desk: Desk) -> None:
    desk.write("train.py", "def train(trial):\n    trial.report(0, accuracy=trial.params['x'])\n")
    said = desk.good("plan", "search.yaml", "--check", "--run", "other")
    assert "it has accuracy, not the metric acc: the trial has to return that" in said


def test_a_search_without_a_complete_point_is_retried_before_it_is_submitted(desk: Desk) -> None:
    desk.write("search.yaml", SEARCH + "refit: true\n")
    desk.write(
        "train.py", "def train(trial):\n    assert trial.fold != 1, trial.params['x']\n    return 1.0\n"
    )
    desk.good("plan", "search.yaml", "--run", "other")
    desk("submit", "other", "--launcher", "local", "--workers", "1", "--wait")
    said = desk("status", "other").out
    assert "`retry RUN` lets what failed run again, then `submit RUN`" in said
    assert "next: hpc-search retry other" in said
    desk("retry", "other")
    assert "next: hpc-search submit other" in desk("status", "other").out
