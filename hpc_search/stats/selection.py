"""What the score of the selected point is worth, knowing that it was selected; pure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hpc_search.stats.choice import Chosen
from hpc_search.stats.figures import NullBand, Selected
from hpc_search.stats.noise import Noise, noise_of
from hpc_search.stats.study import Array, Study

LEVEL = 0.95

_AT_ONCE = 100_000  # numbers: arrays of errors of 50,000 points do not fit a cache, and are copied often


def select(study: Study, chosen: Chosen | None = None) -> Selected | None:
    """Return the score of the chosen point (the best one without *chosen*), corrected for its selection.

    The errors of all points are drawn together (see `Noise.drawn`), added to the means, and the selection
    is done again. The optimism is the mean error of what is then selected. The observed means differ more
    than the true scores do, so this alone is too little: it is repeated with twice and three times the
    noise and extrapolated to none (SIMEX, Cook and Stefanski 1994, quadratic extrapolant). The lower end of
    the interval comes from the errors of what is selected, moved by what the extrapolation adds to their
    mean, the upper end from the point's own; both are widened for training sets. None where there is one
    value a point and no samples.
    """
    with np.errstate(all="ignore"):
        noise = noise_of(study)
        point = study.points[0] if chosen is None else chosen.point
        if noise is None or point not in study.points:
            return None
        row = study.points.index(point)
        gains = study.sign * study.means
        rule = _Rule(study, chosen)
        errors = noise.drawn
        rises = [
            float(_errors_of(rule, gains, errors, np.full(len(errors), np.sqrt(times)))[0].mean()) / times
            for times in (1, 2, 3)
        ]
        optimism = max(0.0, 3 * rises[0] - 3 * rises[1] + rises[2])
        low, high = _errors(noise, rule, gains, errors, row, optimism - rises[0])
    if not np.isfinite([optimism, low, high]).all():
        return None
    mean = float(study.means[row])
    ends = sorted((mean - study.sign * high, mean - study.sign * low))
    return Selected(
        point=point,
        mean=mean,
        corrected=mean - study.sign * optimism,
        optimism=optimism,
        low=ends[0],
        high=ends[1],
        rough=study.clusters is None,
        method=f"re-selection with errors drawn from {noise.pairs} {noise.word}",
    )


class _Rule:
    """How a point is selected: the best one, or the simplest within one standard error of it."""

    def __init__(self, study: Study, chosen: Chosen | None) -> None:
        self.error = 0.0
        self.places: Array | None = None
        if chosen is not None and chosen.order:
            self.error = chosen.error or 0.0
            places = {point: place for place, point in enumerate(chosen.order)}
            self.places = np.array([places[point] for point in study.points], dtype=np.float64)

    def rows(self, gains: Array) -> Array:
        """Return the row that is selected in each draw of *gains*."""
        if self.places is None:
            return np.asarray(gains.argmax(axis=1))
        within = gains >= gains.max(axis=1, keepdims=True) - self.error
        return np.asarray(np.where(within, self.places, np.inf).argmin(axis=1))


def _errors_of(rule: _Rule, gains: Array, errors: Array, scales: Array, row: int = 0) -> tuple[Array, Array]:
    """Return, in each draw of *errors* times its scale, the error of what is selected, and that of *row*."""
    selected, fixed = np.empty(len(errors)), np.empty(len(errors))
    for part in _parts(errors):
        scaled = scales[part, None] * errors[part]
        rows = rule.rows(gains + scaled)
        selected[part] = scaled[np.arange(len(scaled)), rows]
        fixed[part] = scaled[:, row]
    return selected, fixed


def _parts(errors: Array) -> Iterator[slice]:
    draws, points = errors.shape
    step = max(1, _AT_ONCE // points)
    yield from (slice(first, first + step) for first in range(0, draws, step))


def _errors(
    noise: Noise, rule: _Rule, gains: Array, errors: Array, row: int, missed: float
) -> tuple[float, float]:
    """Return the 2.5 % quantile of the error of *row*, the 97.5 % quantile of that of what is selected.

    *missed* is what the mean of the latter lacks.
    """
    random = np.random.default_rng(len(errors))
    shared = noise.shared * random.standard_t(noise.shared_df, len(errors))
    unknown = np.sqrt(random.chisquare(noise.own_df, len(errors)) / noise.own_df)
    wide = np.sqrt(noise.widening)
    selected, fixed = _errors_of(rule, gains, errors, wide / unknown, row)
    tail = (1 - LEVEL) / 2
    ends = np.quantile(fixed + wide * shared, [tail, 1 - tail])
    lucky = float(np.quantile(selected + wide * shared, 1 - tail))
    return float(ends[0]), max(lucky + max(0.0, missed), float(ends[1]))


def null_band(study: Study) -> NullBand | None:
    """Return what the best of the points would reach if all were equally good; None without any noise.

    All are taken to have the mean over the points; the errors are those of `select`.
    """
    with np.errstate(all="ignore"):
        noise = noise_of(study)
        if noise is None or len(study.points) < 2:
            return None
        best = noise.drawn.max(axis=1)
        centre = float(study.means.mean())
        if not np.isfinite(best).all():
            return None
    return NullBand(
        points=len(study.points),
        centre=centre,
        expected=centre + study.sign * float(best.mean()),
        edge=centre + study.sign * float(np.quantile(best, LEVEL)),
        method=f"errors drawn from {noise.pairs} {noise.word}",
    )


def chance_band(samples: int, points: int, chance: float = 0.5) -> NullBand:
    """Return the accuracy that the best of *points* models reaches which guess right with *chance*.

    The maximum of independent binomial counts: P(max <= x) = F(x)^points.
    """
    from scipy.special import bdtr

    counts = np.arange(samples + 1)
    below = np.asarray(bdtr(counts, samples, chance), dtype=np.float64) ** points
    return NullBand(
        points=points,
        centre=chance,
        expected=float((1 - below[:-1]).sum() / samples),
        edge=float(np.searchsorted(below, LEVEL) / samples),
        method=f"binomial, {samples} samples, independent points",
    )
