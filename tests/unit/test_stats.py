"""Ranking of points."""

from __future__ import annotations

import math

from hpc_search.stats import Row, mean, rank_points, sample_sd


def rows(point: int, values: list[float], first: int = 0) -> list[Row]:
    return [Row(first + fold, point, fold, 0, "done", "", value) for fold, value in enumerate(values)]


def test_the_best_point_has_the_highest_mean_for_max_and_the_lowest_for_min() -> None:
    found = [*rows(0, [0.1, 0.2]), *rows(1, [0.3, 0.5], 2)]

    assert [score.point for score in rank_points(found, "max", lambda _: 2)] == [1, 0]
    assert [score.point for score in rank_points(found, "min", lambda _: 2)] == [0, 1]


def test_mean_and_sample_sd_are_those_of_the_fold_values() -> None:
    (score,) = rank_points(rows(0, [1.0, 2.0, 3.0, 4.0]), "max", lambda _: 4)

    assert score.mean == 2.5
    assert score.sd is not None
    assert math.isclose(score.sd, 1.2909944487358056, rel_tol=1e-15)


def test_sd_of_one_value_is_unknown_not_zero() -> None:
    assert sample_sd([0.5]) is None


def test_an_incomplete_point_never_wins_however_good_its_values_are() -> None:
    found = [*rows(0, [0.1, 0.1]), *rows(1, [0.99], 2)]

    first, second = rank_points(found, "max", lambda _: 2)

    assert (first.point, first.complete, first.rank) == (0, True, 1)
    assert (second.point, second.complete, second.rank) == (1, False, 2)
    assert second.reasons == {"not finished": 1}


def test_a_failed_or_pruned_fold_makes_its_point_incomplete_with_the_reason() -> None:
    found = [
        *rows(0, [0.9]),
        Row(1, 0, 1, 0, "failed", "oom", None),
        Row(2, 0, 2, 0, "pruned", "", 0.99),
        Row(3, 0, 3, 0, "done", "", math.nan),
        Row(4, 0, 4, 0, "done", "", None),
    ]

    (score,) = rank_points(found, "max", lambda _: 5)

    assert not score.complete
    assert (score.n, score.mean) == (1, 0.9)
    assert score.reasons == {"failed(oom)": 1, "no value": 2, "pruned": 1}


def test_equal_means_are_ranked_by_point_number_whatever_the_order_of_arrival() -> None:
    found = [*rows(7, [0.1, 0.2, 0.3], 10), *rows(3, [0.3, 0.1, 0.2]), *rows(5, [0.2, 0.3, 0.1], 20)]

    assert [score.point for score in rank_points(reversed(found), "max", lambda _: 3)] == [3, 5, 7]


def test_values_stand_in_the_order_of_the_trials() -> None:
    found = rows(0, [0.5, 0.25, 0.125])

    (score,) = rank_points(found[::-1], "max", lambda _: 3)

    assert [(value.fold, value.value) for value in score.values] == [(0, 0.5), (1, 0.25), (2, 0.125)]


def test_a_search_without_folds_has_fold_none() -> None:
    (score,) = rank_points([Row(0, 0, None, 4, "done", "", 1.5)], "min", lambda _: 1)

    assert score.values == ((None, 4, 1.5),)
    assert (score.mean, score.sd) == (1.5, None)


def test_values_near_the_largest_float_do_not_overflow() -> None:
    large = [1.7e308, 1.6e308, -1.7e308]

    assert math.isfinite(mean(large))
    assert math.isclose(sample_sd([1.0e308, -1.0e308]) or 0.0, math.sqrt(2) * 1e308, rel_tol=1e-12)


def test_nothing_finished_ranks_nothing() -> None:
    assert rank_points([], "max", lambda _: 1) == []
