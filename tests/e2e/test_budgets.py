"""Budgets through the command line: an exact number of points, and hours that end a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records import journal
from tests.e2e.command_line import Desk

TRAIN = """
import time

def train(trial):
    time.sleep(0.2)
    return {"acc": trial.params["x"]}
"""
SEARCH = """
name: limited
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: {uniform: [0, 1]}}
strategy: {random: {points: 30}}
heartbeat: 0.5
lease: 10
"""


def planned(root: Path, *lines: str) -> Desk:
    desk = Desk(root)
    desk.write("search.yaml", "\n".join([SEARCH, *lines]) + "\n")
    desk.write("train.py", TRAIN)
    desk.good("plan", "search.yaml", "--run", "run")
    return desk


def status(desk: Desk) -> dict[str, Any]:
    found = json.loads(desk.good("status", "run", "--json"))
    assert isinstance(found, dict)
    return found


def records(desk: Desk, kind: type[journal.Record]) -> list[Any]:
    found = (journal.parse_line(line.data) for line in history.lines(Layout(desk.root / "run"), None))
    return [record for record in found if isinstance(record, kind)]


def test_a_search_ends_where_its_budget_is_used_up_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    desk = planned(tmp_path, "budget: {gpu_hours: 0.0004}")

    said = desk.go("run")

    assert "budget used up" in said.out
    assert "of 30 trials have ended" in said.out
    seen = status(desk)
    assert 0 < seen["done"] < 30
    # What ran went on to its end.
    assert seen["done"] + seen["pending"] == 30
    assert {record.reason for record in records(desk, journal.Exit)} == {"budget used up"}
    assert seen["budget"][0]["used"] >= seen["budget"][0]["limit"]

    again = desk.good("submit", "run", "--launcher", "local", "--workers", "1", "--wait")

    assert "nothing started: budget used up" in again
    assert "--amend" in again
    assert status(desk)["done"] == seen["done"]
    assert "budget used up" in desk.good("collect", "run")

    # What takes 0.2 s each is done in the hours of this one.
    desk.write("search.yaml", SEARCH + "budget: {gpu_hours: 1}\n")
    assert "budget.gpu_hours: 1 instead of 0.0004" in desk.good(
        "plan", "search.yaml", "--run", "run", "--amend"
    )
    # Whoever works by hand goes on as well, and status says nothing of the smaller one.
    desk.good("work", "run", "--trials", "1")
    assert status(desk)["done"] == seen["done"] + 1
    assert status(desk)["stopped"] is None
    desk.go("run")

    assert status(desk)["done"] == 30


def test_what_is_asked_for_is_all_that_runs_however_often_it_is_submitted(tmp_path: Path) -> None:
    desk = planned(tmp_path, "seeds: [0, 1]")
    desk.write("search.yaml", SEARCH.replace("points: 30", "points: 3"))
    desk.good("plan", "search.yaml", "--run", "run3")
    desk.go("run3")
    layout = Layout(tmp_path / "run3")
    claims = sum(1 for _ in history.lines(layout, frozenset({b"claim"})))

    desk.good("rerun", "run3", "1")
    desk.go("run3")
    desk.good("work", "run3")
    desk.good("plan", "search.yaml", "--run", "run3")

    assert sorted(history.results(layout)) == [0, 1, 2]
    assert sum(1 for _ in history.lines(layout, frozenset({b"claim"}))) == claims == 3
