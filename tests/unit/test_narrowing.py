"""How bounds follow from the best points: the padding, logarithms, what is relaxed, and what is said."""

from __future__ import annotations

import pytest

from hpc_search.space import (
    Choice,
    Dimension,
    Int,
    LogInt,
    LogUniform,
    Normal,
    Prior,
    Quantized,
    Rules,
    Space,
    Uniform,
)
from hpc_search.strategies.narrowing import Scored, best, narrow, quantile


def one(dimension: Dimension, *values: object) -> Dimension:
    space = Space({"x": dimension})
    return narrow(space, space, [{"x": value} for value in values], 1).space.dimensions["x"]


def test_a_range_is_widened_by_the_share_that_its_ends_are_expected_to_miss() -> None:
    assert one(Uniform(0, 100), 40, 50, 60) == Uniform(30, 70)
    assert one(Uniform(0, 100), 40, 60) == Uniform(20, 80)


def test_equal_values_leave_a_twentieth_of_the_parent() -> None:
    assert one(Uniform(0, 100), 50, 50, 50) == Uniform(47.5, 52.5)


def test_a_narrowed_range_is_clipped_to_its_parent() -> None:
    assert one(Uniform(0, 100), 1, 2, 3) == Uniform(0, 5.5)


def test_a_logarithmic_range_is_widened_by_its_logarithm() -> None:
    found = one(LogUniform(1e-8, 1), 1e-5, 1e-4, 1e-3)
    assert isinstance(found, LogUniform)
    assert (found.low, found.high) == pytest.approx((10**-5.0 / 10**1.0, 10**-3.0 * 10**1.0), rel=1e-4)


def test_integers_go_outwards_to_the_next_one() -> None:
    assert one(Int(0, 100), 10, 11) == Int(7, 14)
    assert one(LogInt(1, 1024), 16, 32) == LogInt(7, 65)


def test_steps_stay_steps() -> None:
    assert one(Int(0, 100, 10), 30, 50) == Int(10, 70, 10)
    assert one(Quantized(0, 1, 0.1), 0.3, 0.4) == Quantized(0.2, 0.5, 0.1)


def test_a_normal_distribution_is_cut_to_the_range() -> None:
    assert one(Normal(0, 1), 1, 2, 3) == Uniform(0, 4, Prior(0, 1))
    assert one(Normal(0, 1), 3, 4, 5) == Uniform(2, 6, Prior(2, 1)), "the mean is at the end"


def test_what_is_thought_of_a_range_stays() -> None:
    assert one(Uniform(0, 100, Prior(60, 5)), 40, 50) == Uniform(30, 60, Prior(60, 5))
    assert one(Choice(("a", "b", "c"), (1, 2, 3)), "c", "a") == Choice(("a", "c"), (1, 3))


def test_one_point_tells_no_width() -> None:
    assert one(Uniform(0, 1), 0.5) == Uniform(0, 1)
    assert one(Choice(("a", "b")), "a") == Choice(("a", "b"))


def test_what_the_earlier_stage_held_fixed_is_not_narrowed() -> None:
    parent, searched = Space({"x": Uniform(0, 1)}), Space({}, (), {"x": 0.5})
    assert narrow(parent, searched, [{"x": 0.5}, {"x": 0.5}], 1).space == parent


def test_the_least_narrowed_parameter_gets_its_range_back_first() -> None:
    space = Space({"a": Choice((0, 1, 2, 3)), "b": Choice((0, 1, 2, 3, 4, 5))})
    top = [{"a": 0, "b": 0}, {"a": 1, "b": 1}]
    found = narrow(space, space, top, 8)
    assert found.space == Space({"a": Choice((0, 1, 2, 3)), "b": Choice((0, 1))})
    assert found.why == "b [0, 1, 2, 3, 4, 5] -> [0, 1]; a not narrowed: fewer than 8 points would be left"


def test_the_best_of_several_objectives_are_those_that_none_dominates() -> None:
    scored = [
        Scored(0, {}, (0.9, 5.0)),
        Scored(1, {}, (0.8, 9.0)),
        Scored(2, {}, (0.7, 1.0)),
        Scored(3, {}, (0.6, 4.0)),
    ]
    assert [point.point for point in best(scored, ("max", "min"))][:2] == [0, 2]
    assert [point.point for point in best(scored, ("max",))] == [0, 1, 2, 3]


def test_a_tenth_of_thirty_is_three() -> None:
    assert quantile(30, 0.1) == 3
    assert quantile(20, 0.25) == 5
    assert quantile(3, 0.1) == 2
    assert quantile(1, 0.1) == 1


def test_what_rules_name_keeps_its_range_where_they_exclude_what_is_left() -> None:
    rules = Rules(constraints=("twice * epochs <= 60",), derived={"twice": "2 * x"})
    dimensions: dict[str, Dimension] = {"x": Uniform(0, 10), "y": Uniform(0, 10)}
    parent = Space(dimensions, (), {"epochs": 10}, rules)
    top = [{"x": 9.0, "y": 4.0}, {"x": 9.5, "y": 5.0}]
    found = narrow(parent, parent.with_fixed({"epochs": 3}), top, 5)
    assert found.space.dimensions == {"x": Uniform(0, 10), "y": Uniform(3, 6)}
    assert "x not narrowed: fewer than 5 points would be left" in found.why
    few = narrow(parent, parent, [{"x": 2.0, "y": 4.0}, {"x": 2.5, "y": 5.0}], 5)
    assert few.space.dimensions["x"] == Uniform(1.5, 3), "the rules allow these"
