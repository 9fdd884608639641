"""Fronts of points with several objectives, and how far apart the points of a front lie."""

from __future__ import annotations

import math

import pytest

from hpc_search.strategies.pareto import best_first, crowding, ranks


def test_no_point_of_the_front_is_beaten_in_every_objective() -> None:
    values = [(0.9, 10.0), (0.8, 5.0), (0.8, 6.0), (0.7, 4.0), (0.6, 9.0)]

    assert ranks(values, ["max", "min"]) == [0, 0, 1, 0, 2]


def test_equal_points_are_on_one_front() -> None:
    assert ranks([(1.0, 2.0, 3.0)] * 3 + [(1.0, 2.0, 4.0)], ["min"] * 3) == [0, 0, 0, 1]


def test_of_one_objective_the_fronts_are_the_values_in_order() -> None:
    assert ranks([(3.0,), (1.0,), (2.0,), (1.0,)], ["min"]) == [2, 0, 1, 0]


def test_zero_of_either_sign_is_one_value() -> None:
    assert ranks([(0.0, 1.0), (-0.0, 1.0)], ["max", "min"]) == [0, 0]


def test_no_points_have_no_fronts() -> None:
    assert ranks([], ["max", "min"]) == []


def test_the_ends_of_a_front_are_the_least_crowded() -> None:
    assert crowding([(0.0, 4.0), (1.0, 3.0), (4.0, 0.0)]) == [math.inf, 2.0, math.inf]


def test_an_objective_without_a_range_crowds_nothing() -> None:
    assert crowding([(0.0, 1.0), (1.0, 1.0), (3.0, 1.0), (4.0, 1.0)])[1:3] == [0.75, 0.75]


def test_the_largest_floats_have_finite_distances() -> None:
    assert crowding([(-1.7e308,), (0.0,), (1.7e308,)])[1] == 1.0


@pytest.mark.parametrize("goals", [["min", "min"], ["max", "max"]])
def test_the_best_come_first_by_front_then_by_distance(goals: list[str]) -> None:
    sign = 1 if goals[0] == "min" else -1
    values = [(9.0, 9.0), (0.0, 4.0), (1.0, 3.0), (1.5, 2.9), (4.0, 0.0)]

    found = best_first([(sign * a, sign * b) for a, b in values], goals)

    assert found == [1, 4, 3, 2, 0]
