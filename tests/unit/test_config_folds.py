"""`data`, `folds` and how a point is chosen: what is understood, filled in and refused, all of it at once."""

from __future__ import annotations

import pytest

from hpc_search.config import dump_search, parse_search
from hpc_search.config.chosen import chosen
from hpc_search.errors import ConfigError
from hpc_search.records.search import (
    Choice,
    DataSpec,
    FoldsSpec,
    Metric,
    Part,
    RacingSpec,
    RefitSpec,
    Search,
    StageSpec,
    StrategySpec,
    TrialSpec,
)

HEAD = "name: x\ntrial: train.py:train\nmetric: {name: acc, goal: max}\n"
GRID = HEAD + "space: {lr: [0.1, 0.2], width: {int: [1, 3]}, act: [relu, tanh]}\nstrategy: grid\n"
DATA = "data: {index: data.csv, id: s, label: y, group: p, time: t, columns: [tissue]}\n"
FOLDS = f"{GRID}{DATA}folds: {{stratified: 5}}\n"
STAGE = "{name: a, strategy: {random: {points: 5}}}"
NESTED = f"{DATA}folds: {{nested: {{outer: 3, inner: {{kfold: 2}}}}}}\n"


def read(text: str) -> Search:
    return parse_search(text.encode(), "s.yaml")


def told(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


# -- what is understood
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{kfold: 5}", FoldsSpec(kind="kfold", n=5)),
        (
            "{stratified_grouped: 5, seed: 3, test_share: 0.2, repeats: 3, apart: [tissue]}",
            FoldsSpec(kind="stratified_grouped", n=5, seed=3, test_share=0.2, repeats=3, apart=("tissue",)),
        ),
        ("{leave_one_group_out: true}", FoldsSpec(kind="leave_one_group_out")),
        ("{time: 5, gap: 2}", FoldsSpec(kind="time", n=5, gap=2)),
        ("{hash: [0.7, 0.15, 0.15]}", FoldsSpec(kind="hash", n=1, seed=42, shares=(0.7, 0.15, 0.15))),
        ("{shuffle: [0.8, 0.1, 0.1]}", FoldsSpec(kind="shuffle", n=1, shares=(0.8, 0.1, 0.1))),
        ("{file: folds.json}", FoldsSpec(kind="file", file="folds.json")),
        ("{splitter: 'my.py:FOLDS'}", FoldsSpec(kind="splitter", function="my.py:FOLDS")),
        (
            "{nested: {outer: 5, inner: {stratified: 4}}, seed: 7}",
            FoldsSpec(kind="stratified", n=4, outer=5, seed=7),
        ),
        ("{nested: {outer: 5, inner: {time: 4}}, gap: 1}", FoldsSpec(kind="time", n=4, outer=5, gap=1)),
    ],
)
def test_every_way_to_split_is_read(text: str, expected: FoldsSpec) -> None:
    search = read(f"{GRID}{DATA}folds: {text}\n")
    assert search.folds == expected
    assert read(dump_search(search)) == search


def test_columns_and_files_of_the_data_are_read() -> None:
    text = "data: {index: data.csv, id: s, path: file, root: spectra, columns: [tissue, chromosome]}\n"
    expected = DataSpec(
        index="data.csv", id="s", path="file", root="spectra", columns=("tissue", "chromosome")
    )
    assert read(GRID + text).data == expected


def test_a_metric_says_its_side_and_its_reduction() -> None:
    metric = "metric: {name: auc, goal: max, split: val, reduction: none}"
    expected = Metric(name="auc", goal="max", split="val", reduction="none")
    assert read(GRID.replace("metric: {name: acc, goal: max}", metric)).metric == expected


def test_a_refit_is_the_last_stage_of_a_search_without_stages() -> None:
    search = read(f"{FOLDS}refit: {{seeds: 3, on: train}}\n")
    first, last = search.stages
    assert first == StageSpec(name="", strategy=search.strategy)
    assert last.strategy == StrategySpec("top", {"points": 1, "stage": ""})
    assert last.refit == RefitSpec(seeds=(0, 1, 2), on="train")
    assert (last.name, last.seeds) == ("refit", (0, 1, 2))


def test_more_seeds_for_the_best_points_are_a_stage_before_the_refit() -> None:
    search = read(f"{FOLDS}seeds: {{first: [0, 1], top: 3, more: [2, 3, 4]}}\nrefit: true\n")
    assert [stage.name for stage in search.stages] == ["", "seeds", "refit"]
    assert search.seeds == (0, 1)
    assert search.stages[1].strategy == StrategySpec("top", {"points": 3, "stage": ""})
    assert search.stages[1].seeds == (2, 3, 4)
    assert search.stages[2].strategy.options["stage"] == "seeds"


def test_a_refit_after_stages_holds_fixed_what_the_last_one_does() -> None:
    text = HEAD + "space: {lr: {uniform: [0, 1]}}\nfixed: {epochs: 9}\nstages:\n"
    text += "  - {name: a, strategy: {random: {points: 4}}, fixed: {epochs: 1}}\n"
    text += "  - {name: b, strategy: {random: {points: 2}}, fixed: {epochs: 5}}\nrefit: {seeds: [4]}\n"
    last = read(text).stages[-1]
    assert (last.name, last.fixed, last.seeds) == ("refit", {"epochs": 5}, (4,))


def test_each_of_several_searches_has_its_own_choice_test_and_refit() -> None:
    text = FOLDS.replace("stratified: 5", "stratified: 5, test_share: 0.2")
    text += "refit: true\nracing: true\ntest: train.py:evaluate\nsearches:\n"
    text += "  left: {refit: null, choose: {one_standard_error: [-width]}}\n"
    text += "  right: {test_command: [python, e.py, '{lr}'], racing: {error: 0.1, folds: 3}}\n"
    search = read(text)
    left, right = search.searches
    assert (left.stages, left.choose) == ((), Choice(rule="one_standard_error", simpler=("-width",)))
    assert left.test == TrialSpec(callable="train.py:evaluate")
    assert right.test == TrialSpec(command=("python", "e.py", "{lr}"))
    assert (left.racing, right.racing) == (RacingSpec(), RacingSpec(error=0.1, folds=3))
    assert right.stages[-1].refit == RefitSpec()
    assert read(dump_search(search)) == search


def test_a_stage_that_is_added_by_a_key_can_be_left_out() -> None:
    search = read(f"{FOLDS}seeds: {{first: [0], top: 3, more: [2]}}\nrefit: true\n")
    assert [stage.name for stage in chosen(search, ["seeds"], []).stages] == ["", "refit"]
    assert chosen(search, ["seeds"], []).stages[-1].strategy.options["stage"] == ""
    assert chosen(search, ["seeds", "refit"], []).stages == ()


def test_points_of_the_refit_and_of_more_seeds_are_not_counted() -> None:
    more = "seeds: {first: [0], top: 3, more: [2]}\nrefit: true\n"
    assert read(f"{FOLDS}{more}expect_points: 12\n").expect_points == 12
    assert "21" not in told(f"{FOLDS}{more}expect_points: 13\n")


def test_a_search_that_says_nothing_of_this_is_the_record_it_was() -> None:
    part = read(GRID).parts[0]
    assert (part.racing, part.choose, part.test, part.stages) == (None, Choice(), None, ())
    assert isinstance(part, Part)


# -- what is refused
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("folds: {kfold: 5, gap: 1}", "s.yaml:7: folds.gap: is no key of kfold folds"),
        ("folds: {time: 5, seed: 1}", "folds.seed: is no key of time folds"),
        ("folds: {hash: [0.7, 0.15, 0.15], test_share: 0.2}", "folds.test_share: is no key of hash folds"),
        ("folds: {hash: [0.7, 0.2]}", "folds.hash: has 2 shares"),
        ("folds: {hash: [0.7, 0.2, 0.2]}", "0.7 + 0.2 + 0.2 = 1.1"),
        ("folds: {shuffle: [0, 0.5, 0.5]}", "are no shares"),
        ("folds: {shuffle: 5}", "is not a list"),
        ("folds: {leave_one_group_out: 5}", "has as many folds as the data have groups"),
        ("folds: {nested: {outer: 5}}", "folds.nested: the key 'inner' is missing"),
        ("folds: {nested: {outer: 5, inner: {hash: 4}}}", "unknown key 'hash'"),
        ("folds: {nested: {outer: 1, inner: {kfold: 4}}}", "folds.nested.outer: is out of range"),
        (
            "folds: {nested: {outer: 5, inner: {kfold: 4}}, test_share: 0.1}",
            "folds.test_share: is no key of nested folds",
        ),
        ("folds: {splitter: 'a b'}", "module:function"),
        ("folds: {stratified: 5, repeats: 0}", "folds.repeats: is out of range"),
        ("folds: {stratified: 5, seed: 4294967296}", "between 0 and 4,294,967,295"),
        ("folds: {kfold: 5, apart: [tisue]}", "the data have no column 'tisue'; did you mean 'tissue'?"),
        ("folds: {kfold: 5, apart: [tissue, tissue]}", "folds.apart[1]: the column is there twice"),
        ("folds: {stratfied: 5}", "did you mean 'stratified'?"),
    ],
)
def test_wrong_folds_are_refused_with_what_is_allowed(text: str, words: str) -> None:
    assert words in told(f"{GRID}{DATA}{text}\n")


@pytest.mark.parametrize(
    ("data", "folds", "words"),
    [
        ("{index: a.csv}", "{stratified_grouped: 5}", ["the column 'label'", "the column 'group'"]),
        ("{index: a.csv}", "{leave_one_group_out: true}", ["need the column 'group'"]),
        ("{index: a.csv}", "{time: 5}", ["time folds need the column 'time'"]),
        ("{index: a.csv}", "{nested: {outer: 2, inner: {grouped: 2}}}", ["need the column 'group'"]),
        ("{index: a.csv, root: spectra}", "{kfold: 2}", ["data.root: is the directory of the files"]),
        ("{index: a.csv, columns: [a, a]}", "{kfold: 2}", ["data.columns[1]: the column is there twice"]),
    ],
)
def test_folds_need_the_columns_that_they_are_made_by(data: str, folds: str, words: list[str]) -> None:
    text = told(f"{GRID}data: {data}\nfolds: {folds}\n")
    assert all(one in text for one in words)


@pytest.mark.parametrize(("split", "words"), [("test", "has no test left"), ("train", "says nothing of")])
def test_no_search_selects_by_another_side_than_validation(split: str, words: str) -> None:
    text = told(GRID.replace("goal: max", f"goal: max, split: {split}"))
    assert f"s.yaml:3: metric.split: {words}"[:24] in text
    assert words in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("choose: {one_standard_error: [widht]}", "no parameter 'widht'; did you mean 'width'?"),
        ("choose: {one_standard_error: [act]}", "nothing says which value of 'act' is simpler"),
        ("choose: {one_standard_error: [width, -width]}", "choose.one_standard_error[1]: is there twice"),
        ("choose: one_standard_error", "does not say what is simpler"),
        ("choose: worst", "is not known"),
        ("racing: {error: 0.7}", "racing.error: is out of range"),
        ("racing: {folds: 5}", "every point has 5 folds at least, so that none would be left out"),
        ("racing: 3", "is not known"),
        ("refit: {on: test}", "train+val, train or everything"),
        ("refit: {seeds: 0}", "refit.seeds: is out of range"),
        ("refit: [{on: train}, {on: train+val}]", "has more than one refit"),
        ("seeds: {first: [0], top: 13, more: [1]}", "fewer points than are to get more seeds"),
        ("seeds: {first: [0], more: [1]}", "the key 'top' is missing"),
        ("seeds: {first: [0, 1], top: 1, more: [1]}", "seeds.more: has seeds that all points run with"),
        ("test: train.py", "module:function or file.py:function"),
        ("test: 'm:f'\ntest_command: [a]", "both test and test_command are given"),
        ("test_command: [a, '{lrr}']", "unknown parameter 'lrr'; did you mean 'lr'?"),
        ("test: 'm:f'", "stratified folds leave nothing to test on"),
    ],
)
def test_a_wrong_choice_is_refused_with_what_is_allowed(text: str, words: str) -> None:
    assert words in told(f"{FOLDS}{text}\n")


def test_racing_needs_folds() -> None:
    assert "racing leaves out folds of points that lose; there are none" in told(f"{GRID}racing: true\n")


def test_racing_and_one_standard_error_go_by_one_metric() -> None:
    several = "objectives: [{name: a, goal: max}, {name: b, goal: min}]"
    text = FOLDS.replace("metric: {name: acc, goal: max}", several)
    words = told(f"{text}racing: true\nchoose: {{one_standard_error: [width]}}\n")
    assert "racing compares points by one metric" in words
    assert "one standard error is that of one metric" in words


@pytest.mark.parametrize("folds", ["{kfold: 5, test_share: 0.2}", "{hash: [0.7, 0.15, 0.15]}"])
def test_nothing_is_trained_on_a_shared_test_side_before_it_was_tested(folds: str) -> None:
    text = told(f"{GRID}{DATA}folds: {folds}\nrefit: {{on: everything}}\n")
    assert "trained on everything, nothing is left to test on" in text
    assert "after `test RUN` use `refit RUN --on everything`" in text


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("strategy: {tpe: {points: 5}}\n", "strategy: tpe"),
        ("strategy: {random: {points: 5}}\npruning: median\n", "pruning: median"),
        ("strategy: {random: {points: 5}}\nracing: true\n", "racing"),
        ("strategy: {random: {points: 5}}\nseeds: {first: [0], top: 1, more: [1]}\n", "best points"),
        (
            f"stages: [{STAGE}, {{name: b, strategy: {{top: {{points: 1, stage: a}}}}}}]\n",
            "best points",
        ),
    ],
)
def test_nothing_is_decided_over_outer_folds_before_they_are_tested(search: str, found: str) -> None:
    text = told(f"{HEAD}space: {{lr: {{uniform: [0, 1]}}}}\n{search}{NESTED}")
    assert "an outer fold would see, through the others, what it is tested on" in text
    assert found in text


def test_a_stage_of_the_file_has_another_name_than_those_that_keys_add() -> None:
    text = HEAD + "space: {lr: {uniform: [0, 1]}}\n"
    text += "stages:\n  - {name: refit, strategy: {random: {points: 4}}}\nrefit: true\n"
    assert "the stage 'refit' is also one that the key `refit` adds" in told(text)


def test_a_file_with_many_mistakes_tells_all_of_them_with_their_lines() -> None:
    text = """\
name: x
trial: train.py
test: 5
metric: {name: acc, goal: max, split: test}
space: {lr: [0.1, 0.2], act: [relu, tanh]}
strategy: grid
data: {index: data.csv, label: y, root: spectra}
folds: {leave_one_group_out: true, apart: [tissue], repeats: 2, test_share: 2}
seeds: {first: [0], top: 9}
choose: {one_standard_error: [lrr, act]}
racing: {error: 2}
refit: {seeds: none, on: all}
retry: {error: x}
"""
    with pytest.raises(ConfigError) as caught:
        read(text)
    found = {(problem.line, problem.path) for problem in caught.value.problems}
    assert found >= {
        (2, "trial"),
        (3, "test"),
        (4, "metric.split"),
        (7, "data.root"),
        (8, "folds.repeats"),
        (8, "folds.test_share"),
        (9, "seeds"),
        (10, "choose"),
        (11, "racing.error"),
        (12, "refit.seeds"),
        (12, "refit.on"),
        (13, "retry.error"),
    }
    assert "no parameter 'lrr'; did you mean 'lr'?" in str(caught.value)
    assert "which value of 'act' is simpler" in str(caught.value)
