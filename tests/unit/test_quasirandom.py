"""Sobol and Halton: evenly spread, reproducible, without repeats; and values that no version may change."""

from __future__ import annotations

import hashlib
from statistics import median

import numpy as np
import pytest
from scipy.stats import qmc

from hpc_search.errors import UsageError
from hpc_search.space import Choice, Int, LogInt, LogUniform, Rules, Space, Uniform, point_hash
from hpc_search.strategies import sobol
from hpc_search.strategies.quasirandom import Quasirandom
from hpc_search.strategies.random import Random

BOTH = pytest.mark.parametrize("name", ["sobol", "halton"])
SQUARE = Space({name: Uniform(0, 1) for name in "abcde"})
FINITE = Space({"a": Choice((1, 2, 3)), "b": Int(1, 20), "c": LogInt(1, 5)}, ({"d": (1, 2), "e": (3, 4)},))
#: 2 of sgd x 3 widths; of adam with its 4 layers only those up to 8 units: 2 + 4 + ... = 11 points.
RULED = Space(
    {"optimizer": Choice(("sgd", "adam")), "layers": Int(1, 4), "width": Choice((2, 4, 8))},
    (),
    {"epochs": 3},
    Rules(when={"layers": "optimizer == 'adam'"}, constraints=("layers * width <= 8",)),
)
BRANCHED = Space(
    {"optimizer": Choice(("sgd", "adam")), "beta": Uniform(0, 1)},
    (),
    {},
    Rules(when={"beta": "optimizer == 'adam'"}, constraints=("beta <= 0.5",)),
)
MIXED = Space({"lr": LogUniform(1e-5, 1e-1), "n": Choice((1, 2, 3))}, (), {"epochs": 3})


def points(name: str, space: Space, count: int, seed: int = 0) -> list[dict[str, object]]:
    strategy = Quasirandom(name, count, seed)
    return [strategy.point(space, index) for index in range(count)]


def discrepancy(strategy: Quasirandom | Random) -> float:
    rows = [list(strategy.point(SQUARE, index).values()) for index in range(strategy.points)]
    return float(qmc.discrepancy(np.array(rows)))


@BOTH
@pytest.mark.parametrize("count", [60, 256])
def test_points_are_far_more_even_than_random_ones(name: str, count: int) -> None:
    own = median(discrepancy(Quasirandom(name, count, seed)) for seed in range(5))
    other = median(discrepancy(Random(count, seed)) for seed in range(5))
    # Measured: 0.07 to 0.16 of it.
    assert own < other / 3


def test_sobol_is_a_net_in_every_dimension_and_stays_one_when_scrambled() -> None:
    keys = [
        int.from_bytes(hashlib.blake2b(b"%d" % axis, digest_size=4).digest(), "big") for axis in range(101)
    ]
    rows = [sobol.coordinates(index, keys) for index in range(64)]
    for axis in range(len(keys)):
        assert sorted(int(row[axis] * 64) for row in rows) == list(range(64))


def test_unscrambled_sobol_is_the_one_of_scipy() -> None:
    own = [[sobol._raw(index, axis) / 2**32 for axis in range(sobol.MOST)] for index in range(128)]
    # SciPy goes through the same points in Gray code order.
    assert sorted(own) == sorted(qmc.Sobol(sobol.MOST, scramble=False).random(128).tolist())


@BOTH
def test_finite_space_is_used_up_without_repeats(name: str) -> None:
    found = points(name, FINITE, 600)
    assert sorted(map(FINITE.index, found)) == list(range(600))


@BOTH
def test_space_with_rules_is_used_up_without_what_they_exclude(name: str) -> None:
    size = RULED.size() or 0
    found = points(name, RULED, size)
    assert sorted(map(RULED.index, found)) == list(range(size)) == list(range(10))
    assert all(point.get("layers", 1) * point["width"] <= 8 for point in found)  # type: ignore[operator]


@BOTH
def test_branch_without_a_range_comes_once_and_constraints_hold_on_ranges(name: str) -> None:
    found = points(name, BRANCHED, 40)
    assert [point for point in found if "beta" not in point] == [{"optimizer": "sgd"}]
    assert all(float(str(point.get("beta", 0))) <= 0.5 for point in found)


SPACES = (FINITE, MIXED, RULED)


@BOTH
@pytest.mark.parametrize("space", [FINITE, MIXED])
def test_first_points_do_not_depend_on_how_many_are_asked_for(name: str, space: Space) -> None:
    assert points(name, space, 20) == points(name, space, 90)[:20]
    strategy = Quasirandom(name, 20)
    assert strategy.point(space, 13) == points(name, space, 90)[13]


@BOTH
def test_seed_changes_the_points(name: str) -> None:
    for space in (FINITE, MIXED):
        assert points(name, space, 10, seed=1) != points(name, space, 10, seed=2)


@BOTH
def test_each_value_of_a_choice_is_drawn_equally_often(name: str) -> None:
    drawn = [point["n"] for point in points(name, MIXED, 243)]
    assert all(abs(drawn.count(value) - 81) <= 4 for value in (1, 2, 3))


@BOTH
def test_values_stay_in_their_ranges_and_fixed_ones_come_along(name: str) -> None:
    for point in points(name, MIXED, 100):
        assert 1e-5 <= float(str(point["lr"])) <= 1e-1
        assert (point["epochs"], list(point)) == (3, ["lr", "n", "epochs"])


@BOTH
def test_more_points_than_there_are_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"601 points; the space has 600"):
        Quasirandom(name, 601).count(FINITE)


def test_space_with_more_axes_than_sobol_is_refused_and_halton_takes_it() -> None:
    wide = Space({f"x{axis}": Uniform(0, 1) for axis in range(sobol.MOST + 1)})
    with pytest.raises(UsageError, match="101 dimensions; the space has 102"):
        Quasirandom("sobol", 5).count(wide)
    assert len(points("halton", wide, 2)[1]) == 102


def test_points_are_pinned() -> None:
    names = [point_hash(points(name, space, 9)) for name in ("sobol", "halton") for space in SPACES]
    assert names == [
        *("e1106b6948851391", "acd30e9f55f60912", "37241996bc1144e4"),
        *("453ea67eca877df7", "742c2dbebf8881ae", "da8bcd5f470e8e6d"),
    ]
