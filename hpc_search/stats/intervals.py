"""The interval of a point that was fixed beforehand; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpc_search.stats.choice import unit_values
from hpc_search.stats.figures import Interval
from hpc_search.stats.study import Array, Clusters, Study

LEVEL = 0.95
RESAMPLES = 1_000
_CHUNK = 200  # resamples at a time: 200 x 5,000 clusters are 8 MB


def intervals(study: Study) -> list[Interval]:
    """Return the interval of each complete point, best first, those of `Study.apart` last.

    Each is for a point that was fixed beforehand; see `hpc_search.stats.selection` for the best of many.
    """
    sampled = 0 if study.clusters is None else study.clusters.points
    found = []
    with np.errstate(all="ignore"):
        if study.clusters is not None:
            found = _by_samples(study, study.clusters)
        units = study.units[sampled:]
        found += _by_units(study.points[sampled:], study.means[sampled:], units, study)
        for score in study.apart:
            units = np.array([unit_values(score.values)])
            found += _by_units((score.point,), units.mean(axis=1), units, study)
    return found


def _by_units(points: Sequence[int], means: Array, units: Array, study: Study) -> list[Interval]:
    """Return t intervals; on folds with the variance factor 1/J + n_val/n_train (Nadeau and Bengio 2003)."""
    from scipy.special import stdtrit

    count = units.shape[1]
    if count < 2:
        words = "one value: no interval"
        return [
            Interval(point, mean, None, None, count, None, None, words)
            for point, mean in zip(points, means.tolist(), strict=True)
        ]
    sds = units.std(axis=1, ddof=1)
    errors = sds * np.sqrt(1 / count + study.ratio)
    halves = errors * stdtrit(count - 1, (1 + LEVEL) / 2)
    word = f"corrected t on {count} folds" if study.folds else f"t on {count} seeds"
    table = np.stack([means, sds, errors, means - halves, means + halves], axis=1).tolist()
    return [
        _interval(point, mean, sd, error, low, high, count, word)
        for point, (mean, sd, error, low, high) in zip(points, table, strict=True)
    ]


def _interval(
    point: int, mean: float, sd: float | None, error: float, low: float, high: float, count: int, method: str
) -> Interval:
    if error <= 1e-12 * abs(mean) or not (math.isfinite(low) and math.isfinite(high)):
        return Interval(point, mean, sd, error, count, None, None, "all values are equal: no interval")
    return Interval(point, mean, sd, error, count, low, high, method)


def _by_samples(study: Study, clusters: Clusters) -> list[Interval]:
    from scipy.special import stdtrit

    count, units = len(clusters.parts), study.units[: clusters.points]
    errors = np.sqrt((clusters.scaled**2).sum(axis=0) * (1 + clusters.ratio))
    bands = _studentised(clusters)
    sure = np.asarray(np.isfinite(bands).all(axis=0))
    # One wrong answer in a hundred: many resamples have no spread at all.
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2))
    bands[:, ~sure] = [[-half], [half]]
    found = []
    for row, point in enumerate(study.points[: clusters.points]):
        mean, error = float(study.means[row]), float(errors[row])
        sd = float(units[row].std(ddof=1)) if units.shape[1] > 1 else None
        kind = "studentised bootstrap" if sure[row] else "t"
        low, high = (mean - float(bands[1, row]) * error, mean - float(bands[0, row]) * error)
        method = f"{kind} over {count} {clusters.word}"
        found.append(_interval(point, mean, sd, error, low, high, units.shape[1], method))
    return found


def _studentised(clusters: Clusters) -> Array:
    """Return the 2.5 % and 97.5 % quantiles of the studentised error of each point's mean.

    The bootstrap-t of Efron and Tibshirani (1993, section 12.5), over whole clusters; all points share the
    resamples, so that a resample is one row of a matrix product.
    """
    parts = clusters.parts
    count = len(parts)
    squares = parts**2
    random = np.random.default_rng(count)
    rows = []
    for _ in range(0, RESAMPLES, _CHUNK):
        picks = random.integers(0, count, (_CHUNK, count)) + np.arange(_CHUNK)[:, None] * count
        times = np.bincount(picks.ravel(), minlength=_CHUNK * count).reshape(_CHUNK, count).astype(np.float64)
        shift = times @ parts
        spread = (times @ squares - shift**2 / count) * (count / (count - 1))
        spread[spread < 1e-9 * squares.sum(axis=0)] = 0.0  # rounding
        rows.append(shift / np.sqrt(spread))
    tail = (1 - LEVEL) / 2
    return np.asarray(np.quantile(np.concatenate(rows), [tail, 1 - tail], axis=0), dtype=np.float64)
