"""Intervals, comparisons and selection: published examples, and what must never happen."""

from __future__ import annotations

import math
import random
import time
import warnings
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from hpc_search.stats import (
    ESTIMAND,
    ONE_SPLIT,
    FoldSamples,
    FoldSizes,
    Goal,
    Row,
    rank_points,
    standard_error,
)
from hpc_search.stats.comparison import compare, holm, signed_rank, smallest_p
from hpc_search.stats.intervals import intervals
from hpc_search.stats.noise import moderate, noise_of
from hpc_search.stats.selection import chance_band, null_band, select
from hpc_search.stats.study import Array, Study, make_study

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]  # R: sleep, extra of group 2 less group 1


def rows_of(values: Sequence[Sequence[float]], *, folds: bool = True) -> list[Row]:
    points = len(values)
    return [
        Row(unit * points + point, point, unit if folds else None, 0 if folds else unit, "done", "", value)
        for point, row in enumerate(values)
        for unit, value in enumerate(row)
    ]


def study_of(values: Sequence[Sequence[float]], goal: Goal = "max", *, folds: bool = True) -> Study:
    study = make_study(rank_points(rows_of(values, folds=folds), goal, lambda _: len(values[0])), goal)
    assert study is not None
    return study


def sampled(
    scores: Array, folds: int = 5, groups: dict[str | int, str] | None = None, goal: Goal = "max"
) -> Study:
    """A study of per-sample scores: one row a sample, one column a point."""
    parts = np.array_split(np.arange(len(scores)), folds)
    values = [[float(scores[part, point].mean()) for part in parts] for point in range(scores.shape[1])]
    samples = {
        point: [
            FoldSamples(fold, 0, [f"s{row}" for row in part], scores[part, point].tolist())
            for fold, part in enumerate(parts)
        ]
        for point in range(scores.shape[1])
    }
    sizes: dict[int | None, FoldSizes] = {
        fold: FoldSizes(len(scores) - len(part), len(part)) for fold, part in enumerate(parts)
    }
    study = make_study(
        rank_points(rows_of(values), goal, lambda _: folds), goal, sizes=sizes, samples=samples, groups=groups
    )
    assert study is not None
    return study


def everything(study: Study) -> bytes:
    return msgspec.json.encode([intervals(study), compare(study), select(study), null_band(study)])


# ------------------------------------------------------------------------------- published examples


def test_the_t_interval_of_seeds_is_that_of_r_for_the_sleep_data() -> None:
    (band,) = intervals(study_of([SLEEP], folds=False))

    # R 4.3: t.test(sleep$extra[11:20] - sleep$extra[1:10])
    assert band.mean == pytest.approx(1.58)
    assert band.low == pytest.approx(0.7001142, abs=5e-8)
    assert band.high == pytest.approx(2.4598858, abs=5e-8)
    assert band.method == "t on 10 seeds"


def test_the_paired_t_test_of_two_points_is_that_of_r_for_the_sleep_data() -> None:
    found = compare(study_of([SLEEP, [0.0] * 10], folds=False))

    # R 4.3: t.test(..., paired = TRUE): t = 4.0621, df = 9, two-sided p = 0.002833
    assert found.tests[0].error == pytest.approx(1.58 / 4.0621, rel=1e-5)
    assert found.tests[0].p == pytest.approx(0.002833 / 2, rel=2e-4)
    assert found.winner == 0


def test_the_corrected_t_is_the_one_that_scikit_learn_publishes() -> None:
    # scikit-learn, "Statistical comparison of models using grid search": corrected t-value 0.750, p 0.227;
    # n_train 90, n_test 10. These are its 100 differences of ROC AUC (rbf less linear), in 1/25.
    shown = """
        -1 -3  0  0  0  1  1  0  1  0  1  1  1  1  1 -1  0  0  0  0 -1 -1  1 -2  0  1  1  1  0  0 -1  1  0  0
         1  0  0  1  1  0  1  0  0  0  0  0  0  2  0  0  0  1  1  1  0  1 -1  2  0  0  0  0  0  5 -1  0  1  0
         0  0  0  1  1  2  0  1  0 -1  0  0  1 -2  1  0  1  0  0  0  0  0  0 -1  0 -1  0  0  1  2  0  0"""
    gaps = [int(part) / 25 for part in shown.split()]
    sizes: dict[int | None, FoldSizes] = dict.fromkeys(range(100), FoldSizes(90, 10))

    study = make_study(rank_points(rows_of([gaps, [0.0] * 100]), "max", lambda _: 100), "max", sizes=sizes)

    assert study is not None
    (found,) = compare(study).tests
    assert found.error is not None
    assert found.difference / found.error == pytest.approx(0.750, abs=5e-4)
    assert found.p == pytest.approx(0.227, abs=5e-4)
    assert np.mean(gaps) / (standard_error(gaps, 10 / 90) or 0) == pytest.approx(0.750, abs=5e-4)


def test_the_corrected_error_by_hand() -> None:
    # Nadeau and Bengio 2003: sd 1.5811 of 1..5, x sqrt(1/5 + 1/4)
    assert standard_error([1.0, 2.0, 3.0, 4.0, 5.0], 0.25) == pytest.approx(math.sqrt(2.5 * 0.45))
    (band,) = intervals(study_of([[1.0, 2.0, 3.0, 4.0, 5.0]]))
    assert band.high == pytest.approx(3 + 2.776445 * math.sqrt(2.5 * 0.45), rel=1e-6)
    assert band.method == "corrected t on 5 folds"


def test_two_points_on_folds_get_the_corrected_resampled_t_test() -> None:
    first, second = [0.9, 0.8, 0.85, 0.95, 0.9], [0.8, 0.75, 0.85, 0.85, 0.7]

    found = compare(study_of([first, second]))

    gaps = np.array(first) - np.array(second)
    by_hand = gaps.mean() / np.sqrt(gaps.var(ddof=1) * (1 / 5 + 1 / 4))
    assert found.tests[0].error == pytest.approx(gaps.mean() / by_hand)
    # t = 1.8091, 4 degrees of freedom; R: pt(-1.8091, 4) = 0.07235
    assert by_hand == pytest.approx(1.8091, abs=5e-5)
    assert found.tests[0].p == pytest.approx(0.07235, abs=5e-5)


def test_holm_is_that_of_r() -> None:
    # R 4.3: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # R 4.3: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]).tolist() == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([]).tolist() == []


def test_the_signed_rank_test_is_that_of_hollander_and_wolfe() -> None:
    # Hollander and Wolfe 1973, page 29, depression scores; R: V = 40, two-sided p = 0.03906
    first = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    second = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])

    assert signed_rank(first, second) == pytest.approx(0.0390625)


def test_the_signed_rank_test_needs_six_pairs_that_differ() -> None:
    assert signed_rank(np.arange(1.0, 6), np.zeros(5)) is None
    assert signed_rank(np.array([1.0, 2, 3, 4, 5, 0]), np.zeros(6)) is None
    assert signed_rank(np.arange(1.0, 7), np.zeros(6)) == smallest_p(6) == 0.03125
    assert smallest_p(5) == 0.0625


def test_ties_and_zeros_of_the_signed_rank_test_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p = signed_rank(np.array([1.0, 1, 1, 2, 2, 2, 0]), np.zeros(7))

    assert p is not None
    assert 0 < p < 0.1


def test_ten_models_that_guess_reach_52_percent_of_1199_pairs() -> None:
    band = chance_band(1_199, 10)

    assert band.expected == pytest.approx(0.522, abs=5e-4)
    assert 0.53 < band.edge < 0.54


# ------------------------------------------------------------------------------------ moderation


def test_variances_that_differ_by_chance_only_become_one() -> None:
    variances = np.random.default_rng(1).chisquare(4, 200) / 4

    moderated, df = moderate(variances, 4)

    assert moderated.max() / moderated.min() < 1.5
    assert df > 40


def test_variances_that_do_differ_stay_different() -> None:
    random_ = np.random.default_rng(1)
    true = np.exp(random_.standard_normal(500) * 1.5)

    moderated, df = moderate(true * random_.chisquare(4, 500) / 4, 4)

    assert np.corrcoef(np.log(moderated), np.log(true))[0, 1] > 0.8
    assert df < 8


def test_a_wild_point_does_not_hide_the_differences_of_the_others() -> None:
    random_ = np.random.default_rng(3)
    values = random_.standard_normal((18, 5))
    values[0] += 8
    values[17] = -1e6 * random_.random(5)

    assert compare(study_of(values.tolist())).winner == 0


# ---------------------------------------------------------------------------------- always true


def test_the_same_results_give_the_same_bytes_in_any_order_of_arrival() -> None:
    values = np.random.default_rng(0).standard_normal((12, 5)).tolist()
    rows = rows_of(values)
    studies = []
    for seed in (1, 2):
        shuffled = random.Random(seed).sample(rows, len(rows))
        studies.append(make_study(rank_points(shuffled, "max", lambda _: 5), "max"))

    assert studies[0] is not None
    assert studies[1] is not None
    assert everything(studies[0]) == everything(studies[1])


def test_samples_in_another_order_give_the_same_bytes() -> None:
    scores = np.random.default_rng(0).random((100, 4))
    values = [[float(scores[:, point].mean())] for point in range(4)]
    ranked = rank_points(rows_of(values), "max", lambda _: 1)
    found = []
    for order in (np.arange(100), np.random.default_rng(1).permutation(100)):
        samples = {
            point: [FoldSamples(0, 0, order.tolist(), scores[order, point].tolist())] for point in range(4)
        }
        study = make_study(ranked, "max", samples=samples)
        assert study is not None
        assert study.clusters is not None
        found.append(everything(study))

    assert found[0] == found[1]


def test_a_loss_is_judged_as_its_negative_is() -> None:
    values = np.random.default_rng(0).standard_normal((10, 5))
    high, low = study_of(values.tolist()), study_of((-values).tolist(), "min")

    assert compare(high).alike == compare(low).alike
    up, down = select(high), select(low)
    assert up is not None
    assert down is not None
    assert up.corrected == pytest.approx(-down.corrected)
    assert (up.low, up.high) == pytest.approx((-down.high, -down.low))
    assert down.corrected > down.mean
    up_band, down_band = null_band(high), null_band(low)
    assert up_band is not None
    assert down_band is not None
    assert up_band.edge == pytest.approx(-down_band.edge)


def test_incomplete_points_enter_nothing() -> None:
    values = np.random.default_rng(0).standard_normal((6, 5)).tolist()
    rows = rows_of(values)
    extra = [Row(100, 6, 0, 0, "done", "", 99.0), Row(101, 6, 1, 0, "pruned")]

    with_it = make_study(rank_points([*rows, *extra], "max", lambda _: 5), "max")
    without = make_study(rank_points(rows, "max", lambda _: 5), "max")

    assert with_it is not None
    assert without is not None
    assert everything(with_it) == everything(without)


def test_nothing_complete_is_no_study() -> None:
    assert make_study(rank_points([Row(0, 0, 0, 0, "failed", "oom")], "max", lambda _: 5), "max") is None


def test_one_value_a_point_says_nothing_and_claims_nothing() -> None:
    study = study_of([[0.5], [0.7]])

    assert [band.low for band in intervals(study)] == [None, None]
    assert compare(study).alike == (1, 0)
    assert compare(study).winner is None
    assert select(study) is None
    assert null_band(study) is None


def test_one_point_alone_is_no_winner() -> None:
    assert compare(study_of([[0.5, 0.6, 0.7]])).winner is None


def test_equal_points_cannot_be_told_apart_even_without_noise() -> None:
    found = compare(study_of([[0.5] * 5, [0.5] * 5, [0.4] * 5]))

    assert found.alike == (0, 1)


@pytest.mark.parametrize("size", [1e300, 1e-300, 1.7e308])
def test_values_at_the_ends_of_the_floats_break_nothing(size: float) -> None:
    values = (np.random.default_rng(0).uniform(0.1, 1, (6, 5)) * size).tolist()

    assert everything(study_of(values))


def test_seeds_are_averaged_within_a_fold_first() -> None:
    rows = [
        Row(fold * 2 + seed, 0, fold, seed, "done", "", fold + 10.0 * seed)
        for fold in range(5)
        for seed in range(2)
    ]
    study = make_study(rank_points(rows, "max", lambda _: 10), "max")

    assert study is not None
    (band,) = intervals(study)
    assert band.n == 5
    assert band.sd == pytest.approx(math.sqrt(2.5))


def test_points_with_other_seeds_are_set_apart_and_keep_their_interval() -> None:
    rows = rows_of([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0]], folds=False)
    more = [Row(10 + seed, 2, None, seed, "done", "", 0.1 * seed) for seed in range(2)]
    study = make_study(rank_points([*rows, *more], "max", {0: 3, 1: 3, 2: 2}.__getitem__), "max")

    assert study is not None
    assert study.points == (0, 1)
    assert "1 points have other folds or seeds" in study.note
    assert [band.point for band in intervals(study)] == [0, 1, 2]


def test_the_estimand_of_seeds_on_one_split_says_so() -> None:
    assert study_of([[1.0, 2.0]], folds=False).estimand == ONE_SPLIT
    assert study_of([[1.0, 2.0]]).estimand == ESTIMAND


# -------------------------------------------------------------------------------------- samples


def test_samples_of_one_group_are_one_observation() -> None:
    random_ = np.random.default_rng(0)
    patients = np.repeat(random_.standard_normal((40, 3)), 10, axis=0)
    scores = patients + 0.1 * random_.standard_normal(patients.shape)
    groups: dict[str | int, str] = {f"s{row}": f"p{row // 10}" for row in range(400)}

    alone, grouped = intervals(sampled(scores))[0], intervals(sampled(scores, groups=groups))[0]

    assert grouped.method == "studentised bootstrap over 40 groups"
    assert alone.error is not None
    assert grouped.error is not None
    assert 2.5 < grouped.error / alone.error < 3.5


def test_the_error_from_samples_is_that_of_their_mean_widened_for_training_sets() -> None:
    scores = np.random.default_rng(0).random((500, 2))

    band = intervals(sampled(scores))[0]

    error = scores[:, band.point].std(ddof=1) / math.sqrt(500)
    assert band.error == pytest.approx(error * math.sqrt(1 + 500 / 400), rel=1e-9)


def test_scores_that_are_all_right_but_one_still_have_an_interval() -> None:
    scores = np.ones((100, 2))
    scores[3, 1] = 0

    perfect, nearly = intervals(sampled(scores))

    assert (perfect.low, perfect.high) == (None, None)
    assert nearly.low is not None
    assert nearly.low < 0.99
    assert nearly.method == "t over 100 samples"


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ("metric", "not the mean of the per-sample scores"),
        ("ids", "scores of different samples"),
        ("twice", "scores of different samples"),
        ("missing", "not reported by every trial"),
        ("few", "only 10 samples"),
    ],
)
def test_samples_that_do_not_fit_are_set_aside_with_the_reason(change: str, note: str) -> None:
    count = 10 if change == "few" else 50
    scores = np.random.default_rng(0).random((count, 2))
    values = [[float(scores[:, point].mean()) + (change == "metric")] for point in range(2)]
    ids = list(range(count))
    samples = {point: [FoldSamples(0, 0, ids, scores[:, point].tolist())] for point in range(2)}
    if change == "ids":
        samples[1] = [FoldSamples(0, 0, [*ids[:-1], 99], scores[:, 1].tolist())]
    if change == "twice":
        samples[1] = [FoldSamples(0, 0, [*ids[:-1], 0], scores[:, 1].tolist())]
    if change == "missing":
        del samples[1]

    study = make_study(rank_points(rows_of(values), "max", lambda _: 1), "max", samples=samples)

    assert study is not None
    assert study.clusters is None
    assert note in study.note


def test_a_better_point_on_the_same_samples_is_told_from_the_others_by_pairs() -> None:
    random_ = np.random.default_rng(0)
    difficulty = 3 * random_.standard_normal((500, 1))
    scores = difficulty + 0.3 * random_.standard_normal((500, 6))
    scores[:, 2] += 0.2

    assert compare(sampled(scores)).winner == 2


def test_a_selected_point_of_pure_noise_gives_its_luck_back() -> None:
    random_ = np.random.default_rng(0)
    left = []
    for _ in range(60):
        found = select(sampled(random_.standard_normal((200, 18))))
        assert found is not None
        assert not found.rough
        left.append((found.corrected, found.mean))

    corrected, observed = np.mean(left, axis=0)
    assert abs(corrected) < 0.2 * observed


def test_from_folds_alone_the_corrected_score_is_called_rough() -> None:
    found = select(study_of(np.random.default_rng(0).standard_normal((6, 5)).tolist()))

    assert found is not None
    assert found.rough


# ---------------------------------------------------------------------------------------- speed


def test_ten_thousand_points_take_a_moment() -> None:
    ranked = rank_points(rows_of(np.random.default_rng(0).random((10_000, 5)).tolist()), "max", lambda _: 5)
    everything(study_of(np.random.default_rng(0).random((5, 5)).tolist()))  # imports
    started = time.process_time()

    study = make_study(ranked, "max")
    assert study is not None
    everything(study)

    assert time.process_time() - started < 1.5  # 0.3 s on a quiet machine


@pytest.mark.parametrize("count", [2, 3, 5])
def test_correlations_of_independent_points_are_not_believed(count: int) -> None:
    values = np.random.default_rng(3).normal(size=(300, count))

    noise = noise_of(study_of(values.tolist(), folds=False))

    assert noise is not None
    assert noise.trust < 0.05


def test_the_best_of_many_equal_points_over_two_seeds_is_corrected_to_what_they_are() -> None:
    random = np.random.default_rng(4)
    covered, found = 0, []
    for _ in range(20):
        selected = select(study_of(random.normal(0.0, 1.0, (1_000, 2)).tolist(), folds=False))
        assert selected is not None
        assert selected.low <= selected.corrected <= selected.high
        covered += selected.low <= 0.0
        found.append(selected.optimism / selected.mean)

    assert covered >= 17
    assert np.mean(found) > 0.7


def test_a_corrected_score_lies_in_its_own_interval() -> None:
    random = np.random.default_rng(5)
    for points, count in ((2, 2), (3, 5), (18, 5), (3_000, 2), (3_000, 3)):
        for values in (random.normal, random.uniform, random.standard_cauchy):
            selected = select(study_of(values(size=(points, count)).tolist(), folds=False))
            assert selected is not None
            assert selected.low <= selected.corrected <= selected.high, (points, count, values)


def test_two_points_over_two_folds_are_not_told_apart_by_chance() -> None:
    random = np.random.default_rng(6)
    winners = sum(
        compare(study_of(random.normal(size=(18, 2)).tolist())).winner is not None for _ in range(100)
    )

    assert winners <= 5
