"""`plan --amend`: additions change nothing that is planned; anything else is refused, with every reason."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from hpc_search import planning
from hpc_search.errors import DamagedError, UsageError
from hpc_search.fsck.check import examine
from hpc_search.layout import Layout
from hpc_search.planning import Numbering, amended, load_plan
from hpc_search.records.plan import Plan

HEAD = "name: example\ntrial: train.py:train\nmetric: {name: acc, goal: max}\n"
GRID = f"{HEAD}space: {{lr: [0.1, 0.2], width: {{int: [1, 3]}}}}\nstrategy: grid\nseeds: [0]\n"
RANDOM = (
    f"{HEAD}space: {{lr: {{uniform: [0, 1]}}, act: [a, b]}}\nstrategy: {{random: {{points: 4, seed: 3}}}}\n"
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text("def train(trial): pass\n")
    return tmp_path


def draft(base: Path, text: str) -> Plan:
    (base / "search.yaml").write_text(text)
    return planning.draft(base / "search.yaml").plan


def planned(base: Path, text: str) -> Layout:
    (base / "search.yaml").write_text(text)
    layout = Layout(base / "run")
    planning.build(planning.draft(base / "search.yaml"), layout)
    return layout


def grown(base: Path, before: str, after: str) -> tuple[Plan, Plan]:
    layout = planned(base, before)
    old = load_plan(layout)
    assert planning.amend(draft(base, after), layout) is not None
    return old, load_plan(layout)


def trials(plan: Plan) -> list[tuple[int, int | None, int, str, dict[str, Any]]]:
    numbering = Numbering(plan)
    found = (numbering(number) for number in range(plan.trials))
    return [(one.point, one.fold, one.seed, one.block, one.params) for one in found]


def refused(base: Path, before: str, after: str) -> str:
    layout = planned(base, before)
    with pytest.raises(UsageError) as error:
        planning.amend(draft(base, after), layout)
    assert load_plan(layout).number == 1
    return str(error.value)


def test_more_points_go_on_in_the_same_stream(base: Path) -> None:
    old, new = grown(base, RANDOM, RANDOM.replace("points: 4", "points: 9"))

    assert (new.points, new.trials, new.number) == (9, 9, 2)
    assert trials(new)[:4] == trials(old)
    fresh = draft(base, RANDOM.replace("points: 4", "points: 9"))
    assert [one[4] for one in trials(new)] == [one[4] for one in trials(fresh)]


def test_values_of_a_grid_add_the_new_combinations_alone(base: Path) -> None:
    wider = GRID.replace("[0.1, 0.2]", "[0.3, 0.1, 0.2]").replace("int: [1, 3]", "int: [0, 3]")
    old, new = grown(base, GRID, wider)

    assert trials(new)[:6] == trials(old)
    points = [(params["lr"], params["width"]) for *_, params in trials(new)]
    assert sorted(points) == sorted(itertools.product([0.1, 0.2, 0.3], range(4)))
    assert new.points == 12


def test_seeds_run_over_the_points_there_are(base: Path) -> None:
    old, new = grown(base, GRID, GRID.replace("seeds: [0]", "seeds: [7, 0, 5]"))

    assert trials(new)[:6] == trials(old)
    assert (new.points, new.trials) == (6, 18)
    by_point: dict[int, set[tuple[int, str]]] = {}
    for point, _, seed, _, params in trials(new):
        by_point.setdefault(point, set()).add((seed, str(params)))
    assert {point: {seed for seed, _ in one} for point, one in by_point.items()} == {
        point: {0, 5, 7} for point in range(6)
    }
    assert all(len({params for _, params in one}) == 1 for one in by_point.values())
    assert sorted(Numbering(new).of_point(2)) == [2, 10, 11]


def test_points_and_seeds_together_make_every_combination_once(base: Path) -> None:
    after = RANDOM.replace("points: 4", "points: 6") + "seeds: [0, 1]\n"
    old, new = grown(base, RANDOM, after)

    assert trials(new)[:4] == trials(old)
    assert sorted((point, seed) for point, _, seed, *_ in trials(new)) == [
        (point, seed) for point in range(6) for seed in (0, 1)
    ]


def test_points_go_on_in_the_same_stream_where_the_parameters_are_written_in_another_order(
    base: Path,
) -> None:
    before = RANDOM.replace("lr: {uniform: [0, 1]}, act: [a, b]", "lr: [1, 2, 3, 4], act: [a, b, c]")
    after = before.replace("lr: [1, 2, 3, 4], act: [a, b, c]", "act: [a, b, c], lr: [1, 2, 3, 4]")
    assert before not in (RANDOM, after)

    _, new = grown(base, before, after.replace("points: 4", "points: 12"))

    assert len({str(sorted(params.items())) for *_, params in trials(new)}) == 12


def test_a_stage_that_grows_beside_a_new_search_waits_for_the_stage_before_it(base: Path) -> None:
    stages = "[{name: one, strategy: {random: {points: 4}}}, {name: two, strategy: {random: {points: %d}}}]"
    start = RANDOM.replace("strategy: {random: {points: 4, seed: 3}}\n", f"stages: {stages % 3}\n")
    before = start + "searches:\n  a: {}\n  b: {}\n"
    after = start + f"searches:\n  a: {{}}\n  c: {{}}\n  b: {{stages: {stages % 5}}}\n"

    _, new = grown(base, before, after)

    needed = [(block, new.blocks[block.needs]) for block in new.blocks if block.needs is not None]
    assert [(block.part, block.points) for block, _ in needed] == [("a", 3), ("b", 3), ("b", 2), ("c", 3)]
    assert all((one.part, one.stage_name) == (block.part, "one") for block, one in needed)


def test_amending_twice_goes_on_from_the_amended_plan(base: Path) -> None:
    layout = planned(base, RANDOM)
    plans = [load_plan(layout)]
    for text in (
        RANDOM.replace("points: 4", "points: 6"),
        RANDOM.replace("points: 4", "points: 7") + "seeds: [0, 1]\n",
        RANDOM.replace("points: 4", "points: 7") + "seeds: [0, 1]\nbudget: {}\n".replace("budget: {}\n", ""),
    ):
        planning.amend(draft(base, text), layout)
        plans.append(load_plan(layout))

    assert [plan.number for plan in plans] == [1, 2, 3, 3]
    assert [plan.trials for plan in plans] == [4, 6, 14, 14]
    assert plans[-1].added == (4, 6)
    assert {plan.run_id for plan in plans} == {plans[0].run_id}
    # The seeds of trials come from it.
    assert {plan.search_id for plan in plans} == {plans[0].search_id}
    for old, new in itertools.pairwise(plans):
        assert trials(new)[: old.trials] == trials(old)
    assert not examine(layout).cases


def test_the_same_file_again_is_planned_already(base: Path) -> None:
    after = GRID.replace("seeds: [0]", "seeds: [0, 1]")
    layout = planned(base, GRID)
    assert planning.amend(draft(base, GRID), layout) is None
    assert planning.amend(draft(base, after), layout) is not None
    before = sorted(os.listdir(layout.root))

    assert planning.amend(draft(base, after), layout) is None
    assert planning.build(planning.draft(base / "search.yaml"), layout) is False
    assert sorted(os.listdir(layout.root)) == before


def test_settings_that_no_result_depends_on_may_change(base: Path) -> None:
    after = GRID + "description: more\nretry: {error: 2}\nmax_trials: 5000\nstall: 5 min\n"
    old, new = grown(base, GRID + "budget: {hours: 2}\n", after + "budget: {hours: 3}\n")

    assert trials(new) == trials(old)
    assert (new.added, new.search.retry.error, new.search.budget.hours) == ((), 2, 3.0)


def test_stages_and_searches_are_added_at_the_end(base: Path) -> None:
    before = f"{RANDOM}stages:\n  - {{name: coarse}}\n"
    after = before + "  - {name: again, strategy: {top: {points: 2, stage: coarse}}, seeds: [0, 1]}\n"
    old, new = grown(base, before, after)

    assert trials(new)[:4] == trials(old)
    assert (new.blocks[1].stage_name, new.blocks[1].needs, new.blocks[1].first) == ("again", 0, 4)


def test_a_search_is_added_to_several(base: Path) -> None:
    one = "searches:\n  a: {space: {x: [1, 2]}}\n"
    old, new = grown(base, RANDOM + one, RANDOM + one + "  b: {space: {y: [1, 2]}}\n")

    assert trials(new)[:4] == trials(old)
    assert [(block.part, block.first, block.first_point) for block in new.blocks] == [
        ("a", 0, 0),
        ("b", 4, 4),
    ]


def test_all_that_is_no_addition_is_told_at_once(base: Path) -> None:
    after = (
        RANDOM.replace("points: 4", "points: 3")
        .replace("uniform: [0, 1]", "uniform: [0, 2]")
        .replace("goal: max", "goal: min")
        + "seeds: [1]\nthreads: 2\nretry: {oom: {halve: act}}\nbudget: {hours: 1}\nheartbeat: 5\n"
    ).replace("retry: {oom: {halve: act}}\n", "")
    told = refused(base, RANDOM, after)

    for words in (
        "metric: values of different kinds",
        "space.lr: {uniform: [0.0, 1.0]} -> {uniform: [0.0, 2.0]}",
        "random.points: 3 instead of 4",
        "seeds: 0 cannot be taken out",
        "threads: values depend on it",
        "heartbeat: workers at work",
        "budget.hours: 1 is less than no limit",
    ):
        assert words in told, told


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (GRID, GRID.replace("[0.1, 0.2]", "[0.1, 0.3]"), "3 of the 6 points that are planned"),
        (GRID, GRID.replace("strategy: grid", "strategy: {random: {points: 6}}"), "only more points"),
        (GRID, GRID + 'constraints: ["lr * width < 0.5"]\n', "constraints: nothing ->"),
        (GRID, GRID.replace("name: example", "name: other"), "name: jobs and results"),
        (
            RANDOM,
            RANDOM.replace("seed: 3", "seed: 4"),
            "{random: {points: 4, seed: 3}} -> {random: {points: 4",
        ),
        (RANDOM, RANDOM.replace("act: [a, b]", "act: [a, b, c]"), "space.act: [a, b] -> [a, b, c]"),
        (RANDOM, RANDOM.replace("act: [a, b]", "act: [a, b], new: [1, 2]"), "space.new: nothing ->"),
        (RANDOM, RANDOM + "stages:\n  - {name: coarse}\n", "stages: only new ones at the end"),
        (RANDOM, RANDOM + "searches:\n  a: {}\n", "several are another plan"),
        (
            RANDOM + "stages:\n  - {name: a}\n  - {name: b, strategy: {top: {points: 1, stage: a}}}\n",
            RANDOM.replace("points: 4", "points: 5")
            + "stages:\n  - {name: a}\n  - {name: b, strategy: {top: {points: 1, stage: a}}}\n",
            "stages.a: later stages were planned from it",
        ),
    ],
)
def test_what_is_no_addition_is_refused_by_name(base: Path, before: str, after: str, words: str) -> None:
    assert words in refused(base, before, after)


def test_without_amend_a_changed_file_is_refused_and_told_of_it(base: Path) -> None:
    layout = planned(base, GRID)
    (base / "search.yaml").write_text(GRID.replace("seeds: [0]", "seeds: [0, 1]"))

    with pytest.raises(UsageError, match="holds another search") as error:
        planning.build(planning.draft(base / "search.yaml"), layout)
    assert "--amend" in error.value.hint
    assert "+seeds: [0, 1]" in str(error.value)


def test_of_two_amendments_at_once_the_later_one_begins_from_the_earlier(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = planned(base, RANDOM)
    first, second = (draft(base, RANDOM.replace("points: 4", f"points: {points}")) for points in (6, 9))
    read = load_plan
    others = iter([first])

    def overtaken(at: Layout) -> Plan:
        plan = read(at)
        for other in others:
            planning.amend(other, at)
        return plan

    monkeypatch.setattr("hpc_search.planning.amending.load_plan", overtaken)
    planning.amend(second, layout)
    monkeypatch.undo()

    plan = load_plan(layout)
    assert (plan.number, plan.trials, plan.added) == (3, 9, (4, 6))
    assert not amended(layout, plan)


def test_fsck_puts_back_what_an_amendment_wrote(base: Path) -> None:
    layout = planned(base, GRID)
    planning.amend(draft(base, GRID.replace("seeds: [0]", "seeds: [0, 1]")), layout)
    right = {path: path.read_bytes() for path in (layout.later_plan(2), layout.later_digests(2))}
    layout.later_plan(2).write_bytes(b"torn")
    layout.later_search(2).unlink()

    found = examine(layout)

    assert found.plan is not None
    assert found.plan.trials == 12
    cases = {case.finding.path: case.content for case in found.cases}
    assert cases["plan.002.json"] == right[layout.later_plan(2)]
    assert "seeds: [0, 1]" in cases["search.002.yaml"].decode()


def test_a_run_whose_amended_plan_is_missing_is_not_taken_for_what_it_was_before(base: Path) -> None:
    layout = planned(base, GRID)
    planning.amend(draft(base, GRID.replace("seeds: [0]", "seeds: [0, 1]")), layout)
    layout.later_plan(2).unlink()

    with pytest.raises(DamagedError, match=r"plan\.002\.json is missing"):
        load_plan(layout)
    layout.later_digests(2).unlink()
    with pytest.raises(DamagedError, match=r"plan\.002\.json is missing"):
        planning.amend(draft(base, GRID.replace("seeds: [0]", "seeds: [0, 2]")), layout)
