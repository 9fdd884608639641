"""Races over any values: what came first does not matter, and who loses by more is out as well."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_search.strategies.racing import Loss, Race, Rules, recorded, wrong

FOLDS = 5
Known = list[dict[int, float]]
#: Values on a grid: sums in another order are not what is tested.
VALUE = st.integers(-(2**20), 2**20).map(lambda number: number / 1024)


@st.composite
def tables(draw: st.DrawFn) -> Known:
    """Draw what is known of some points: values that are the point's, the fold's and a little more."""
    points = draw(st.integers(2, 9))
    folds = [draw(VALUE) for _ in range(FOLDS)]
    noise = st.integers(-64, 64).map(lambda number: number / 1024)
    known = []
    for _ in range(points):
        own = draw(VALUE) / draw(st.sampled_from([1, 64, 4096]))
        which = draw(st.sets(st.integers(0, FOLDS - 1)))
        known.append({fold: own + folds[fold] + draw(noise) for fold in sorted(which)})
    return known


def race(known: Known, rules: Rules, order: list[int]) -> Race:
    made = Race(rules)
    for point in order:
        made.put(point, known[point], able=point % 7 != 6)
    return made


def losses(known: Known, rules: Rules) -> list[Loss | None]:
    made = race(known, rules, [*range(len(known))])
    return [made.loss(point) for point in range(len(known))]


def rules_for(known: Known, keep: int = 1, goal: str = "max") -> Rules:
    return Rules(goal, FOLDS, len(known), 0.05, keep=keep)


@given(tables(), st.integers(1, 3), st.randoms(use_true_random=False))
def test_the_order_in_which_values_came_does_not_matter(
    known: Known, keep: int, chance: random.Random
) -> None:
    rules = rules_for(known, keep)
    order = [*range(len(known))]
    chance.shuffle(order)
    made = Race(rules)
    for point in order:
        # Fold by fold, in any order, and of points that are asked about in between.
        folds = [*known[point]]
        chance.shuffle(folds)
        for last in range(len(folds) + 1):
            made.put(point, {fold: known[point][fold] for fold in folds[:last]}, able=point % 7 != 6)
            made.loss(chance.choice(order))
    assert [made.loss(point) for point in range(len(known))] == losses(known, rules)


@given(tables(), st.integers(1, 2**20))
def test_a_point_that_is_out_stays_out_with_less(known: Known, less: int) -> None:
    rules = rules_for(known)
    for point, found in enumerate(losses(known, rules)):
        if found is not None:
            worse = [*known]
            worse[point] = {fold: value - less / 1024 for fold, value in known[point].items()}
            again = losses(worse, rules)[point]
            assert again is not None
            assert again.statistic >= found.statistic * (1 - 1e-9)


@given(tables(), st.integers(1, 3))
def test_both_goals_are_mirrors_and_every_record_replays(known: Known, keep: int) -> None:
    mirrored = [{fold: -value for fold, value in values.items()} for values in known]
    there = losses(mirrored, rules_for(known, keep, "min"))
    for found, other in zip(losses(known, rules_for(known, keep)), there, strict=True):
        assert (found is None) == (other is None)
        if found is None or other is None:
            continue
        assert (found.against, found.folds) == (other.against, other.folds)
        assert found.statistic == pytest.approx(other.statistic)
        for goal, one in (("max", found), ("min", other)):
            record = recorded(rules_for(known, keep, goal), one, trial=1, attempt=1, peers={}).race
            assert record is not None
            assert wrong(record, goal) == ""


@given(tables(), st.integers(1, 3))
def test_nobody_is_out_by_one_that_is_worse_and_as_many_stay_as_asked(known: Known, keep: int) -> None:
    found = losses(known, rules_for(known, keep))
    for one in found:
        assert one is None or sum(one.other) > sum(one.own)
    able = [point for point, values in enumerate(known) if values and point % 7 != 6]
    assert sum(found[point] is None for point in able) >= min(keep, len(able))
