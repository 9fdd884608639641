"""How far the means of points can be off, and how alike their errors are; pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpc_search.stats.study import Array, Clusters, Study

DRAWS = 2_000  # of the errors of all points at once; fewer, at least 400, where there are many points


@dataclass(frozen=True)
class Noise:
    """The errors of the points' means: a part that all share, and an own part.

    Attributes:
        shared: The standard error of what all points share (an easy fold), with `shared_df` degrees of
            freedom.
        own: The standard errors of the own parts, with `own_df` degrees of freedom.
        weights: Own parts are drawn so that their sum with these weights is 0.
        factors: Where samples are known: factors' x factors is the covariance of the own parts of the
            first points; else the own parts are independent.
        widening: Variances times this count training sets too; they are not in what is above.
        pairs: How many folds, seeds, samples or groups stand behind it.
        word: What they are.
    """

    shared: float
    shared_df: float
    own: Array
    own_df: float
    weights: Array
    factors: Array | None
    widening: float
    pairs: int
    word: str

    def apart(self, best: int = 0) -> Array:
        """Return the standard error of each point's difference to the point in row *best*."""
        variances = self.own**2 + self.own[best] ** 2
        if self.factors is not None and best < self.factors.shape[1]:
            gaps = self.factors - self.factors[:, [best]]
            variances[: gaps.shape[1]] = (gaps**2).sum(axis=0)
        variances[best] = 0.0
        return np.asarray(np.sqrt(variances * self.widening), dtype=np.float64)

    def draw(self) -> Array:
        """Return own parts drawn at random, one row a draw, always the same; not widened."""
        points = len(self.own)
        half = max(200, min(DRAWS // 2, 1_000_000 // points))
        normal = np.random.default_rng(points).standard_normal((half, points))
        drawn = normal * self.own
        drawn -= (drawn @ self.weights)[:, None]
        if self.factors is not None:
            known = self.factors.shape[1]
            values, vectors = np.linalg.eigh(self.factors.T @ self.factors)
            drawn[:, :known] = normal[:, :known] @ (vectors * np.sqrt(np.maximum(values, 0))).T
        return np.concatenate([drawn, -drawn])


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
        widening=1 + clusters.ratio,
        pairs=len(scaled),
        word=clusters.word,
    )


def _from_units(study: Study) -> Noise:
    """Return the noise of a two-way layout (point, fold) without interaction; variances differ by point.

    The second pass weighs the points when it takes out what the folds share, so that a point with wild
    values does not spoil the others.
    """
    units = study.units
    points, count = units.shape
    centred = units - units.mean(axis=1, keepdims=True)
    weights = np.full(points, 1 / points)
    moderated, df = np.zeros(points), float(count - 1)
    for _ in range(2):
        residuals = centred - weights @ centred
        lost = np.maximum(1 - weights, 1e-9) * (count - 1)
        moderated, df = moderate((residuals**2).sum(axis=1) / lost, count - 1)
        if points < 3 or moderated.min() <= 0 or moderated.min() == moderated.max():
            break
        weights = 1 / moderated / (1 / moderated).sum()
    return Noise(
        shared=float((weights @ units).std(ddof=1) / np.sqrt(count)),
        shared_df=count - 1,
        own=np.sqrt(moderated / count),
        own_df=df,
        weights=weights,
        factors=None,
        widening=1 + count * study.ratio,
        pairs=count,
        word="folds" if study.folds else "seeds",
    )


def moderate(variances: Array, df: float) -> tuple[Array, float]:
    """Return *variances*, each drawn towards all, and the degrees of freedom that each has then.

    Empirical Bayes with a scaled inverse chi-squared prior, whose parameters come from the mean and the
    variance of the logarithms (Smyth 2004, section 6.2, the moderated t-statistic of limma). Where the
    variances differ no more than chance would have it, all become one.
    """
    from scipy.special import digamma, polygamma

    known = variances[variances > 0]
    if len(known) < 3:
        return (np.full_like(variances, variances.mean()), df * max(len(variances) - 1, 1))
    logs = np.log(known) - digamma(df / 2) + np.log(df / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, df / 2))
    pooled_df = df * (len(variances) - 1)
    if excess <= 0:
        return np.full_like(variances, variances.mean()), pooled_df
    prior_df = 2 * _inverse_trigamma(excess)
    centre = float(np.exp(logs.mean() + digamma(prior_df / 2) - np.log(prior_df / 2)))
    moderated = (prior_df * centre + df * variances) / (prior_df + df)
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
