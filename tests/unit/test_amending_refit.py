"""`plan --amend` with a refit, a test and a choice; a run that was refitted is still the run of its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search import durable, planning
from hpc_search.errors import UsageError
from hpc_search.planning import Numbering, load_plan
from hpc_search.planning.refitting import publish_refit
from hpc_search.records.plan import Plan
from hpc_search.records.search import RefitSpec
from tests.unit.test_amending import draft, planned

HEAD = "name: x\ntrial: train.py:train\nmetric: {name: acc, goal: max}\n"
DATA = "data: {index: data.csv, id: s, label: y}\n"
FOLDS = f"{DATA}folds: {{stratified: 3, test_share: 0.2}}\n"
SPACE = "space: {lr: {uniform: [0, 1]}, width: [1, 2]}\n"
RANDOM = f"{HEAD}{SPACE}strategy: {{random: {{points: 4, seed: 3}}}}\n{FOLDS}"
STAGED = (
    f"{HEAD}{SPACE}{FOLDS}stages:\n  - {{name: a, strategy: {{random: {{points: 4}}}}}}\n"
    "  - {name: b, strategy: {random: {points: 3}}}\n"
)
SEVERAL = (
    f"{HEAD}{SPACE}strategy: {{random: {{points: 4}}}}\n{FOLDS}searches:\n"
    "  left: {}\n  right: {strategy: {random: {points: 2}}}\n"
)
NESTED = RANDOM.replace("{stratified: 3, test_share: 0.2}", "{nested: {outer: 3, inner: {stratified: 2}}}")
REFIT = "refit: {seeds: [0, 5]}\n"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text("def train(trial): pass\ndef evaluate(trial): pass\n")
    rows = "".join(f"s{one},{one % 2}\n" for one in range(30))
    (tmp_path / "data.csv").write_text(f"s,y\n{rows}")
    return tmp_path


def rows(plan: Plan, count: int) -> list[object]:
    return [Numbering(plan)(number) for number in range(count)]


@pytest.mark.parametrize(
    ("text", "trials"),
    [(RANDOM, 2), (STAGED, 2), (SEVERAL, 4), (NESTED, 6)],
    ids=["one", "staged", "two", "nested"],
)
def test_a_refit_is_added_and_no_number_moves(base: Path, text: str, trials: int) -> None:
    layout = planned(base, text)
    old = load_plan(layout)
    done = planning.amend(draft(base, text + REFIT), layout)
    assert done is not None
    new = load_plan(layout)
    assert (new.number, new.trials) == (2, old.trials + trials)
    assert new.blocks[: len(old.blocks)] == old.blocks
    assert rows(new, old.trials) == rows(old, old.trials)
    fresh = draft(base, text + REFIT)
    blocks = [one for one in new.blocks if one.refit]
    assert [one.digest for one in blocks] == [one.digest for one in fresh.blocks if one.refit]
    assert [(one.folds, one.outer, one.seeds) for one in blocks] == [
        (one.folds, one.outer, one.seeds) for one in fresh.blocks if one.refit
    ]
    assert planning.amend(draft(base, text + REFIT), layout) is None


@pytest.mark.parametrize("text", [RANDOM, STAGED])
def test_a_refit_follows_a_stage_that_was_itself_amended(base: Path, text: str) -> None:
    layout = planned(base, text)
    more = text.replace("points: 4, seed", "points: 6, seed").replace("points: 3", "points: 5")
    assert planning.amend(draft(base, more), layout) is not None
    assert planning.amend(draft(base, more + REFIT), layout) is not None
    plan = load_plan(layout)
    (refit,) = (one for one in plan.blocks if one.refit)
    ranked = [place for place, one in enumerate(plan.blocks) if one.stage == refit.stage - 1]
    assert len(ranked) == 2
    assert refit.needs == ranked[-1]


def test_seeds_of_a_planned_refit_are_added_to_the_same_point(base: Path) -> None:
    layout = planned(base, RANDOM + REFIT)
    assert planning.amend(draft(base, RANDOM + "refit: {seeds: [0, 5, 9]}\n"), layout) is not None
    first, second = (one for one in load_plan(layout).blocks if one.refit)
    assert (first.seeds, second.seeds) == ((0, 5), (9,))
    assert first.first_point == second.first_point


@pytest.mark.parametrize("text", [RANDOM, STAGED, SEVERAL])
def test_a_run_that_was_refitted_is_still_the_run_of_its_file(base: Path, text: str) -> None:
    layout = planned(base, text)
    publish_refit(layout, RefitSpec(seeds=(0, 5)))
    assert load_plan(layout).number == 2
    (base / "search.yaml").write_text(text)
    assert not planning.build(planning.draft(base / "search.yaml"), layout)
    assert planning.amend(draft(base, text), layout) is None
    assert planning.amend(draft(base, text + REFIT), layout) is None
    assert planning.amend(draft(base, f"{text}description: said later\n"), layout) is not None
    plan = load_plan(layout)
    assert plan.search.description == "said later"
    assert all(part.stages[-1].refit == RefitSpec(seeds=(0, 5)) for part in plan.search.parts)


def test_what_tests_and_what_chooses_can_be_said_later(base: Path) -> None:
    layout = planned(base, RANDOM)
    more = "test: train.py:evaluate\nchoose: {one_standard_error: [width]}\n"
    done = planning.amend(draft(base, RANDOM + more), layout)
    assert done is not None
    assert done.news == ("choose: which point is chosen", "test: what `test` runs")
    assert load_plan(layout).trials == load_plan(layout).first_trials


def test_a_choice_is_not_changed_after_the_point_was_trained_again(base: Path) -> None:
    layout = planned(base, RANDOM + REFIT)
    durable.publish(layout.stage(1), b"opened")
    choice = "choose: {one_standard_error: [width]}\n"
    with pytest.raises(UsageError, match="choose: the point is chosen, and was trained again"):
        planning.amend(draft(base, RANDOM + REFIT + choice), layout)
    assert planning.amend(draft(base, f"{RANDOM}{REFIT}test: train.py:evaluate\n"), layout) is not None


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (RANDOM, RANDOM + "racing: true\n", "racing: folds that are left out"),
        (RANDOM + REFIT, RANDOM + "refit: {seeds: [0, 5], on: train}\n", "refit.on: train+val -> train"),
        (RANDOM + REFIT, RANDOM + "refit: {seeds: [5]}\n" + "seeds: [0, 1]\n", "later stages were planned"),
        (RANDOM, RANDOM.replace("stratified: 3", "stratified: 4") + REFIT, "folds: every trial would have"),
    ],
)
def test_what_is_planned_stays_as_it_is(base: Path, before: str, after: str, words: str) -> None:
    layout = planned(base, before)
    with pytest.raises(UsageError) as error:
        planning.amend(draft(base, after), layout)
    assert words in str(error.value)
    assert load_plan(layout).number == 1
