"""How far the means of points can be off, and how alike their errors are; pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from hpc_search.stats.study import Array, Clusters, Study

DRAWS = 4_000  # of the errors of all points at once; fewer, at least 200, where there are many points

_OUTLIER = 3.5  # robust standard deviations of the logarithm of a variance


@dataclass(frozen=True)
class Noise:
    """The errors of the points' means: a part that all share, and an own part.

    Attributes:
        shared: The standard error of what all points share (an easy fold), with `shared_df` degrees of
            freedom.
        own: The standard errors of the own parts, with `own_df` degrees of freedom.
        weights: Own parts are drawn so that their sum with these weights is 0.
        factors: factors' x factors estimates the covariance of the own parts of the first points.
        trust: The share of that covariance that is believed; the rest is independent of point to point.
        paired: Differences of two points are taken from that covariance: it has enough rows.
        widening: Variances times this count training sets too; they are not in what is above.
        pairs: How many folds, seeds, samples or groups stand behind it.
        word: What they are.
    """

    shared: float
    shared_df: float
    own: Array
    own_df: float
    weights: Array
    factors: Array
    trust: float
    paired: bool
    widening: float
    pairs: int
    word: str

    def apart(self, best: int = 0) -> Array:
        """Return the standard error of each point's difference to the point in row *best*."""
        variances = self.own**2 + self.own[best] ** 2
        if self.paired and best < self.factors.shape[1]:
            gaps = self.factors - self.factors[:, [best]]
            variances[: gaps.shape[1]] = (gaps**2).sum(axis=0)
        variances[best] = 0.0
        return np.asarray(np.sqrt(variances * self.widening), dtype=np.float64)

    @cached_property
    def drawn(self) -> Array:
        """Own parts drawn at random, one row a draw, always the same; not widened."""
        points, known = len(self.own), self.factors.shape[1]
        half = max(100, min(DRAWS // 2, 500_000 // points))
        random = np.random.default_rng(points)
        # Memory that is new costs more than the numbers in it.
        both = np.empty((2 * half, points))
        drawn = random.standard_normal(out=both[:half])
        drawn *= self.own
        drawn -= (drawn @ self.weights)[:, None]
        factors = self.factors
        if len(factors) > known:  # a square root of the same covariance with fewer rows
            values, vectors = np.linalg.eigh(factors.T @ factors)
            factors = (vectors * np.sqrt(np.maximum(values, 0))).T
        together = random.standard_normal((half, len(factors))) @ factors
        drawn[:, :known] *= np.sqrt(1 - self.trust)
        together *= np.sqrt(self.trust)
        drawn[:, :known] += together
        np.negative(drawn, out=both[half:])
        return both


@lru_cache(maxsize=1)
def noise_of(study: Study) -> Noise | None:
    """Return the noise of *study*: from its samples, else from its folds; None with one value a point."""
    if study.clusters is not None:
        return _from_samples(study.clusters, len(study.points))
    if study.units.shape[1] < 2:
        return None
    return _from_units(study)


def _from_samples(clusters: Clusters, points: int) -> Noise:
    scaled = clusters.scaled
    shared = scaled.mean(axis=1)
    factors = scaled - shared[:, None]
    variances = (factors**2).sum(axis=0)
    own = np.full(points, np.sqrt(variances.mean()))
    own[: clusters.points] = np.sqrt(variances)
    df = len(scaled) - 1
    return Noise(
        shared=float(np.sqrt((shared**2).sum())),
        shared_df=df,
        own=own,
        own_df=df,
        weights=np.zeros(points),
        factors=factors,
        trust=1.0,
        paired=True,
        widening=1 + clusters.ratio,
        pairs=len(scaled),
        word=clusters.word,
    )


def _from_units(study: Study) -> Noise:
    """Return the noise of a two-way layout (point, fold) without interaction; variances differ by point.

    What the folds share is taken out with weights, so that a point with wild values does not spoil the
    others.
    """
    units = study.sign * study.units
    points, count = units.shape
    centred = units - units.mean(axis=1, keepdims=True)
    rough, _ = moderate((centred - np.median(centred, axis=0)).var(axis=1, ddof=1), count - 1)
    weights = 1 / np.maximum(rough, 1e-12 * rough.max())
    weights = (
        weights / weights.sum() if points > 2 and np.isfinite(weights).all() else np.full(points, 1 / points)
    )
    residuals = centred - weights @ centred
    lost = np.maximum(1 - weights, 1e-9) * (count - 1)
    moderated, df = moderate((residuals**2).sum(axis=1) / lost, count - 1)
    sizes = np.sqrt((residuals**2).sum(axis=1))
    unit_rows = residuals / np.where(sizes > 0, sizes, 1.0)[:, None]
    own = np.sqrt(moderated / count)
    return Noise(
        shared=float((weights @ units).std(ddof=1) / np.sqrt(count)),
        shared_df=count - 1,
        own=own,
        own_df=df,
        weights=weights,
        factors=unit_rows.T * own * np.sqrt(1 - weights),
        trust=_trust(unit_rows.T),
        paired=False,
        widening=1 + count * study.ratio,
        pairs=count,
        word="folds" if study.folds else "seeds",
    )


def _trust(columns: Array) -> float:
    """Return how far correlations from so few rows can be believed, 0 to 1.

    The columns have length 1; their products are the sample correlations r. One minus the shrinkage
    intensity towards independence (Schaefer and Strimmer 2005, eq. 9) is the share of the squares r x r
    that is not chance: the adjusted ones over the plain ones. Their own estimate of it, eq. 10, believes
    1 / (rows - 1) of the correlations of independent points, and all of those from two rows.
    """
    count, points = columns.shape
    if points < 2 or count < 3:
        return 0.0
    squares = float(((columns @ columns.T) ** 2).sum() - (columns**2).sum(axis=0) @ (columns**2).sum(axis=0))
    chance = points * (points - 1) / (count - 1)
    return (
        float(np.clip((1 - chance / squares) * (count - 1) / (count - 2), 0.0, 1.0)) if squares > 0 else 0.0
    )


def moderate(variances: Array, df: float) -> tuple[Array, float]:
    """Return *variances*, each drawn towards all, and the degrees of freedom that each has then.

    Empirical Bayes with a scaled inverse chi-squared prior, whose parameters come from the mean and the
    variance of the logarithms (Smyth 2004, section 6.2, the moderated t-statistic of limma). Where the
    variances differ no more than chance would have it, all become one. A variance far above all others
    stays what it is and says nothing about them.
    """
    from scipy.special import digamma, polygamma

    pooled_df = df * max(len(variances) - 1, 1)
    known = variances > 0
    if known.sum() < 3 or not np.isfinite(variances).all():
        return np.full_like(variances, variances.mean()), pooled_df
    logs = np.log(variances[known]) - digamma(df / 2) + np.log(df / 2)
    chance = float(polygamma(1, df / 2))
    middle = float(np.median(logs))
    reach = _OUTLIER * max(1.4826 * float(np.median(np.abs(logs - middle))), np.sqrt(chance))
    wild = np.zeros(len(variances), dtype=bool)
    wild[known] = logs > middle + reach
    logs = logs[logs <= middle + reach]
    excess = float(logs.var(ddof=1)) - chance
    if excess <= 0:
        return np.where(wild, variances, variances[~wild].mean()), pooled_df
    prior_df = 2 * _inverse_trigamma(excess)
    centre = float(np.exp(logs.mean() + digamma(prior_df / 2) - np.log(prior_df / 2)))
    moderated = np.where(wild, variances, (prior_df * centre + df * variances) / (prior_df + df))
    return np.asarray(moderated, dtype=np.float64), min(prior_df + df, pooled_df)


def _inverse_trigamma(value: float) -> float:
    """Return x with trigamma(x) = *value*, by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-10:
            break
    return float(x)
