"""Points that are given: always first, never repeated, and nothing else is lost."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hpc_search.records.search import StrategySpec
from hpc_search.space import Choice, Int, LogInt, LogUniform, Rules, Space, Uniform, point_hash
from hpc_search.strategies import make

FINITE = Space({"a": Choice((1, 2, 3)), "b": Int(1, 9)}, ({"d": (1, 2), "e": (3, 4)},), {"epochs": 3})
LOGARITHMIC = Space({"w": LogInt(1, 25), "n": Choice((1, 2))})
MIXED = Space({"lr": LogUniform(1e-5, 1e-1), "n": Choice((1, 2, 3))}, (), {"epochs": 3})
#: 50 combinations, fewer points.
RULED = Space(
    {"a": Int(1, 10), "b": Int(1, 5)}, (), {}, Rules(when={"b": "a >= 4"}, constraints=("a * b <= 30",))
)
BRANCHED = Space(
    {"n": Int(1, 9), "beta": Uniform(0, 1)},
    (),
    {},
    Rules(when={"beta": "n >= 5"}, constraints=("beta < 0.9",)),
)
SEEDS = st.integers(0, 99)


def spec(kind: str, points: int, seed: int) -> StrategySpec:
    return StrategySpec(kind, {} if kind == "grid" else {"points": points, "seed": seed})


def drawn(
    kind: str, space: Space, count: int, seed: int, first: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    strategy = make(spec(kind, count, seed), first)
    return [strategy.point(space, index) for index in range(strategy.count(space))]


@given(
    st.sampled_from(["grid", "random", "sobol", "halton"]),
    st.sampled_from([FINITE, LOGARITHMIC, RULED]),
    SEEDS,
    st.lists(st.integers(0, 29), unique=True, max_size=12),
)
def test_every_point_of_a_finite_space_comes_once_the_given_ones_first(
    kind: str, space: Space, seed: int, numbers: list[int]
) -> None:
    first = [space.point(number) for number in numbers]
    size = space.size() or 0
    found = drawn(kind, space, size, seed, first)
    assert found[: len(first)] == first
    assert sorted(map(space.index, found)) == list(range(size))


@given(
    st.sampled_from(["random", "sobol", "halton"]),
    st.sampled_from([FINITE, LOGARITHMIC, MIXED, RULED, BRANCHED]),
    SEEDS,
    st.lists(st.integers(0, 29), unique=True, max_size=8),
    st.integers(8, 30),
)
def test_points_that_the_strategy_would_draw_are_not_drawn_again_and_no_number_depends_on_the_count(
    kind: str, space: Space, seed: int, numbers: list[int], count: int
) -> None:
    own = make(spec(kind, 30, seed))
    first = [own.point(space, number) for number in numbers]
    found = drawn(kind, space, count, seed, first)
    assert found[: len(first)] == first
    assert len({point_hash(point) for point in found}) == count
    assert drawn(kind, space, 30, seed, first)[:count] == found
