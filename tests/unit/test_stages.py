"""Stages and searches of one plan: their numbers, what they wait for, and what is derived for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from hpc_search import planning
from hpc_search.config import parse_search
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.history import Result
from hpc_search.planning.blocks import blocks_of
from hpc_search.planning.describe import describe
from hpc_search.records.journal import End
from hpc_search.records.plan import Block, Plan
from hpc_search.records.stages import Opened
from hpc_search.space import Choice, Space, Uniform
from hpc_search.steering import stages
from hpc_search.steering.points import Points
from tests.ledger_run import LedgerRun

PLANS = Path(__file__).parents[1] / "plans"
SEARCH = """
name: x
trial: train.py:train
metric: {name: acc, goal: max}
space: {a: {uniform: [0, 100]}, b: [u, v, w]}
fixed: {epochs: 10}
stages:
  - {name: coarse, strategy: {random: {points: 4}}, fixed: {epochs: 3}}
  - {name: fine, strategy: {random: {points: 3}}, narrow: {stage: coarse, top: 0.5}, seeds: [0, 1]}
  - {name: again, strategy: {top: {points: 2, stage: fine}}, seeds: [0, 1, 2]}
searches:
  left: {}
  right: {metric: {name: loss, goal: min}}
"""
A = (40.0, 50.0, 60.0, 99.0)
B = ("u", "v", "u", "w")


def plan_of(text: str) -> Plan:
    search = parse_search(text.encode(), "s.yaml")
    blocks = blocks_of(search, ())
    points, trials = (sum(getattr(block, name) for block in blocks) for name in ("points", "trials"))
    return Plan(
        search_id="x", run_id="x-y", created=1.0, search=search, blocks=blocks, points=points, trials=trials
    )


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("multistage", {"": (8, 20, 50)}),
        ("maximal", {"criteria": 800, "evidence": 1200, "share": 600, "joint": 600}),
    ],
)
def test_the_examples_have_exactly_the_points_of_their_guide(name: str, points: dict[str, Any]) -> None:
    plan = planning.draft(PLANS / f"{name}.yaml").plan
    found = {
        part.name: [block.points for block in plan.blocks if block.part == part.name]
        for part in plan.search.parts
    }
    names = ("criteria", "evidence", "share", "joint")
    wanted = {search: list(points[""]) if "" in points else [points[search]] for search in names}
    assert found == wanted
    assert plan.trials == {"multistage": 312, "maximal": 3200}[name]
    assert all(len(part.space.searched) >= 20 for part in plan.search.parts) or name == "multistage"


def test_stages_come_one_after_the_other_over_all_searches() -> None:
    plan = plan_of(SEARCH)
    rows = [
        (block.part, block.stage_name, block.first, block.first_point, block.needs) for block in plan.blocks
    ]
    assert rows == [
        ("left", "coarse", 0, 0, None),
        ("right", "coarse", 4, 4, None),
        ("left", "fine", 8, 8, 0),
        ("right", "fine", 14, 11, 1),
        ("left", "again", 20, 14, 2),
        ("right", "again", 26, 16, 3),
    ]
    assert (plan.points, plan.trials) == (18, 32)
    assert len({block.digest for block in plan.blocks}) == len(plan.blocks)


def test_the_points_of_each_search_are_those_that_are_searched_and_its_refit_is_counted_apart() -> None:
    searched = "strategy: {random: {points: 4}}\nrefit: {seeds: 2}\n"
    searches = "searches: {left: {}, right: {seeds: [0, 1, 2]}}\n"
    text = describe(plan_of(SEARCH.partition("stages:")[0] + searched + searches), "runs/x", fresh=True)
    assert text.startswith("x: 8 points, 16 trials (+ 4 of the refit)\n")
    assert "search     left: 4 points x 1 seed = 4 trials (+ 2 of the refit)" in text
    assert "search     right: 4 points x 3 seeds = 12 trials (+ 2 of the refit)" in text
    assert text.count("refit   1 point, 2 trials: the chosen point again") == 2


def test_the_plan_says_what_each_stage_will_be() -> None:
    text = describe(plan_of(SEARCH), "runs/x", fresh=True)
    assert "search     left: 9 points, 16 trials" in text
    assert "coarse  4 points, 4 trials: random, points 4, seed 0; epochs 3" in text
    assert "bounds from the best 0.5 of stage coarse; seeds 0, 1" in text
    assert "again   2 points, 6 trials: the best 2 points of stage fine again; seeds 0, 1, 2" in text


def test_the_estimate_of_disk_says_whether_reports_are_in_it() -> None:
    pruned = "pruning: {asha: {max_steps: 27}}\n"
    texts = {
        name: describe(plan_of(text), "runs/x", fresh=True)
        for name, text in {
            "unknown": SEARCH,
            "median": f"{SEARCH}pruning: median\n",
            "some": SEARCH.replace("epochs: 3}}", "epochs: 3}, pruning: {asha: {max_steps: 27}}}"),
            "all": SEARCH + pruned,
            "patient": SEARCH + "pruning: {patient: {patience: 2, rule: {asha: {max_steps: 270}}}}\n",
        }.items()
    }
    disk = {name: next(row for row in text.splitlines() if "disk" in row) for name, text in texts.items()}
    for name in ("unknown", "median", "some"):
        assert "of records, without reports (160 B each) and checkpoints" in disk[name], name
    assert disk["unknown"] == disk["median"]
    assert "about 39.6 KiB of records" in disk["unknown"]
    assert "about 174.6 KiB of records, up to 27 reports a trial included, without checkpoints" in disk["all"]
    assert "about 1.4 MiB of records, up to 270 reports a trial included" in disk["patient"]


def ends(block: Block, values: list[list[float | None]]) -> dict[int, Result]:
    """Return the results of *block*: the values of each point, by seed; None for a failure."""
    found = {}
    for point, row in enumerate(values):
        for seed, value in enumerate(row):
            number = block.first + point * len(block.seeds) + seed
            params = {"a": A[point], "b": B[point], "epochs": 3}
            state, cause = ("done", "") if value is not None else ("failed", "error")
            end = End(trial=number, attempt=1, state=state, cause=cause, params=params, value=value)  # type: ignore[arg-type]
            found[number] = Result(end, "w", f"{number:016x}")
    return found


def test_a_narrowed_stage_has_the_bounds_of_the_best_by_the_goal_of_its_search() -> None:
    plan = plan_of(SEARCH)
    results = ends(plan.blocks[0], [[3.0], [2.0], [1.0], [0.0]]) | ends(
        plan.blocks[1], [[3.0], [2.0], [1.0], [None]]
    )
    left, right = stages.derived(plan, 2, results), stages.derived(plan, 3, results)
    assert left.space == Space({"a": Uniform(30, 60), "b": Choice(("u", "v"))}, (), {"epochs": 10})
    assert right.space.dimensions["a"] == Uniform(40, 70), "of three complete ones the lowest two"
    assert left.of == {number: f"{number:016x}" for number in range(4)}
    assert "from the best 2 of 4 complete points of stage coarse by acc (max)" in left.why
    assert "a [0, 100] -> [30, 60]" in left.why


def test_a_point_with_a_failed_seed_sets_no_bounds_and_comes_last() -> None:
    plan = plan_of(SEARCH)
    results = ends(plan.blocks[2], [[9.0, None], [2.0, 2.0], [3.0, 1.0]])
    again = stages.derived(plan, 4, results)
    assert [point["a"] for point in again.given] == [50.0, 60.0]
    assert {point["epochs"] for point in again.given} == {10}, "what this stage holds fixed"
    few = stages.derived(plan, 4, ends(plan.blocks[2], [[9.0, None], [2.0, 2.0], [None, 1.0]]))
    assert [point["a"] for point in few.given] == [50.0, 40.0], "as many points as were planned"


def test_a_top_stage_has_as_many_points_as_were_planned_whatever_became_of_those_it_takes() -> None:
    plan = plan_of(SEARCH)
    results = ends(plan.blocks[2], [[9.0, 9.0], [2.0, 2.0], [3.0, 1.0]])
    skipped = {
        number: one._replace(end=structs.replace(one.end, state="pruned", params={}, value=None))
        for number, one in results.items()
        if number >= plan.blocks[2].first + 2
    }
    opened = stages.derived(plan, 4, results | skipped)
    assert opened.given[0]["a"] == 40.0
    assert [sorted(point) for point in opened.given] == [["a", "b", "epochs"]] * 2
    assert "the best 1 points of stage fine by acc (max), and 1 random ones" in opened.why

    fixed = plan_of(SEARCH.replace("seeds: [0, 1, 2]}", "fixed: {a: 1}}"))
    equal = stages.derived(fixed, 4, ends(fixed.blocks[2], [[9.0, 9.0], [2.0, 2.0], [9.0, 9.0]]))
    assert equal.given[0] == {"b": "u", "a": 1, "epochs": 10}
    assert len({point["b"] for point in equal.given}) == 2, "no point twice"


def test_what_is_derived_does_not_depend_on_the_order_of_results() -> None:
    plan = plan_of(SEARCH)
    results = ends(plan.blocks[0], [[1.0], [1.0], [1.0], [0.0]])
    assert stages.derived(plan, 2, dict(reversed(results.items()))) == stages.derived(plan, 2, results)


def test_a_trial_of_a_stage_that_waits_is_not_known_until_it_opens(tmp_path: Path) -> None:
    plan = plan_of(SEARCH)
    run = LedgerRun(tmp_path / "run")
    points, gates = Points(run.layout, plan), Gates(run.layout, plan)
    assert points(0).known
    assert (points(8).known, points(8).params, points(20).known) == (False, {}, False)
    space = Space({"a": Uniform(30, 60), "b": Choice(("u",))}, (), {"epochs": 10})
    gates.publish(Opened(block=2, space=space))
    gates.publish(Opened(block=4, space=space, given=({"a": 1.0, "b": "u"}, {"a": 2.0, "b": "u"})))
    first = points(8)
    assert first.known
    assert 30 <= first.params["a"] <= 60
    assert first.params["b"] == "u"
    assert [points(number).params["a"] for number in range(20, 26)] == [1.0] * 3 + [2.0] * 3
    assert not points(14).known
    run.close()
