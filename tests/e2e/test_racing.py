"""Folds that a race leaves out, by real workers: what is left, what is recorded, what goes along with it."""

from __future__ import annotations

import csv
import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from hpc_search import search
from hpc_search.collect import collect
from hpc_search.collect.verdicts import read_verdicts
from hpc_search.fsck import check_run
from hpc_search.ledger import rebuild
from hpc_search.mounts import Claiming
from hpc_search.progress import line
from hpc_search.search.trialtext import as_text
from tests.faults.site import TIMEOUT, Site

SEARCH = """
name: race
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [5, 3, 8, 1, 9, 2, 7, 6, 4]}
strategy: grid
data: {index: data.csv, id: id, label: y}
folds: {kfold: 5}
heartbeat: 0.2
lease: 20
"""
#: The fold's own difficulty, and noise of each training that is the same wherever it runs.
TRAIN = """
import random

def train(trial):
    x, fold, seed = trial.params["x"], trial.fold, trial.seed
    return {"acc": x / 10 + fold + random.Random(f"{x} {fold} {seed}").gauss(0, 0.02)}
"""
RACING = "racing: {error: 0.05}\n"
VALUES = (5, 3, 8, 1, 9, 2, 7, 6, 4)


def value(number: int) -> float:
    """Return what trial *number* of the search with one seed returns."""
    fold, point = divmod(number, 9)
    x = VALUES[point]
    return x / 10 + fold + random.Random(f"{x} {fold} 0").gauss(0, 0.02)


def site_of(root: Path, text: str = SEARCH + RACING, code: str = TRAIN) -> Site:
    root.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"s{number},{number % 2}\n" for number in range(20))
    (root / "data.csv").write_text(f"id,y\n{rows}")
    return Site(root, text, code)


def work(site: Site, workers: int) -> None:
    with ExitStack() as stack:
        running = [stack.enter_context(site.worker()) for _ in range(workers)]
        for worker in running:
            assert worker.wait(TIMEOUT) == 0, site.said()


def checked(site: Site) -> dict[int, tuple[str, float | None]]:
    """Return state and value of each trial, after fsck found nothing wrong."""
    assert not [finding for finding in check_run(site.layout).findings if finding.level != "note"]
    return {number: (str(one.end.state), one.end.value) for number, one in sorted(site.results().items())}


def numbers(found: dict[int, tuple[str, float | None]], state: str) -> set[int]:
    return {number for number, (its, _) in found.items() if its == state}


@pytest.mark.parametrize("claiming", ["lock", "exclusive"])
def test_four_workers_leave_folds_out_and_change_no_value_of_the_others(
    claiming: Claiming, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_SEARCH_CLAIMING", claiming)
    site = site_of(tmp_path)
    work(site, 4)
    found = checked(site)
    done, pruned = numbers(found, "done"), numbers(found, "pruned")
    assert done | pruned == set(range(45))
    # Of nine points most are far behind after two folds; the best one has all. Where no lock says who is
    # next, claims are not always in order: a point may have folds 0 and 2 when it is out.
    assert len(pruned) >= 12
    assert done >= {*range(9), *range(4, 45, 9)}
    assert all(len(done & {*range(point, 45, 9)}) >= 2 for point in range(9))
    assert {number: found[number][1] for number in done} == {number: value(number) for number in done}
    ends = [one.end for one in site.results().values()]
    lost = {end.point for one in read_verdicts(site.layout) for end in ends if end.trial == one.trial}
    assert {end.point for end in ends if end.left_out} == lost
    for end in (end for end in ends if end.state == "pruned"):
        assert end.detail.startswith("its point loses to point ")
        assert (end.value, end.metrics, end.started, end.left_out) == (None, {}, 0.0, True)


def test_a_race_is_collected_shown_and_counted(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    site.work()
    pruned = numbers(checked(site), "pruned")
    collected = collect(site.layout)
    assert (collected.pruned, collected.failed) == (len(pruned), 0)
    assert collected.best is not None
    assert (collected.best.params, collected.best.n) == ({"x": 9}, 5)
    assert collected.points_incomplete >= 4
    assert collected.left_out == len(pruned)
    assert f"{len(pruned)} left out by racing" in collected.text()
    seen = search.status(site.run)
    assert (seen.pruned, seen.left_out, seen.failed) == (len(pruned), len(pruned), 0)
    assert sum(fold.left_out for fold in seen.folds) == len(pruned)
    assert f"{45 - len(pruned)} done, 0 failed, {len(pruned)} left out by racing" in seen.text()
    assert f" failed, {len(pruned)} left out by racing" in line(seen)
    entries = rebuild.entries(site.layout, 45)[1]
    assert [entry.left_out for entry in entries] == [number in pruned for number in range(45)]
    rows = list(csv.DictReader(site.layout.result("verdicts.csv").read_text().splitlines()))
    assert {row["rule"] for row in rows} == {"race"}
    first = next(row for row in rows if row["trial"] == "21")
    assert [first[key] for key in ("rung", "step", "decision", "folds")] == ["", "", "prune", "0-1"]
    assert float(first["statistic"]) > float(first["threshold"]) > 0
    view = search.view_trial(site.run, 21)
    shown = as_text(site.run.plan, view)
    assert f"race: its point loses to point {first['against']}: by " in shown
    view = search.view_trial(site.run, 3)
    shown = as_text(site.run.plan, view)
    assert "result: acc = " in shown
    assert f"race: its point loses to point {first['against']}: by " in shown
    assert shown.count("(found before trial 21)") == 1
    summary = list(csv.DictReader(site.layout.result("summary.csv").read_text().splitlines()))
    complete = [row["point"] for row in summary if row["n"] == "5"]
    assert [row["point"] for row in summary[: len(complete)]] == complete


FAILS = """
def train(trial):
    if trial.params["x"] == 9 and trial.fold == 1:
        raise RuntimeError("this fold fails")
    return {"acc": trial.params["x"] / 10 + trial.fold + (trial.params["x"] * (trial.fold + 3)) % 7 / 100}
"""


def test_a_failed_fold_stops_nothing_else_and_its_point_beats_nobody(tmp_path: Path) -> None:
    site = site_of(tmp_path, code=FAILS)
    site.work(code=0)
    found = checked(site)
    assert numbers(found, "failed") == {13}
    # The failed point is run on, for the fold may be tried again; it is not the one that others lose to.
    assert numbers(found, "done") >= {*range(4, 45, 9)} - {13}
    races = [one.race for one in read_verdicts(site.layout) if one.race is not None]
    assert races
    assert 4 not in {race.against for race in races}
    best = collect(site.layout).best
    assert best is not None
    assert best.params == {"x": 8}


LATE = """
from pathlib import Path

def train(trial):
    if trial.params["x"] == 90 and trial.fold == 4 and not Path(__file__).with_name("good").exists():
        raise RuntimeError("the last fold fails")
    return {"acc": trial.params["x"] / 10 + trial.fold + (trial.params["x"] * (trial.fold + 3)) % 7 / 100}
"""


def test_where_the_point_that_all_lost_to_fails_later_a_retry_is_what_helps(tmp_path: Path) -> None:
    site = site_of(tmp_path, SEARCH.replace("9", "90") + RACING + "snapshot: none\n", LATE)
    site.work()
    found = checked(site)
    assert (numbers(found, "failed"), len(numbers(found, "pruned"))) == ({40}, 8 * 3)
    collected = collect(site.layout)
    assert collected.best is None
    assert collected.reason == (
        "no point is complete; trials without a value: 1 failed(error), 24 pruned (24 left out by racing, "
        "for their points lost to others); `hpc-search retry RUN` lets what failed run again"
    )
    assert collected.reason in collected.text()

    (tmp_path / "good").touch()
    search.retry(site.run, search.Again())
    site.work()
    best = collect(site.layout).best
    assert best is not None
    assert (best.params, best.n) == ({"x": 90}, 5)


@pytest.mark.parametrize("claiming", ["lock", "exclusive"])
def test_workers_of_some_folds_race_in_them_and_what_is_lost_stays_so_in_the_others(
    claiming: Claiming, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_SEARCH_CLAIMING", claiming)
    site = site_of(tmp_path)
    site.work(0, "--folds", "2", "4")
    found = checked(site)
    assert {*found} == {*range(18, 27), *range(36, 45)}, "two folds are run of every point"
    assert numbers(found, "done") == {*found}
    site.work(0, "--folds", "3")
    found = checked(site)
    lost = {number - 27 for number in numbers(found, "pruned")}
    assert len(lost) >= 4
    assert 4 not in lost
    said = search.status(site.run)
    assert [one.left_out for one in said.folds] == [0, 0, 0, len(lost), 0]
    site.work()
    found = checked(site)
    assert {*found} == {*range(45)}
    assert numbers(found, "pruned") >= {fold * 9 + point for fold in (0, 1, 3) for point in lost}
    assert {number: found[number][1] for number in numbers(found, "done")} == {
        number: value(number) for number in numbers(found, "done")
    }
    races = [one.race for one in read_verdicts(site.layout) if one.race is not None]
    assert {race.all_folds for race in races} == {5}
    assert all({*race.folds} >= {2, 4} for race in races)
    best = collect(site.layout).best
    assert best is not None
    assert (best.params, best.n) == ({"x": 9}, 5)


def test_what_an_amendment_adds_races_and_what_is_out_stays_out_with_more_seeds(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    site.work()
    before = checked(site)
    lost = {number % 9 for number in numbers(before, "pruned")}
    (tmp_path / "search.yaml").write_text(
        SEARCH.replace("4]}", "4, 10, 0]}") + RACING + "seeds: [0, 1]\n", encoding="utf-8"
    )
    search.amend_search(tmp_path / "search.yaml", str(site.layout.root))
    site.work()
    found = checked(site)
    assert {number: found[number] for number in before} == before
    assert len(found) == 11 * 5 * 2
    ends = [one.end for number, one in site.results().items() if number >= 45]
    assert {end.state for end in ends if end.params["x"] in {VALUES[point] for point in lost}} == {"pruned"}
    collected = collect(site.layout)
    assert collected.points == 11
    assert collected.best is not None
    assert (collected.best.params, collected.best.n) == ({"x": 10}, 10)
    # The last of the grid loses as the others did, to the new best or the old one.
    assert any(end.left_out for end in ends if end.params["x"] == 0)


def test_later_stages_have_the_complete_points_that_they_take(tmp_path: Path) -> None:
    site = site_of(tmp_path, f"{SEARCH}{RACING}seeds: {{first: [0], top: 3, more: [1, 2]}}\n")
    work(site, 2)
    found = checked(site)
    assert len(found) == 45 + 3 * 5 * 2
    done = numbers(found, "done")
    complete = [point for point in range(9) if done >= {*range(point, 45, 9)}]
    assert {4, 2, 6} <= set(complete)
    assert len(complete) < 9
    params = [one.end.params["x"] for number, one in site.results().items() if number >= 45]
    assert set(params) == {9, 8, 7}


def test_seeds_of_a_fold_are_one_value_and_go_with_it(tmp_path: Path) -> None:
    site = site_of(tmp_path, f"{SEARCH}{RACING}seeds: [0, 1]\n")
    work(site, 2)
    found = checked(site)
    pruned = numbers(found, "pruned")
    assert len(pruned) >= 20
    races = [one for one in read_verdicts(site.layout) if one.race is not None]
    for one in races:
        assert one.race is not None
        own = [
            value
            for number, (_, value) in found.items()
            if number // 18 in one.race.folds and number % 18 // 2 == one.trial % 18 // 2
        ]
        assert len(own) == 2 * len(one.race.folds)
        assert one.value == pytest.approx(sum(value for value in own if value is not None) / len(own))
        assert len(one.peers) == len(own)


CURVES = """
def train(trial):
    value = trial.params["x"] / 10 + (trial.params["x"] * (trial.fold + 3)) % 7 / 1000
    for step in range(4):
        trial.report(step, acc=value * (step + 1) / 4)
    return {"acc": value}
"""


def test_a_race_and_a_pruning_rule_go_together(tmp_path: Path) -> None:
    text = f"{SEARCH}{RACING}pruning: {{percentile: {{keep: 80, startup: 4}}}}\n"
    site = site_of(tmp_path, text, CURVES)
    work(site, 2)
    found = checked(site)
    assert len(found) == 45
    assert {one.rule for one in read_verdicts(site.layout)} >= {"race", "percentile"}
    best = collect(site.layout).best
    assert best is not None
    assert best.params == {"x": 9}


def test_each_search_of_a_plan_has_a_race_of_its_own(tmp_path: Path) -> None:
    text = SEARCH.replace("space: {x: [5, 3, 8, 1, 9, 2, 7, 6, 4]}\nstrategy: grid\n", "")
    searches = """
searches:
  one: {space: {x: [5, 3, 8, 1, 9, 2]}, strategy: grid}
  two: {space: {x: [50, 30, 80, 10, 90]}, strategy: grid}
"""
    site = site_of(tmp_path, text + RACING + searches)
    work(site, 2)
    found = checked(site)
    assert len(found) == 55
    races = [(one.trial < 30, one.race.against < 6) for one in read_verdicts(site.layout) if one.race]
    assert {*races} == {(True, True), (False, False)}
