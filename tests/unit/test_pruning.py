"""Rules that end trials early: when they look, what they decide, and that records replay."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from hpc_search.records.search import PruningSpec
from hpc_search.strategies.pruning import (
    Member,
    bracket_of,
    judge,
    promotions,
    recorded,
    replay,
    schedule,
)


def spec(kind: str, inner: PruningSpec | None = None, **options: Any) -> PruningSpec:
    rungs = {"min_steps": 1, "max_steps": 27, "eta": 3, "first_step": 0}
    steps = {"startup": 0, "warmup": 0, "interval": 1, "first_step": 0}
    by_kind: dict[str, Any] = {"median": steps, "percentile": {"keep": 25.0, **steps}, "patient": {}}
    return PruningSpec(kind=kind, options={**by_kind.get(kind, rungs), **options}, inner=inner)


def test_rungs_are_numbers_of_steps_done_below_the_whole_training() -> None:
    asked = schedule(spec("asha"))
    assert asked.rungs == (1, 3, 9)
    # Reports count from 0: the one at step 2 says that three steps are done.
    assert [asked.rung(step) for step in (0, 1, 2, 7, 8, 26)] == [0, 0, 1, 1, 2, 2]
    from_one = schedule(spec("asha", first_step=1))
    assert [from_one.rung(step) for step in (0, 1, 2, 3)] == [-1, 0, 0, 1]


def test_median_looks_after_its_warmup_and_at_its_interval() -> None:
    asked = schedule(spec("median", warmup=3, interval=2))
    assert [asked.rung(step) for step in range(8)] == [-1, -1, -1, 0, 0, 1, 1, 2]


def test_hyperbands_brackets_have_its_sizes_and_any_number_of_points_its_shares() -> None:
    rule = spec("hyperband")
    # ceil(4 / (s + 1) * 3^s) for s = 3 ... 0.
    assert Counter(bracket_of(rule, index) for index in range(27 + 12 + 6 + 4)) == {0: 27, 1: 12, 2: 6, 3: 4}
    assert bracket_of(rule, 49) == bracket_of(rule, 0)
    for count in range(50):
        shares = Counter(bracket_of(rule, index) for index in range(count))
        assert all(abs(shares[b] - count * n / 49) <= 1 for b, n in enumerate((27, 12, 6, 4))), count
    assert [schedule(rule, bracket).rungs for bracket in range(4)] == [(1, 3, 9), (3, 9), (9,), ()]


@pytest.mark.parametrize(("goal", "sign"), [("max", 1), ("min", -1)])
def test_asha_lets_the_best_third_go_on_at_once(goal: str, sign: int) -> None:
    others = {0: sign * 0.5, 1: sign * 0.7, 2: sign * 0.6, 3: sign * 0.4, 4: sign * 0.8}
    first = judge(spec("asha"), goal, 9, [sign * 0.1, sign * 0.75], others)
    assert (first.decision, first.peers) == ("continue", {1: sign * 0.7})
    assert first.seen == (0, 1, 2, 3, 4)
    assert judge(spec("asha"), goal, 9, [sign * 0.69], others).decision == "pause"
    # Of two no third can go on.
    assert judge(spec("asha"), goal, 9, [sign * 1.0], {0: sign * 0.5}).decision == "pause"


def test_of_equal_values_the_lower_number_is_better() -> None:
    others = {1: 0.5, 5: 0.5}
    assert judge(spec("asha"), "max", 0, [0.5], others).decision == "continue"
    assert judge(spec("asha"), "max", 3, [0.5], others).decision == "pause"


def test_median_compares_the_best_value_so_far_with_the_others_at_this_step() -> None:
    others = {0: 0.1, 1: 0.3, 2: 0.5, 3: 0.9}
    assert judge(spec("median"), "max", 9, [0.41, 0.2], others).decision == "continue"
    low = judge(spec("median"), "max", 9, [0.2, 0.39], others)
    assert (low.decision, low.value, low.peers) == ("prune", 0.39, {2: 0.5, 1: 0.3})
    assert judge(spec("median"), "max", 9, [0.4], others).decision == "continue"
    assert judge(spec("median", startup=5), "max", 9, [0.0], others).decision == "continue"
    assert judge(spec("median"), "max", 9, [0.0], {}).decision == "continue"


def test_percentile_keeps_the_best_share() -> None:
    others = {number: float(number) for number in range(5)}
    assert judge(spec("percentile"), "max", 9, [3.0], others).decision == "continue"
    assert judge(spec("percentile"), "max", 9, [2.9], others).decision == "prune"
    assert judge(spec("percentile"), "min", 9, [1.0], others).decision == "continue"
    assert judge(spec("percentile"), "min", 9, [1.1], others).decision == "prune"


def test_patient_leaves_a_trial_alone_that_still_gets_better() -> None:
    rule = spec("patient", patience=2, inner=spec("median"))
    others = {0: 5.0}
    assert judge(rule, "max", 9, [1.0, 2.0, 2.0], others).decision == "continue"
    still = judge(rule, "max", 9, [2.0, 1.0, 2.0], others)
    assert (still.decision, still.patience) == ("prune", (2.0, 2.0))
    assert judge(rule, "max", 9, [2.0, 1.0], others) == still._replace(decision="continue", patience=None)


def test_successive_halving_promotes_when_all_are_there() -> None:
    rule = spec("successive_halving", eta=2)
    assert judge(rule, "max", 0, [1.0], {1: 0.0}).decision == "pause"
    members = [Member(number, "paused", (float(number),)) for number in range(4)]
    assert promotions(rule, "max", members, before=1) == []
    assert [one.number for one in promotions(rule, "max", members, before=0)] == [3, 2]
    members[3] = Member(3, "running", (3.0,))
    assert [one.number for one in promotions(rule, "max", members, before=0)] == [2]
    # The second rung waits for both, though one of them is there.
    members[2:] = [Member(2, "paused", (2.0, 9.0)), Member(3, "running", (3.0,))]
    assert promotions(rule, "max", members, before=0) == []
    members[3] = Member(3, "paused", (3.0, 8.0))
    assert [(one.number, one.rung) for one in promotions(rule, "max", members, before=0)] == [(2, 1)]


def test_of_a_settled_bracket_one_trial_always_goes_on() -> None:
    members = [Member(0, "paused", (0.5,)), Member(1, "paused", (0.6,))]
    assert promotions(spec("asha"), "max", members, before=1) == []
    assert [one.number for one in promotions(spec("asha"), "max", members, before=0)] == [1]
    # Where the best one fails on its way, the next one takes its place.
    members[1] = Member(1, "failed", (0.6,))
    assert [one.number for one in promotions(spec("asha"), "max", members, before=0)] == [0]
    members[1] = Member(1, "done", (0.6, 0.7, 0.8))
    assert promotions(spec("asha"), "max", members, before=0) == []


def test_a_promotion_that_is_recorded_comes_first_and_is_not_decided_again() -> None:
    members = [Member(n, "paused", (n / 10,), promoted=n == 0) for n in range(6)]
    found = promotions(spec("asha"), "max", members, before=3)
    assert [(one.number, one.judged is None) for one in found] == [(0, True), (5, False), (4, False)]


def test_a_changed_record_does_not_replay() -> None:
    rule = spec("asha")
    others = {number: number / 10 for number in range(5)}
    record = recorded(rule, judge(rule, "max", 9, [0.9], others), trial=9, attempt=1, rung=0, step=0)
    assert replay(rule, record, "max") == record.decision == "continue"
    assert replay(rule, record, "min") == "pause"
    record = recorded(rule, judge(rule, "max", 9, [0.1], others), trial=9, attempt=1, rung=0, step=0)
    assert replay(rule, record, "max") == record.decision == "pause"


def test_those_pruned_in_another_fold_count_as_worse() -> None:
    # Of nine points three came through the first fold; in the second a third of nine goes on, not of three.
    others = {1: 0.5, 2: 0.9}
    behind = [3, 4, 5, 6, 7, 8]
    assert judge(spec("asha"), "max", 0, [0.1], others).decision == "pause"
    judged = judge(spec("asha"), "max", 0, [0.1], others, behind)
    assert (judged.decision, judged.seen) == ("continue", tuple(range(1, 9)))
    record = recorded(spec("asha"), judged, trial=0, attempt=1, rung=0, step=0)
    assert replay(spec("asha"), record, "max") == "continue"
    members = [Member(number, "paused", (number / 10,)) for number in range(3)]
    assert len(promotions(spec("asha"), "max", members, 0, dict.fromkeys(behind, 1))) == 3
    # They were pruned at the first rung: at the second there are three.
    members = [Member(number, "paused", (number / 10, number / 10)) for number in range(3)]
    assert len(promotions(spec("asha"), "max", members, 0, dict.fromkeys(behind, 1))) == 1
