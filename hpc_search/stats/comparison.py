"""Which points cannot be told from the best one; pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpc_search.stats.figures import Comparison, PairedTest
from hpc_search.stats.noise import Noise, noise_of
from hpc_search.stats.study import Array, Study

ALPHA = 0.05
RANKED = 100  # tests are listed, and signed-rank tests made, of so many points, the best by mean
FEWEST_PAIRS = 6  # five pairs cannot give a two-sided p below 0.0625


def compare(study: Study) -> Comparison:
    """Return the points that cannot be told from the best one of *study*.

    Every point is tested against the best one, one-sided, in pairs: on samples or groups where they are
    known, else on folds with the corrected resampled t-test (Nadeau and Bengio 2003). A point is dropped
    when it is significantly worse after Holm (1979) at 5 %. The variance of a point in the fold tests is
    that of what remains after points and folds are taken out, moderated over the points (Smyth 2004):
    four degrees of freedom alone would tell nothing apart after Holm.
    """
    with np.errstate(all="ignore"):
        noise = noise_of(study)
        gaps = study.sign * (study.means[0] - study.means)
        errors, probabilities = _tests(noise, gaps)
        adjusted = holm(probabilities[1:])
    tests = tuple(
        PairedTest(
            point=point,
            difference=max(float(gaps[row]), 0.0),
            error=float(errors[row]) if np.isfinite(errors[row]) else None,
            p=float(probabilities[row]) if noise is not None else None,
            holm=float(adjusted[row - 1]) if noise is not None else None,
            wilcoxon=signed_rank(study.units[0], study.units[row]),
        )
        for row, point in enumerate(study.points[: RANKED + 1])
        if row
    )
    near = np.flatnonzero(adjusted > ALPHA) if noise is not None else np.arange(len(adjusted))
    alike = [study.points[row + 1] for row in near.tolist()]
    count = study.units.shape[1]
    return Comparison(
        best=study.points[0],
        alike=(study.points[0], *alike),
        tests=tests,
        pairs=noise.pairs if noise is not None else count,
        wilcoxon_pairs=count,
        wilcoxon_smallest=smallest_p(count),
        method=_method(study, noise),
    )


def _tests(noise: Noise | None, gaps: Array) -> tuple[Array, Array]:
    """Return the standard errors of *gaps*, and the one-sided p of each; a gap without noise is certain."""
    from scipy.special import stdtr

    if noise is None:
        return np.full_like(gaps, np.nan), np.ones_like(gaps)
    errors = noise.apart()
    probabilities = stdtr(noise.own_df, -gaps / errors)
    probabilities = np.where(errors > 0, probabilities, np.where(gaps > 0, 0.0, 1.0))
    return errors, np.where(np.isfinite(probabilities), probabilities, 1.0)


def holm(probabilities: Sequence[float] | Array) -> Array:
    """Return *probabilities* after Holm's step-down correction (Holm 1979; R: p.adjust)."""
    given = np.asarray(probabilities, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    steps = given[order] * np.arange(len(given), 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def signed_rank(first: Array, second: Array) -> float | None:
    """Return the two-sided p of Wilcoxon's signed-rank test of the pairs; None below six that differ.

    Exact, by the null distribution of the ranks; with ties normal (Pratt 1959 for pairs without a
    difference).
    """
    gaps = np.asarray(first) - np.asarray(second)
    if np.count_nonzero(gaps) < FEWEST_PAIRS or not np.isfinite(gaps).all():
        return None
    from scipy.stats import wilcoxon

    sizes = np.abs(gaps)
    tied = len(np.unique(sizes)) < len(sizes) or bool((sizes == 0).any())
    exact = not tied and len(gaps) <= 50
    return float(wilcoxon(gaps, zero_method="pratt", method="exact" if exact else "asymptotic").pvalue)


def smallest_p(pairs: int) -> float:
    """Return the smallest two-sided p that the signed-rank test of *pairs* pairs can give: 2 / 2^pairs."""
    return min(1.0, 2.0 ** (1 - pairs))


def _method(study: Study, noise: Noise | None) -> str:
    if noise is None:
        return "one value a point: nothing can be told apart"
    if study.clusters is not None:
        return f"paired t-tests on {noise.pairs} {noise.word}, widened for training sets, Holm, one-sided 5 %"
    kind = f"corrected resampled t-tests on {noise.pairs} folds" if study.folds else "paired t-tests on seeds"
    return f"{kind}, variances moderated over points, Holm, one-sided 5 %"
