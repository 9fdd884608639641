"""Points that lose clearly before all of their folds are done: the test, its records, its error."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import pytest
from msgspec import structs

from hpc_search.fsck.verdicts import check_verdicts
from hpc_search.records import journal
from hpc_search.records.search import RacingSpec
from hpc_search.strategies.pruning import in_words
from hpc_search.strategies.racing import Loss, Race, Rules, pooled, recorded, share, threshold, wrong
from tests.run_builder import RunBuilder
from tools.benchmarks.racing import contenders, studies

RULES = Rules("max", folds=5, points=6, error=0.05)
#: Six points in two folds; the first loses to the last by ten times the noise and more.
TABLE = [[0.10, 0.31], [0.80, 1.02], [0.81, 0.99], [0.79, 1.01], [0.82, 1.00], [0.90, 1.12]]


def race(table: Sequence[Sequence[float]], rules: Rules = RULES, able: Mapping[int, bool] = {}) -> Race:
    made = Race(rules)
    for point, values in enumerate(table):
        made.put(point, dict(enumerate(values)), able=able.get(point, True))
    return made


def loss(made: Race, point: int) -> Loss:
    found = made.loss(point)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("points", "freedom", "table"),
    [(2, 5, 2.02), (2, 20, 1.72), (5, 5, 2.85), (5, 20, 2.30), (10, 10, 2.81), (10, 20, 2.60)],
)
def test_the_threshold_is_dunnetts_published_one_sided_quantile(
    points: int, freedom: int, table: float
) -> None:
    # Dunnett 1955, table 1a, 0.95; one look only, so that all of the error is spent there.
    rules = Rules("max", folds=3, points=points, error=0.05)
    assert threshold(rules, 2, freedom) == pytest.approx(table, abs=0.006)


def test_the_error_is_spent_over_the_looks_and_the_points_that_have_to_stay() -> None:
    assert [share(RULES, count) for count in (2, 3, 4)] == pytest.approx([0.025, 0.05 / 3, 0.05 / 6])
    assert share(RULES._replace(keep=4), 3) == pytest.approx(0.05 / 12)


@pytest.mark.parametrize(("goal", "sign"), [("max", 1), ("min", -1)])
def test_a_point_is_out_by_the_mean_paired_difference_over_what_is_not_known_of_it(
    goal: str, sign: int
) -> None:
    made = race([[sign * value for value in row] for row in TABLE], RULES._replace(goal=goal))
    found = loss(made, 0)
    assert (found.against, found.folds) == (5, (0, 1))
    means = [statistics.fmean(row) for row in TABLE]
    columns = [statistics.fmean(column) - statistics.fmean(means) for column in zip(*TABLE, strict=True)]
    residuals = [
        value - mean - column
        for row, mean in zip(TABLE, means, strict=True)
        for value, column in zip(row, columns, strict=True)
    ]
    spread = math.fsum(one**2 for one in residuals) / 5
    assert found.spread == pytest.approx(spread)
    assert found.freedom == 5
    deviation = math.sqrt(2 * spread * (1 / 2 - 1 / 5))
    assert found.statistic == pytest.approx((means[5] - means[0]) / deviation)
    assert found.threshold == threshold(RULES, 2, 5) < found.statistic
    assert made.loss(5) is None


def test_a_noisy_pair_is_judged_by_its_own_noise() -> None:
    noisy = [[-0.1, 0.8], *TABLE[1:]]
    by_all = (1.01 - 0.35) / math.sqrt(2 * pooled(noisy).spread * (1 / 2 - 1 / 5))
    assert by_all > threshold(RULES, 2, 5)
    assert race(noisy).loss(0) is None


def test_what_all_points_have_in_common_in_a_fold_says_nothing() -> None:
    shifted = [[values[0] - 3, values[1] + 8] for values in TABLE]
    assert loss(race(shifted), 0).statistic == pytest.approx(loss(race(TABLE), 0).statistic)


def test_folds_are_compared_with_the_same_ones_whoever_has_more() -> None:
    table = [[*row, 1.0 + row[0]] for row in TABLE]
    made = race(table)
    made.put(0, {0: table[0][0], 2: table[0][2]})
    assert loss(made, 0).folds == (0, 2)


def test_too_few_folds_or_all_of_them_decide_nothing() -> None:
    one = race([row[:1] for row in TABLE])
    assert one.loss(0) is None
    whole = race([[*row, *row, row[0]] for row in TABLE])
    assert whole.loss(0) is None
    assert race(TABLE, RULES._replace(least=3)).loss(0) is None
    assert race(TABLE).loss(77) is None


def test_two_points_are_compared_from_the_third_fold_on() -> None:
    pair = [[0.1, 0.2, 0.31], [9.1, 9.2, 9.3]]
    rules = RULES._replace(points=2)
    assert race([row[:2] for row in pair], rules).loss(0) is None
    assert loss(race(pair, rules), 0).against == 1


def test_a_point_that_failed_beats_nobody_but_says_how_large_noise_is() -> None:
    made = race(TABLE, able={5: False})
    assert loss(made, 0).against != 5
    assert race(TABLE, able=dict.fromkeys(range(1, 6), False)).loss(0) is None
    assert loss(made, 0).freedom == 5
    # Run again, it may win.
    made.put(5, dict(enumerate(TABLE[5])), able=True)
    assert loss(made, 0).against == 5


def test_as_many_points_stay_as_a_later_stage_takes() -> None:
    table = [[0.1 * point, 0.1 * point + 0.2 + 1e-4 * (point % 2)] for point in range(6)]
    for keep in range(1, 6):
        made = race(table, RULES._replace(keep=keep))
        assert [point for point in range(6) if made.loss(point) is None] == [*range(6 - keep, 6)]


def test_who_may_be_chosen_within_a_standard_error_stays() -> None:
    table = [[row[0], row[1] + 0.2] for row in TABLE]
    assert loss(race(table), 0).margin == 0
    near = race(table, RULES._replace(near=0.25))
    error = statistics.stdev(table[5]) * math.sqrt(1 / 5 + 0.25)
    assert loss(near, 0).margin == pytest.approx(error)
    assert loss(near, 0).statistic < loss(race(table), 0).statistic
    assert race(table, RULES._replace(near=8.0)).loss(0) is None


def test_without_any_noise_only_equals_stay() -> None:
    made = race([[0.5, 0.7], [0.4, 0.6], [0.5, 0.7]])
    assert (made.loss(0), made.loss(2)) == (None, None)
    assert loss(made, 1).statistic > 1e6
    assert pooled([[1.0, 2.0]]) == (0.0, 0)


# -- records
def verdict(**changed: object) -> journal.Verdict:
    found = recorded(RULES, loss(race(TABLE), 0), trial=12, attempt=1, peers={5: 0.90, 11: 1.12})
    assert found.race is not None
    return structs.replace(found, race=structs.replace(found.race, **changed))


def test_a_decision_follows_from_its_record_and_is_said_in_words() -> None:
    found = verdict()
    assert found.race is not None
    assert (found.rule, found.decision, found.rung, found.seen) == ("race", "prune", -1, "5,11")
    assert wrong(found.race, "max") == ""
    again = journal.parse_line(journal.encode_line(found)[:-1])
    assert again == found
    words = in_words(found, "acc")
    assert words.startswith("race: its point loses to point 5: by 0.805 +- 0.")
    assert "over folds 0-1 of 5" in words
    assert "(error 0.05)" in words


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"own": (0.8, 0.9)}, "has the statistic"),
        ({"other": (0.1, 0.2)}, "has the statistic"),
        ({"spread": 1.0}, "has the statistic"),
        ({"threshold": 0.1}, "has the threshold"),
        ({"points": 60}, "has the threshold"),
        ({"folds": (0,)}, "compares folds"),
        ({"folds": (0, 1, 2, 3, 4)}, "compares folds"),
        ({"freedom": 1}, "says nothing"),
        ({"error": 0.01}, "by another rule"),
        ({"folds": (0, 7)}, "folds that the plan does not have"),
    ],
)
def test_fsck_finds_a_decision_that_does_not_follow(
    changed: dict[str, object], says: str, tmp_path: object
) -> None:
    run = RunBuilder(tmp_path, points=6, folds=5)  # type: ignore[arg-type]
    racing = structs.replace(run.plan.blocks[0], racing=RacingSpec())
    plan = structs.replace(run.plan, blocks=(racing,))
    assert [*check_verdicts(plan, [("journal", verdict())])] == []
    found = [case.finding.what for case in check_verdicts(plan, [("journal", verdict(**changed))])]
    assert len(found) == 1
    assert says in found[0]
    assert "trial 12, between folds" in found[0]
    assert [*check_verdicts(run.plan, [("journal", verdict())])]


# -- its error
@pytest.mark.parametrize("noise", [*studies.NOISES])
def test_the_best_point_is_left_out_no_more_often_than_the_error_says(noise: str) -> None:
    # Without any true differences noise decides most; `bench racing` has more of it.
    made = [studies.study(noise, 0.0, seed) for seed in range(60)]
    found = [(study, contenders.ours(study, 4)) for study in made]
    lost = sum(study.best in outcome.out for study, outcome in found) / len(found)
    assert lost <= contenders.ERROR + 3 * math.sqrt(0.05 * 0.95 / len(found))
    assert all(outcome.chosen is not None for _, outcome in found)


def test_most_folds_of_points_that_are_far_apart_are_left_out() -> None:
    made = [studies.study("independent", 3.0, seed) for seed in range(30)]
    found = [(study, contenders.ours(study, 4)) for study in made]
    assert statistics.fmean(1 - outcome.trained / 90 for _, outcome in found) > 0.4
    assert sum(outcome.chosen != study.best for study, outcome in found) <= 2
