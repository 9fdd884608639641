"""Strategies: counts, points, errors; and the values that no version may change."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from hpc_search.errors import UsageError
from hpc_search.records.search import StrategySpec
from hpc_search.space import Choice, Int, LogInt, LogUniform, Space, Uniform, point_hash
from hpc_search.strategies import make
from hpc_search.strategies.permutation import Permutation
from hpc_search.strategies.random import Random

FINITE = Space({"a": Choice((1, 2, 3)), "b": Int(1, 100)}, ({"c": (1, 2), "d": (3, 4)},), {"e": 0})
MIXED = Space({"lr": LogUniform(1e-5, 1e-2), "drop": Uniform(0, 0.5), "n": Choice((1, 2, 3))})
LOGARITHMIC = Space({"width": LogInt(1, 200), "n": Choice((1, 2, 3))})
HUGE = Space({f"d{i}": Int(0, 999) for i in range(6)})


def random(points: int, seed: int = 0) -> Random:
    return Random(points, seed)


def hashes(space: Space, points: int, seed: int = 0) -> list[str]:
    strategy = random(points, seed)
    return [point_hash(strategy.point(space, i)) for i in range(points)]


def test_grid_is_every_point_in_order() -> None:
    grid = make(StrategySpec(kind="grid"))
    assert (grid.name, grid.adaptive, grid.count(FINITE)) == ("grid", False, 600)
    assert [grid.point(FINITE, i) for i in range(600)] == [FINITE.point(i) for i in range(600)]


def test_grid_of_a_continuous_space_names_the_dimensions() -> None:
    with pytest.raises(UsageError, match="lr, drop"):
        make(StrategySpec(kind="grid")).count(MIXED)


@pytest.mark.parametrize("space", [FINITE, LOGARITHMIC])
def test_random_draws_every_point_of_a_finite_space_once(space: Space) -> None:
    size = space.size() or 0
    strategy = random(size)
    drawn = [space.index(strategy.point(space, i)) for i in range(size)]
    assert sorted(drawn) == list(range(size))
    assert drawn != sorted(drawn)


@pytest.mark.parametrize("space", [FINITE, MIXED, LOGARITHMIC, HUGE])
def test_random_repeats_no_point_and_depends_on_the_seed(space: Space) -> None:
    assert len(set(hashes(space, 200))) == 200
    assert hashes(space, 200) == hashes(space, 200)
    assert hashes(space, 200) != hashes(space, 200, seed=1)


def test_random_refuses_more_points_than_there_are_with_both_numbers() -> None:
    for space in (FINITE, LOGARITHMIC):
        with pytest.raises(UsageError, match=r"601 points; the space has 600"):
            random(601).count(space)
        with pytest.raises(UsageError, match=r"601 points; the space has 600"):
            random(601).point(space, 0)


@pytest.mark.parametrize("index", [-1, 10])
def test_random_has_no_point_outside_its_count(index: int) -> None:
    with pytest.raises(IndexError):
        random(10).point(FINITE, index)


def test_thousand_of_a_quintillion_points_need_no_enumeration() -> None:
    assert HUGE.size() == 10**18
    assert len(set(hashes(HUGE, 1000))) == 1000


def test_finite_part_of_a_mixed_space_is_used_equally_often() -> None:
    strategy = random(300)
    assert Counter(strategy.point(MIXED, i)["n"] for i in range(300)) == {1: 100, 2: 100, 3: 100}


def test_log_dimensions_are_uniform_in_the_logarithm() -> None:
    space = Space({"lr": LogUniform(1e-4, 1), "width": LogInt(1, 9999), "x": Uniform(0, 1)})
    strategy = random(4000)
    points = [strategy.point(space, i) for i in range(4000)]
    for name, low in (("lr", -4), ("width", 0)):
        decades = Counter(math.floor(math.log10(point[name])) - low for point in points)
        assert all(900 < decades[decade] < 1100 for decade in range(4)), (name, decades)


def test_log_int_of_a_finite_space_is_uniform_in_the_logarithm() -> None:
    space = Space({"width": LogInt(1, 9999), "a": Int(0, 999), "b": Int(0, 999)})
    strategy = random(4000)
    decades = Counter(math.floor(math.log10(strategy.point(space, i)["width"])) for i in range(4000))
    assert all(900 < decades[decade] < 1100 for decade in range(4)), decades


def test_cached_sequence_follows_the_space_that_is_asked_for() -> None:
    other = Space({"width": LogInt(1, 300), "n": Choice((1, 2, 3))})
    strategy = random(5)
    one = [strategy.point(LOGARITHMIC, i) for i in range(5)]
    assert [strategy.point(other, i) for i in range(5)] == [random(5).point(other, i) for i in range(5)]
    assert [strategy.point(LOGARITHMIC, i) for i in range(5)] == one
    assert strategy == random(5)


def test_unknown_strategy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'rondom'; known strategies: grid, points, random") as caught:
        make(StrategySpec(kind="rondom"))
    assert caught.value.hint == "did you mean random?"


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("random", {}, r"missing options \['points'\]"),
        ("random", {"points": 5, "sed": 1}, r"unknown options \['sed'\]"),
        ("random", {"points": 0}, "points is 0; expected an integer >= 1"),
        ("random", {"points": 2.5}, r"points is 2\.5; expected an integer"),
        ("random", {"points": True}, "points is True"),
        ("random", {"points": 5, "seed": "x"}, "seed is 'x'"),
        ("grid", {"points": 5}, r"unknown options \['points'\]"),
    ],
)
def test_wrong_option_is_refused(kind: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(StrategySpec(kind=kind, options=options))


def test_negative_and_huge_seeds_are_seeds() -> None:
    assert len({tuple(hashes(FINITE, 5, seed)) for seed in (-1, 0, 1, 2**80)}) == 4


def test_permutation_refuses_what_is_outside() -> None:
    for n in (5, 500):
        for number in (-1, n):
            with pytest.raises(IndexError):
                Permutation(n, b"k")(number)
            with pytest.raises(IndexError):
                Permutation(n, b"k").inverse(number)
    with pytest.raises(ValueError, match="at least one"):
        Permutation(0, b"k")


def test_every_permutation_of_four_is_reached_equally_often() -> None:
    found = Counter(tuple(map(Permutation(4, b"%d" % key), range(4))) for key in range(2400))
    assert len(found) == 24
    assert all(50 < count < 150 for count in found.values())


@pytest.mark.parametrize("n", [65, 100, 129])
def test_first_number_of_a_permutation_is_uniform_over_keys(n: int) -> None:
    keys = 20 * n
    found = Counter(Permutation(n, b"%d" % key)(0) for key in range(keys))
    chi_square = sum((found[i] - 20) ** 2 / 20 for i in range(n))
    assert chi_square < n + 5 * math.sqrt(2 * n)


def test_permutations_are_pinned() -> None:
    assert [Permutation(10, b"key")(i) for i in range(10)] == [4, 9, 5, 8, 7, 6, 1, 2, 0, 3]
    assert [Permutation(1000, b"key")(i) for i in range(6)] == [47, 355, 257, 87, 631, 838]
    assert [Permutation(10**18, b"key")(i) for i in range(3)] == [
        747430838785088976,
        909778883393947895,
        154288995254132060,
    ]
    assert (
        hex(Permutation(2**256 - 1, b"key")(0))
        == "0x777e35fc2b6b61e5952999e6565bf59c5ba735709caaf3fa8248725d638cbf17"
    )


def test_random_points_are_pinned() -> None:
    assert [FINITE.index(random(5).point(FINITE, i)) for i in range(5)] == [538, 427, 537, 51, 220]
    assert [HUGE.index(random(3).point(HUGE, i)) for i in range(3)] == [
        890179188535669384,
        200719953895427366,
        435946746396060962,
    ]
    assert [tuple(random(5).point(LOGARITHMIC, i).values()) for i in range(5)] == [
        (100, 1),
        (69, 1),
        (18, 1),
        (4, 3),
        (7, 3),
    ]
    assert [tuple(random(3).point(MIXED, i).values()) for i in range(3)] == [
        (0.00010023151668490649, 0.0354311952542497, 3),
        (7.881845781477416e-05, 0.011648790728350289, 2),
        (0.00011195431767702098, 0.19584518148122854, 1),
    ]
