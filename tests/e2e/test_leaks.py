"""Leaks that are planted: each is caught, by the plan, the worker, the trial, or the record of a test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hpc_search.collect import collect
from hpc_search.errors import EXIT_DAMAGED
from hpc_search.fsck import check_run
from hpc_search.layout import Layout
from hpc_search.ledger import history
from tests.e2e.command_line import Desk

SEARCH = """
name: leaks
trial: train.py:train
metric: {name: acc, goal: max}
space: {how: [helper, all rows, test side]}
strategy: grid
data: {index: data.csv, id: sample, label: y, group: patient, columns: [tissue]}
folds: {grouped: 2, test_share: 0.2}
retry: {error: 0}
stop_after: 0
heartbeat: 0.5
lease: 10
"""
#: Rows of the sides that are not trained on have values of another size: whoever looks at them shows it.
TRAIN = """
import numpy as np


def train(trial):
    ids = [f"s{row}" for row in range(40)]
    known = set(trial.split.train)
    values = np.array([[float(name in known) or 1e6] for name in ids])
    how = trial.params["how"]
    if how == "helper":
        scaler = trial.split.scaler(values, ids)
        trial.split.check(train=trial.split.train)
        return {"acc": float(scaler.center[0, 0])}
    if how == "all rows":
        trial.split.check(train=ids)
    return {"acc": float(len(trial.split.test))}
"""
ROWS = [(f"s{row}", row % 2, f"p{row // 4}", f"t{row % 5}") for row in range(40)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.write("search.yaml", SEARCH)
    made.write("train.py", TRAIN)
    made.write(
        "data.csv", "sample,y,patient,tissue\n" + "".join(f"{','.join(map(str, row))}\n" for row in ROWS)
    )
    return made


@pytest.mark.parametrize(
    ("folds", "words"),
    [
        ("{splitter: leaky:by_row}", "train and val share 10 groups, for example 'p0'"),
        ("{splitter: leaky:twice}", "train and val share 1 id, for example 's0'"),
        ("{grouped: 2, test_share: 0.2, apart: [tissue]}", "share 5 of tissue, for example 't0'"),
    ],
)
def test_a_split_that_breaks_its_promise_stops_the_plan(desk: Desk, folds: str, words: str) -> None:
    desk.write("search.yaml", SEARCH.replace("{grouped: 2, test_share: 0.2}", folds))
    desk.write(
        "leaky.py",
        """
        def by_row(table):
            even, odd = list(range(0, 40, 2)), list(range(1, 40, 2))
            return [(odd, even), (even, odd)]

        def twice(table):
            return [(list(range(20)), [0, *range(20, 40)])]
        """,
    )

    said = desk.refused("plan", "search.yaml", "--run", "r")

    assert words in said
    assert not (desk.root / "r").exists()


def test_validation_rows_that_were_put_into_a_training_manifest_stop_the_workers(desk: Desk) -> None:
    desk.good("plan", "search.yaml", "--run", "r")
    layout = Layout(desk.root / "r")
    train, val = (layout.split_manifest(0, side) for side in ("train", "val"))
    train.write_text(train.read_text() + val.read_text().partition("\n")[2])

    said = desk.go("r", code=1)

    assert "splits/fold_00/train.csv is not what was planned" in said.all
    assert b'"k":"start"' not in b"".join(file.data for file in history.journal_files(layout))
    assert "splits/fold_00/train.csv" in check_run(layout).text()


def test_normalising_by_other_rows_and_looking_at_the_test_side_fail_the_trial(desk: Desk) -> None:
    desk.good("plan", "search.yaml", "--run", "r")
    desk.go("r", code=1)
    layout = Layout(desk.root / "r")
    collect(layout)
    rows = [line.split(",") for line in layout.result("results.csv").read_text().splitlines()]
    columns = {name: at for at, name in enumerate(rows[0])}
    by = {(row[columns["param_how"]], row[columns["fold"]]): row for row in rows[1:]}
    # The mean of the training rows alone is 1.
    assert [by["helper", fold][columns["value"]] for fold in "01"] == ["1.0", "1.0"]
    assert {by[how, fold][columns["state"]] for how in ("all rows", "test side") for fold in "01"} == {
        "failed"
    }
    details = layout.result("attempts.csv").read_text()
    assert "of the validation side" in details
    assert "trial.split.test" in details


REFIT = (
    SEARCH.replace("[helper, all rows, test side]", "[helper]")
    + """
refit: {seeds: [0]}
test: train.py:evaluate
"""
)
EVALUATE = """

def evaluate(trial):
    state = {"sum": 0}
    assert trial.restore(state=state)
    return {"acc": len(trial.split.test) / 40}
"""


def test_a_test_side_is_opened_once_and_a_record_that_is_taken_away_is_missed(desk: Desk) -> None:
    desk.write("search.yaml", REFIT)
    saves = '    trial.save(1, state={"sum": 1})\n    ids = ['
    desk.write("train.py", TRAIN.replace("    ids = [", saves) + EVALUATE)
    desk.good("plan", "search.yaml", "--run", "r")
    desk.go("r")
    layout = Layout(desk.root / "r")
    desk.good("test", "r", "--yes")

    assert "the test side was opened" in desk.refused("test", "r", "--yes")
    collect(layout)
    for log in (layout.audit, layout.audit_fold(0)):
        events = [line.split(" | ")[1] for line in log.read_text().splitlines()]
        assert (events.count("test opened"), events.count("tested")) == (1, 1)

    desk.good("test", "r", "--yes", "--force", "a bug in the metric")
    collect(layout)
    assert '"a bug in the metric"' in layout.audit.read_text()
    assert "all of it verifies" in check_run(layout).text()

    # As if nobody had ever looked.
    shutil.rmtree(layout.vault)
    report = check_run(layout)
    assert report.exit_code == EXIT_DAMAGED
    assert "vault: its records are gone" in report.text()
