"""Stages of several searches by the command line: one `submit`, and they go from one to the next."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from hpc_search.layout import Layout
from tests.e2e.command_line import Desk

SEARCH = """
name: staged
metric: {name: acc, goal: max}
space: {x: {uniform: [0, 1]}, y: {log_uniform: [1e-4, 1]}, kind: [plain, odd]}
fixed: {epochs: 10}
heartbeat: 0.5
lease: 10
stop_after: 0
stages:
  - {name: sanity, strategy: {random: {points: 4}}, fixed: {epochs: 3}}
  - {name: coarse, strategy: {random: {points: 6, seed: 1}}, narrow: {stage: sanity, top: 0.5}}
  - {name: again, strategy: {top: {points: 2, stage: coarse}}, seeds: [0, 1]}
searches:
  left: {trial: train.py:left}
  right: {trial: train.py:right, metric: {name: loss, goal: min}}
expect_points: 24
"""
TRAIN = """
import os

def value(params):
    return params["x"] + params["y"] + len(params["kind"]) + params["epochs"]

def left(trial):
    if os.path.exists("bad") and trial.params["epochs"] == 3:
        raise ValueError("bad environment")
    return {"acc": value(trial.params)}

def right(trial):
    return {"loss": value(trial.params) + trial.seed}
"""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.write("search.yaml", SEARCH)
    made.write("train.py", TRAIN)
    return made


def status(desk: Desk) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(desk.good("status", "runs/staged", "--json"))
    return found


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def states(desk: Desk) -> dict[str, str]:
    return {f"{one['search']} {one['stage']}": one["state"] for one in status(desk)["stages"]}


def go(desk: Desk, code: int = 0) -> str:
    said = desk("submit", "runs/staged", "--launcher", "local", "--workers", "2", "--wait")
    assert said.code == code, said.all
    return said.out


def test_one_submit_goes_through_all_stages_of_all_searches(desk: Desk) -> None:
    assert "staged: 24 points, 28 trials" in desk.good("plan", "search.yaml")
    go(desk)
    seen = status(desk)
    assert (seen["state"], seen["done"], seen["waiting"], seen["closed"]) == ("finished", 28, 0, 0)
    assert set(states(desk).values()) == {"finished"}

    collected = json.loads(desk.good("collect", "runs/staged", "--json"))
    assert "all of it verifies" in desk.good("fsck", "runs/staged")
    shown = desk.good("show", "runs/staged", "4")
    assert "of staged, search right, stage sanity: point 4" in shown
    assert "result: loss = " in shown
    best = {one["name"]: one["best"] for one in collected["searches"]}
    assert {name: one["stage"] for name, one in best.items()} == {"left": "again", "right": "again"}
    # Their metrics differ.
    assert collected["best"] is None
    assert "several searches" in collected["reason"]
    results = Layout(desk.root / "runs/staged").results
    rows = table(results / "results.csv")
    assert [row["search"] for row in rows].count("left") == 14
    of_right = table(results / "right/summary.csv")
    assert [row["stage"] for row in of_right] == ["again"] * 2 + ["coarse"] * 6 + ["sanity"] * 4
    assert [row["rank"] for row in of_right] == [str(rank) for rank in range(1, 13)]
    named = json.loads((results / "best_hyperparams.json").read_text())["best"]
    assert named["right"]["point"] == best["right"]["point"] == int(of_right[0]["point"])
    assert json.loads((results / "left/best_hyperparams.json").read_text())["stage"] == "again"
    epochs = {row["stage"]: row["param_epochs"] for row in rows}
    assert epochs == {"sanity": "3", "coarse": "10", "again": "10"}
    assert "already planned" in desk.good("plan", "search.yaml")
    assert "nothing is left to do" in desk.good("submit", "runs/staged", "--launcher", "local")
    assert "all of it verifies" in desk.good("fsck", "runs/staged"), "the results of each search are known"

    shown = desk.good("show", "runs/staged", rows[-1]["trial"])
    assert f"trial {rows[-1]['trial']} of staged, search right, stage again: " in shown
    assert f"result: loss = {rows[-1]['value']}" in shown, "the metric is that of its search"
    told = json.loads(desk.good("show", "runs/staged", "0", "--json"))
    assert (told["search"], told["stage"]) == ("left", "sanity")


def test_a_search_that_fails_stops_alone_and_goes_on_when_it_was_put_right(desk: Desk) -> None:
    desk.write("bad", "")
    desk.good("plan", "search.yaml")
    assert "4 of 28 trials failed" in go(desk, code=1)
    seen = status(desk)
    assert (seen["state"], seen["done"], seen["failed"], seen["closed"]) == ("finished", 14, 4, 10)
    assert {name: state for name, state in states(desk).items() if name.startswith("left")} == {
        "left sanity": "finished",
        "left coarse": "stopped",
        "left again": "stopped",
    }
    assert any(
        note.startswith("search left stopped: stage sanity ended without a complete point (4 failed (error))")
        for note in seen["notes"]
    )
    said = desk("submit", "runs/staged", "--launcher", "local")
    assert "nothing is left to do" in said.out, "it stops again at once, and no worker is sent for that"
    assert status(desk)["closed"] == 10

    (desk.root / "bad").unlink()
    assert "will run again" in desk.good("retry", "runs/staged")
    go(desk)
    assert (status(desk)["done"], set(states(desk).values())) == (28, {"finished"})


def test_the_breaker_stops_only_the_search_that_fails_in_the_same_way(desk: Desk) -> None:
    desk.write("search.yaml", SEARCH.replace("stop_after: 0", "stop_after: 2"))
    desk.write("bad", "")
    desk.good("plan", "search.yaml")
    go(desk, code=1)
    seen = status(desk)
    assert seen["stopped"] is None
    assert seen["done"] == 14
    equal = "trials in a row failed in the same way (error: ValueError: bad"
    assert any(note.startswith("search left stopped: ") and equal in note for note in seen["notes"])


def test_a_failure_stops_all_searches_where_that_is_asked_for(desk: Desk) -> None:
    desk.write("search.yaml", SEARCH + "stop_on_error: true\n")
    desk.write("bad", "")
    desk.good("plan", "search.yaml")
    go(desk, code=1)
    seen = status(desk)
    assert seen["state"] == "stopped"
    assert seen["stopped"].startswith("search left: stage sanity ended without a complete point")
    assert seen["done"] < 14


def test_code_that_is_not_there_is_said_of_its_search(desk: Desk) -> None:
    desk.write("search.yaml", SEARCH.replace("train.py:right", "no.such:right"))
    assert "searches.right.trial: the module 'no.such' is not found" in desk.refused("plan", "search.yaml")
    desk.write("search.yaml", SEARCH.replace("train.py:right", "train.py:rigth"))
    assert "error: searches.right.trial: " in desk.refused("plan", "search.yaml")


def test_what_is_left_out_makes_another_search(desk: Desk) -> None:
    desk.good("plan", "search.yaml")
    refused = desk.refused("plan", "search.yaml", "--only", "right")
    assert "holds another search" in refused
    assert "-  left:" in refused
    assert "did you mean 'sanity'?" in desk.refused("plan", "search.yaml", "--skip-stage", "sanit")
    out = desk.good(
        *(
            "plan",
            "search.yaml",
            "--run",
            "runs/few",
            "--only",
            "right",
            "--skip-stage",
            "sanity",
            "--dry-run",
        )
    )
    assert "staged: 8 points, 10 trials" in out
    assert "left" not in out


def test_names_follow_one_option_or_one_each_before_or_behind_the_file(desk: Desk) -> None:
    desk.write("search.yaml", SEARCH.replace("expect_points: 24", "  third: {trial: train.py:left}"))
    for order in (
        "search.yaml --only left third --skip-stage sanity again",
        "search.yaml --only left --only third --skip-stage sanity --skip-stage again",
        "--only left third --skip-stage sanity again search.yaml",
        "--only left third --skip-stage sanity again -- search.yaml",
        "--only left --skip-stage sanity again --only third search.yaml",
    ):
        said = desk.good("plan", "--run", "runs/some", "--dry-run", *order.split())
        assert "staged: 12 points, 12 trials" in said, order
        assert ("search     left" in said, "search     third" in said, "right" in said) == (True, True, False)
    said = desk.refused("plan", "--only", "left", "third")
    assert "CONFIG is missing" in said
    assert "no search 'search.yml'" in desk.refused("plan", "search.yaml", "--only", "left", "search.yml")


def test_what_was_derived_stays_when_earlier_failures_run_again(desk: Desk) -> None:
    desk.write(
        "search.yaml",
        """
        name: staged
        trial: train.py:left
        metric: {name: acc, goal: max}
        space: {x: {uniform: [0, 1]}}
        stages:
          - {name: coarse, strategy: {random: {points: 5}}}
          - {name: fine, narrow: {stage: coarse, top: 0.5}, strategy: {random: {points: 2}}}
        """,
    )
    desk.write(
        "train.py",
        """
        import os

        def left(trial):
            if os.path.exists("bad") and trial.number < 3 and trial.params["x"]:
                raise ValueError("bad environment")
            return {"acc": trial.params["x"]}
        """,
    )
    desk.write("bad", "")
    desk.good("plan", "search.yaml")
    assert desk("work", "runs/staged").code == 0
    (desk.root / "bad").unlink()
    assert "what was derived without them stays as it is: stage fine" in desk.good("retry", "runs/staged")
    desk.good("work", "runs/staged")

    ran = desk.good("show", "runs/staged", "6")
    Layout(desk.root / "runs/staged").stage(1).write_text("damaged")
    desk.good("fsck", "runs/staged", "--repair")
    assert desk.good("show", "runs/staged", "6") == ran, "it shows what ran, not what waits for the stage"
    desk.good("submit", "runs/staged", "--launcher", "local")
    assert desk.good("show", "runs/staged", "6") == ran, "nor what would be derived now"
    assert "equal to the last bit" in desk.good("rerun", "runs/staged", "6")
