"""A run that is amended, through the command line: only what is new runs, and results are one table."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from pathlib import Path

import pytest

from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records import journal
from tests.e2e.command_line import Desk
from tests.waiting import wait_until

SEARCH = """
name: growing
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: {uniform: [0, 1]}, y: [1, 2]}
strategy: {random: {points: 4, seed: 1}}
heartbeat: 0.5
lease: 10
stop_after: 0
"""
TRAIN = """
import os, random, time
from pathlib import Path

def train(trial):
    gate = Path("gate")
    Path(f"started-{trial.number}").touch()
    while gate.exists():
        trial.alive()
        time.sleep(0.02)
    return {"acc": trial.params["x"] * trial.params["y"] + trial.seed + random.random()}
"""
MORE = SEARCH.replace("points: 4", "points: 6") + "seeds: [0, 1]\n"


@pytest.fixture(params=["lock", "exclusive"])
def desk(tmp_path: Path, request: pytest.FixtureRequest) -> Desk:
    desk = Desk(tmp_path)
    desk.write("search.yaml", SEARCH)
    desk.write("train.py", TRAIN)
    desk.good("plan", "search.yaml", "--run", "run")
    if request.param == "exclusive":
        layout = Layout(tmp_path / "run")
        layout.mode_exclusive.write_text("for this test\n")
        layout.open.mkdir(exist_ok=True)
    return desk


def rows(desk: Desk, name: str) -> list[dict[str, str]]:
    with (desk.root / "run" / "results" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def claims(desk: Desk) -> list[int]:
    found = history.lines(Layout(desk.root / "run"), frozenset({b"claim"}))
    records = (journal.parse_line(line.data) for line in found)
    return sorted(record.trial for record in records if isinstance(record, journal.Claim))


def test_only_the_new_trials_run_after_an_amendment(desk: Desk) -> None:
    desk.go("run")
    desk.good("collect", "run")
    before = {row["trial"]: row for row in rows(desk, "results.csv")}
    desk.write("search.yaml", MORE)
    assert "--amend" in desk.refused("plan", "search.yaml", "--run", "run")

    said = desk.good("plan", "search.yaml", "--run", "run", "--amend")

    assert "seeds 1 for the 4 points there are" in said
    assert "2 points more of random" in said
    assert "6 points, 12 trials" in said
    status = json.loads(desk.good("status", "run", "--json"))
    assert (status["trials"], status["done"], status["pending"]) == (12, 4, 8)
    desk.go("run")
    assert claims(desk) == list(range(12))
    collected = desk.good("collect", "run")
    assert "12 of 12 trials finished" in collected
    assert "6 of 6 points complete" in collected, "more seeds are no more points"
    after = {row["trial"]: row for row in rows(desk, "results.csv")}
    assert {trial: after[trial] for trial in before} == before
    summary = rows(desk, "summary.csv")
    assert {(row["n"], row["expected"], row["complete"]) for row in summary} == {("2", "2", "true")}
    assert len(summary) == 6
    assert "already planned" in desk.good("plan", "search.yaml", "--run", "run", "--amend")
    desk.good("fsck", "run")


def test_a_worker_at_work_goes_on_with_what_was_added(desk: Desk) -> None:
    (desk.root / "gate").touch()
    worker = subprocess.Popen(desk.argv("work", "run"), cwd=desk.root, env=desk.variables())
    try:
        wait_until(lambda: any(desk.root.glob("started-*")))
        desk.write("search.yaml", MORE)
        desk.good("plan", "search.yaml", "--run", "run", "--amend")
        os.unlink(desk.root / "gate")
        assert worker.wait(60) == 0
    finally:
        worker.kill()

    assert claims(desk) == list(range(12))
    assert json.loads(desk.good("status", "run", "--json"))["done"] == 12
    lines = history.lines(Layout(desk.root / "run"), frozenset({b"exit"}))
    reasons = {json.loads(line.data)["reason"] for line in lines}
    assert reasons == {"the plan was amended", "no work left"}


@pytest.mark.parametrize("desk", ["exclusive"], indirect=True)
def test_failures_are_taken_back_before_and_after_an_amendment(tmp_path: Path, desk: Desk) -> None:
    desk.write("train.py", TRAIN.replace("    gate =", "    int(Path('good').read_text())\n    gate ="))
    launch = ("--launcher", "local", "--workers", "1", "--wait")
    assert desk("submit", "run", "--resnapshot", *launch).code == 1
    desk.good("retry", "run")
    desk.write("search.yaml", MORE)
    desk.good("plan", "search.yaml", "--run", "run", "--amend")
    desk.go("run", code=1)
    assert json.loads(desk.good("status", "run", "--json"))["failed"] == 12

    (tmp_path / "good").write_text("1")
    desk.good("retry", "run")
    desk.go("run")

    assert json.loads(desk.good("status", "run", "--json"))["done"] == 12
    assert claims(desk) == sorted([*range(12), *range(12), *range(4)])
    desk.good("fsck", "run")


def test_the_audit_log_of_folds_from_before_an_amendment_is_whole_after_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("search.yaml", f"{SEARCH}data: {{index: data.csv, id: a}}\nfolds: {{kfold: 2, seed: 0}}\n")
    desk.write("train.py", TRAIN)
    desk.write("data.csv", "a\n1\n2\n3\n4\n")
    desk.good("plan", "search.yaml", "--run", "run")
    desk.go("run")
    desk.good("collect", "run")
    made = [line for line in Layout(tmp_path / "run").audit.read_text().splitlines() if "split made" in line]
    assert len(made) == 2

    desk.write("search.yaml", (tmp_path / "search.yaml").read_text().replace("points: 4", "points: 5"))
    desk.good("plan", "search.yaml", "--run", "run", "--amend")

    assert "all of it verifies" in desk.good("fsck", "run")
    desk.go("run")
    desk.good("collect", "run")
    assert made == [
        line for line in Layout(tmp_path / "run").audit.read_text().splitlines() if "split made" in line
    ]
