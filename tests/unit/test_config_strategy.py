"""The strategy of a search file: every one with its options, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from hpc_search.config import dump_search, parse_search
from hpc_search.errors import ConfigError
from hpc_search.records.search import StrategySpec
from hpc_search.strategies import KNOWN, make

HEAD = "name: x\ntrial: train.py:train\nmetric: {name: acc, goal: max}\n"
SPACE = "space: {lr: {log_uniform: [1e-5, 1e-1]}, n: {int: [1, 9]}}\n"


def spec_of(strategy: str) -> StrategySpec:
    text = f"{HEAD}{SPACE}strategy: {strategy}\n"
    search = parse_search(text.encode(), "f.yaml")
    assert parse_search(dump_search(search).encode(), "f.yaml") == search
    return search.strategy


def told(strategy: str, rest: str = SPACE) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_search(f"{HEAD}{rest}strategy: {strategy}\n".encode(), "f.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("{random: {points: 5}}", {"points": 5, "seed": 0}),
        ("{sobol: {points: 5, seed: 3}}", {"points": 5, "seed": 3}),
        ("{halton: {points: 5}}", {"points": 5, "seed": 0}),
        ("{tpe: {points: 5}}", {"points": 5, "seed": 0, "startup": 10}),
        ("{cmaes: {points: 5, population: 8}}", {"points": 5, "seed": 0, "startup": 1, "population": 8}),
        ("{gp: {points: 5, startup: 2}}", {"points": 5, "seed": 0, "startup": 2}),
        ("{evolution: {points: 5}}", {"points": 5, "seed": 0, "population": 20}),
        ("{nsga2: {points: 5, seed: 1}}", {"points": 5, "seed": 1, "population": 40}),
    ],
)
def test_options_are_read_and_the_defaults_filled_in(text: str, options: dict[str, Any]) -> None:
    spec = spec_of(text)
    assert spec.options == options
    assert make(spec).name == spec.kind


def test_every_strategy_has_an_example_that_is_refused_for_nothing_but_the_points() -> None:
    for kind, options in KNOWN.items():
        if "points" in options and kind != "top":
            assert spec_of(f"{{{kind}: {{points: 3}}}}").kind == kind
            assert "needs its number of points" in told(kind)


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (
            "{random: {points: 0}}",
            ["f.yaml:5: strategy.random.points", "found:    0", "an integer, 1 or more"],
        ),
        ("{tpe: {points: 0}}", ["strategy.tpe.points", "an integer, 1 or more"]),
        ("{sobol: {seed: 1}}", ["strategy.sobol", "the key 'points' is missing", "{points: 200, seed: 0}"]),
        ("{halton: {points: 5, sed: 1}}", ["strategy.halton.sed", "unknown key 'sed'; did you mean 'seed'?"]),
        ("{gp: {points: 5, population: 3}}", ["unknown key 'population'", "points, seed or startup"]),
        ("{evolution: {points: 5, population: 1}}", ["strategy.evolution.population", "2 or more"]),
        ("{sobal: {points: 5}}", ["unknown strategy 'sobal'; did you mean 'sobol'?"]),
        ("sobal", ["is not known", "did you mean 'sobol'?"]),
        ("{random: {points: 5}, tpe: {points: 5}}", ["is not one strategy"]),
        ("{top: {points: 5, stage: a}}", ["strategy.top", "a later one of `stages`"]),
        ("[random]", ["is not a mapping"]),
        ("points", ["runs only the points given; none are"]),
        ("{points: {points: 3}}", ["the strategy points has no options"]),
        ("catalog", ["needs the experiments", "catalog: {modes:"]),
        ("{catalog: {mode: a, names: [b]}}", ["has both mode and names"]),
        ("{catalog: {names: []}}", ["strategy.catalog.names", "is empty"]),
        ("{catalog: {names: [a, a]}}", ["strategy.catalog.names[1]", "'a' is there twice"]),
        ("{catalog: {mod: a}}", ["unknown key 'mod'; did you mean 'mode'?"]),
    ],
)
def test_what_is_wrong_is_told_with_its_place(strategy: str, words: list[str]) -> None:
    message = told(strategy)
    for word in words:
        assert word in message


@pytest.mark.parametrize("kind", ["random", "sobol", "halton", "evolution"])
def test_more_points_than_the_space_has_are_refused_with_both_numbers(kind: str) -> None:
    message = told(f"{{{kind}: {{points: 7}}}}", "space: {a: [1, 2], b: [1, 2, 3]}\n")
    assert "7 points cannot be drawn without replacement from 6" in message


def test_experiments_are_chosen_only_from_a_catalog() -> None:
    text = f"{HEAD}{SPACE}catalog: {{experiments: {{a: {{lr: 1}}}}}}\nstrategy: {{random: {{points: 3}}}}\n"
    with pytest.raises(ConfigError, match="catalog: is not used by this strategy"):
        parse_search(text.encode(), "f.yaml")
