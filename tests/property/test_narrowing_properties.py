"""A narrowed space lies inside its parent, holds the points it came from, and depends on nothing else."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_search.space import (
    Choice,
    Dimension,
    Int,
    LogInt,
    LogUniform,
    Normal,
    Prior,
    Quantized,
    Space,
    Uniform,
    canonical,
)
from hpc_search.strategies.narrowing import LEAST, Scored, best, narrow, quantile

DIMENSIONS: dict[str, Dimension] = {
    "choice": Choice(("a", 1, None, 2.5, ("x", "y")), (1, 2, 3, 4, 5)),
    "int": Int(-7, 40),
    "even": Int(0, 60, 2, Prior(10, 5)),
    "quantized": Quantized(0, 0.3, 0.05),
    "normal": Normal(2, 0.5),
    "log_int": LogInt(1, 10**6),
    "uniform": Uniform(-1.0, 3.0),
    "log_uniform": LogUniform(1e-8, 1e3, Prior(1, 10)),
}
GROUP = {"left": (1, 2, 3, 4), "right": ("p", "q", "r", "s")}
SPACE = Space(DIMENSIONS, (GROUP,), {"epochs": 3})
UNITS = st.floats(0.001, 0.999)


@st.composite
def points(draw: st.DrawFn) -> dict[str, Any]:
    row = draw(st.integers(0, 3))
    found: dict[str, Any] = {name: column[row] for name, column in GROUP.items()}
    for name, dimension in DIMENSIONS.items():
        found[name] = dimension.quantile(draw(UNITS))
    # A conditional parameter is active in some points only.
    for name in draw(st.sets(st.sampled_from(["int", "uniform", "choice"]))):
        del found[name]
    return {**found, "epochs": 3}


def values_of(point: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: point[name] for name in names if name in point}


@settings(deadline=None)
@given(st.lists(points(), min_size=1, max_size=12))
def test_a_narrowed_space_is_inside_its_parent_and_holds_the_best_points(top: list[dict[str, Any]]) -> None:
    space = narrow(SPACE, SPACE, top, 1).space
    for name, dimension in space.dimensions.items():
        parent = SPACE.dimensions[name]
        active = [point[name] for point in top if name in point]
        if len(active) < LEAST:
            assert dimension == parent
        elif isinstance(dimension, Choice):
            assert isinstance(parent, Choice)
            assert {*map(canonical, dimension.values)} == {*map(canonical, active)}
            assert [v for v in parent.values if v in dimension.values] == [*dimension.values]
            weights = dict(zip(map(canonical, parent.values), parent.weights, strict=True))
            assert [weights[canonical(value)] for value in dimension.values] == [*dimension.weights]
        elif isinstance(parent, Normal):
            assert isinstance(dimension, Uniform)
            assert dimension.low <= min(active) <= max(active) <= dimension.high
        else:
            assert not isinstance(parent, Choice | Normal)
            assert not isinstance(dimension, Choice | Normal)
            assert type(dimension) is type(parent)
            assert parent.low <= dimension.low <= min(active)
            assert max(active) <= dimension.high <= parent.high
    if len(top) >= LEAST:
        rows = {*zip(*space.linked[0].values(), strict=True)}
        assert rows == {tuple(point[name] for name in GROUP) for point in top}
    assert space.fixed == SPACE.fixed


@settings(deadline=None)
@given(st.lists(points(), min_size=2, max_size=8), st.randoms(), st.data())
def test_the_order_in_which_results_arrive_does_not_matter(
    tried: list[dict[str, Any]], random: Any, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, 2))
    value = st.sampled_from([0.0, 1.0, 2.0])
    scored = [
        Scored(place, params, tuple(data.draw(value) for _ in range(count)))
        for place, params in enumerate(tried)
    ]
    goals = ("max", "min")[:count]
    ranked = best(scored, goals)
    shuffled = list(scored)
    random.shuffle(shuffled)
    assert best(shuffled, goals) == ranked
    top = [one.params for one in ranked[: quantile(len(ranked), 0.5)]]
    again = list(top)
    random.shuffle(again)
    assert narrow(SPACE, SPACE, again, 5) == narrow(SPACE, SPACE, top, 5)


@given(st.integers(1, 10_000), st.floats(1e-6, 1))
def test_the_best_share_has_two_points_where_there_are_two(count: int, top: float) -> None:
    kept = quantile(count, top)
    assert min(count, LEAST) <= kept <= count
    assert kept >= math.floor(count * top)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=6), st.integers(1, 18))
def test_a_narrowed_space_has_room_for_the_budget(digits: list[int], budget: int) -> None:
    space = Space({"a": Choice(tuple(range(6))), "b": Choice((0, 1, 2))})
    found = narrow(space, space, [{"a": digit, "b": digit % 3} for digit in digits], budget).space
    assert (found.size() or 0) >= budget
