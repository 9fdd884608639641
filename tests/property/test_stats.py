"""Statistics against exact arithmetic, and ranks under any order of arrival."""

from __future__ import annotations

import random
import statistics
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from hpc_search.stats import Row, mean, rank_points, sample_sd

VALUES = st.floats(-1e100, 1e100, allow_nan=False)


@given(st.lists(VALUES, min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_mean_does_not_depend_on_the_order_and_lies_within_the_values(
    values: list[float], rng: random.Random
) -> None:
    shuffled = rng.sample(values, len(values))

    assert mean(values) == mean(shuffled)
    assert min(values) <= mean(values) <= max(values)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_sd_equals_that_of_exact_fractions(values: list[float]) -> None:
    exact = statistics.stdev([Fraction(value) for value in values])

    found = sample_sd(values)

    assert found is not None
    assert abs(found - exact) <= 1e-9 * max(map(abs, values)) + 1e-300


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    points, folds = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    values = st.sampled_from([0.1, 0.2, 0.3, 1e-300, -5.0])
    states = st.sampled_from([("done", ""), ("done", ""), ("failed", "oom"), ("pruned", "")])
    found = []
    for number in range(points * folds):
        state, cause = draw(states)
        value = draw(values) if state == "done" else None
        if draw(st.booleans()) or value is not None:
            found.append(Row(number, number % points, number // points, 0, state, cause, value))
    return found


@given(tables(), st.sampled_from(["max", "min"]), st.randoms(use_true_random=False))
def test_the_ranking_is_a_function_of_the_rows_and_complete_points_come_first(
    table: list[Row], goal: str, rng: random.Random
) -> None:
    wanted = "max" if goal == "max" else "min"
    folds = 1 + max((row.fold or 0 for row in table), default=0)

    scores = rank_points(table, "max" if wanted == "max" else "min", lambda _: folds)
    again = rank_points(rng.sample(table, len(table)), "max" if wanted == "max" else "min", lambda _: folds)

    assert scores == again
    assert [score.rank for score in scores] == list(range(1, len(scores) + 1))
    complete = [score.complete for score in scores]
    assert complete == sorted(complete, reverse=True)
    for score in scores:
        done = [row for row in table if row.point == score.point and row.state == "done"]
        assert score.complete == (len(done) == folds)
        assert score.n == len(done)
