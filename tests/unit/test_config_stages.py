"""`stages` and `searches` of a search file: what is inherited, refused, and left out by `plan`."""

from __future__ import annotations

import pytest

from hpc_search.config import dump_search, parse_search
from hpc_search.config.chosen import chosen
from hpc_search.errors import ConfigError, UsageError
from hpc_search.records.search import Metric, Narrow, PruningSpec, Search, StageSpec
from hpc_search.space import Choice, Int, Uniform

HEAD = "name: x\ntrial: train.py:train\nmetric: {name: acc, goal: max}\n"
SPACE = "space: {a: {uniform: [0, 1]}, b: [1, 2, 3]}\nfixed: {epochs: 10}\n"
ONE = HEAD + SPACE
SEVERAL = """
name: x
metric: {name: acc, goal: max}
space: {a: {uniform: [0, 1]}, b: [1, 2, 3]}
linked: [{c: [1, 2], d: [3, 4]}]
fixed: {epochs: 10}
strategy: {random: {points: 5}}
seeds: [0, 1]
searches:
  left: {trial: "train.py:left"}
  right:
    trial: "train.py:right"
    objectives: [{name: f1, goal: max}, {name: time, goal: min}]
    space: {e: {int: [1, 4]}, b: {uniform: [0, 1]}}
    fixed: {a: 0.5, d: 7}
    strategy: {random: {points: 7, seed: 3}}
    seeds: [4]
"""


def read(text: str) -> Search:
    return parse_search(text.encode(), "s.yaml")


def stages(rows: str, head: str = ONE) -> str:
    return f"{head}stages:\n" + "".join(f"  - {row}\n" for row in rows.strip().splitlines())


def told(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


THREE = stages("""
{name: coarse, strategy: {random: {points: 20}}, fixed: {epochs: 3}}
{name: fine, narrow: {stage: coarse, top: 0.5}, strategy: {random: {points: 50}}, seeds: [0, 1]}
{name: again, strategy: {top: {points: 5, stage: fine}}}
""")


def test_stages_are_read_in_order() -> None:
    coarse, fine, again = read(THREE).stages
    assert (coarse.fixed, coarse.seeds, coarse.narrow) == ({"epochs": 3}, None, None)
    assert (fine.narrow, fine.seeds) == (Narrow(stage="coarse", top=0.5), (0, 1))
    assert (again.strategy.kind, again.strategy.options) == ("top", {"points": 5, "stage": "fine"})


def test_a_stage_has_the_strategy_and_the_pruning_of_its_search_where_it_gives_none() -> None:
    head = ONE + "strategy: {random: {points: 4, seed: 1}}\npruning: median\n"
    first, second = read(
        stages("{name: a}\n{name: b, pruning: null, strategy: {random: {points: 6}}}", head)
    ).stages
    assert first.strategy.options == {"points": 4, "seed": 1}
    assert isinstance(first.pruning, PruningSpec)
    assert second.pruning is None


def test_a_search_adds_to_what_it_inherits_name_by_name() -> None:
    left, right = read(SEVERAL).searches
    assert left.space.dimensions == {"a": Uniform(0, 1), "b": Choice((1, 2, 3))}
    assert left.space.linked == ({"c": (1, 2), "d": (3, 4)},)
    assert (left.metric, left.seeds) == (Metric(name="acc", goal="max"), (0, 1))
    assert right.space.dimensions == {"b": Uniform(0, 1), "e": Int(1, 4)}
    assert right.space.linked == ({"c": (1, 2)},)
    assert right.space.fixed == {"epochs": 10, "a": 0.5, "d": 7}
    assert [one.name for one in right.objectives] == ["f1", "time"]
    assert (right.trial.callable, right.seeds, right.strategy.options["points"]) == (
        "train.py:right",
        (4,),
        7,
    )


@pytest.mark.parametrize("text", [THREE, SEVERAL, SEVERAL + "stop_on_error: true\n"])
def test_what_is_written_reads_back_equal(text: str) -> None:
    search = read(text)
    assert parse_search(dump_search(search).encode(), "again.yaml") == search


def test_points_are_expected_over_all_stages_and_searches() -> None:
    assert read(THREE + "expect_points: 75\n").expect_points == 75
    assert "20 + 50 + 5 = 75" in told(THREE + "expect_points: 80\n")
    assert "5 + 7 = 12" in told(SEVERAL + "expect_points: 80\n")


def test_the_limit_of_trials_counts_all_of_them() -> None:
    assert "75 points in 3 stages and searches = 125 trials" in told(THREE + "max_trials: 100\n")


FIRST = "{name: a, strategy: {random: {points: 2}}}\n"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("{name: a}", "the key 'strategy' is missing: a stage without one has no number of points"),
        ("{name: a, strategy: grid}", "a grid needs finite dimensions"),
        ("{strategy: {random: {points: 2}}}", "the key 'name' is missing"),
        ("{name: 'a/b', strategy: {random: {points: 2}}}", "a name that a directory can have"),
        (
            FIRST + "{name: a, strategy: {random: {points: 2}}}",
            "the stage 'a' is there twice",
        ),
        (
            FIRST.replace("name: a", "name: coarse")
            + "{name: b, strategy: {random: {points: 2}}, narrow: {stage: corse}}",
            "there is no stage 'corse' before this one; did you mean 'coarse'?",
        ),
        (
            FIRST.replace("}}}", "}}, narrow: {stage: b}}") + FIRST.replace("name: a", "name: b"),
            "none: this is the first stage",
        ),
        (
            FIRST + "{name: b, strategy: {random: {points: 2}}, narrow: {stage: a, top: 1.5}}",
            "is out of range",
        ),
        (
            FIRST + "{name: b, strategy: {random: {points: 2}}, narrow: {stage: a, top: 0}}",
            "is out of range",
        ),
        (
            FIRST + "{name: b, strategy: grid, narrow: {stage: a}}",
            "the size of a narrowed grid is not known before the stage it comes from has ended",
        ),
        (
            FIRST + "{name: b, strategy: {top: {points: 3, stage: a}}}",
            "the stage 'a' has fewer points than are to be taken from it",
        ),
        (
            FIRST + "{name: b, strategy: {top: {points: 2, stage: a}}, fixed: {a: 0.5, b: 1}}",
            "with what this stage holds fixed there are fewer points than are to be taken",
        ),
        (
            FIRST + "{name: b, strategy: {top: {points: 2, stage: a}}, narrow: {stage: a}}",
            "sets bounds that no point is drawn from",
        ),
        ("{name: a, strategy: {top: {points: 2, stage: a}}}", "there is no stage 'a' before this one"),
        ("{name: a, strategy: {random: {points: 0}}}", "1 or more"),
        (
            FIRST + "{name: b, strategy: {random: {points: 2}}, fixed: {epoch: 3}}",
            "the search has no parameter 'epoch'; did you mean 'epochs'?",
        ),
        ("{name: a, strategy: {random: {points: 2}}, narow: {}}", "did you mean 'narrow'?"),
    ],
)
def test_a_stage_that_cannot_be_is_refused_in_words(rows: str, words: str) -> None:
    assert words in told(stages(rows))


def test_a_stage_without_a_metric_is_refused() -> None:
    assert "the key 'metric' is missing" in told(THREE.replace("metric: {name: acc, goal: max}\n", ""))


def test_a_parameter_that_every_stage_fixes_need_not_stand_in_the_search() -> None:
    rows = "{name: a, strategy: {random: {points: 2}}, fixed: {steps: 3}}\n"
    assert read(stages(rows + rows.replace("name: a", "name: b").replace("3", "9"))).stages


def test_a_mistake_that_several_searches_inherit_is_told_once() -> None:
    text = told(SEVERAL.replace("uniform: [0, 1]}, b: [1", "uniform: [1, 0]}, b: [1"))
    assert text.count("low is not below high") == 1


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("searches: {}", "is empty: it needs at least one search"),
        ("searches: {'a.b': {}}", "is no name for a search"),
        ("searches: {a: {seed: [0]}}", "did you mean 'seeds'?"),
        ("searches: {a: {strategy: grid}}", "searches.a"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_words(entry: str, words: str) -> None:
    assert words in told(ONE + "strategy: {random: {points: 2}}\n" + entry + "\n")


# -- what `plan` leaves out
def names(found: tuple[StageSpec, ...]) -> list[str]:
    return [stage.name for stage in found]


def test_a_stage_that_narrows_from_one_that_is_left_out_goes_by_the_one_before() -> None:
    text = stages("""
{name: a, strategy: {random: {points: 9}}}
{name: b, strategy: {random: {points: 9}}}
{name: c, strategy: {random: {points: 9}}, narrow: {stage: b, top: 0.3}}
""")
    search = read(text + "expect_points: 27\n")
    without = chosen(search, ["b"], [])
    assert names(without.stages) == ["a", "c"]
    assert without.stages[1].narrow == Narrow(stage="a", top=0.3)
    assert without.expect_points is None
    assert chosen(search, ["a", "b"], []).stages[0].narrow is None


def test_a_stage_that_takes_its_points_from_one_that_is_left_out_is_refused() -> None:
    with pytest.raises(UsageError, match="stage again takes its points from it") as caught:
        chosen(read(THREE), ["coarse", "fine"], [])
    assert "--skip-stage again" in str(caught.value)


def test_only_some_searches_are_kept() -> None:
    search = chosen(read(SEVERAL), [], ["right"])
    assert [part.name for part in search.searches] == ["right"]
    assert search.metric.name == "f1"
    assert parse_search(dump_search(search).encode(), "again.yaml") == search


@pytest.mark.parametrize(
    ("text", "skip", "only", "words"),
    [
        (THREE, ["cors"], [], "no stage 'cors'; did you mean 'coarse'?"),
        (THREE, [], ["left"], "the file has no search 'left'"),
        (SEVERAL, [], ["lft"], "did you mean 'left'?"),
        (THREE, ["coarse", "fine", "again"], [], "--skip-stage leaves no stage"),
    ],
)
def test_a_name_that_the_file_does_not_have_is_refused(
    text: str, skip: list[str], only: list[str], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(read(text), skip, only)
    assert words in str(caught.value)
