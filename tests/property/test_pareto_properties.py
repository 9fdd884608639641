"""Fronts against their definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hpc_search.strategies.pareto import best_first, ranks


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[tuple[float, ...]], list[str]]:
    width = draw(st.integers(1, 5))
    # Few different values, so that ties and equal points are there.
    number = st.one_of(st.integers(0, 4).map(float), st.floats(-1e300, 1e300))
    rows = draw(st.lists(st.tuples(*[number] * width), max_size=25))
    return rows, draw(st.lists(st.sampled_from(["max", "min"]), min_size=width, max_size=width))


def beats(one: tuple[float, ...], other: tuple[float, ...], goals: list[str]) -> bool:
    better = [a > b if goal == "max" else a < b for a, b, goal in zip(one, other, goals, strict=True)]
    worse = [a < b if goal == "max" else a > b for a, b, goal in zip(one, other, goals, strict=True)]
    return any(better) and not any(worse)


@given(tables())
def test_a_point_is_one_front_behind_the_last_that_beats_it(
    table: tuple[list[tuple[float, ...]], list[str]],
) -> None:
    rows, goals = table
    found = ranks(rows, goals)

    for row, rank in zip(rows, found, strict=True):
        before = [found[place] for place, other in enumerate(rows) if beats(other, row, goals)]
        assert rank == max(before, default=-1) + 1


@given(tables())
def test_the_best_first_are_all_points_by_front(table: tuple[list[tuple[float, ...]], list[str]]) -> None:
    rows, goals = table
    order, found = best_first(rows, goals), ranks(rows, goals)

    assert sorted(order) == list(range(len(rows)))
    assert [found[place] for place in order] == sorted(found)
