"""The interval of a point that was fixed beforehand; pure."""

from __future__ import annotations

import math

import numpy as np

from hpc_search.stats.choice import standard_error, unit_values
from hpc_search.stats.figures import Interval
from hpc_search.stats.points import mean, sample_sd
from hpc_search.stats.study import Array, Clusters, Study

LEVEL = 0.95
RESAMPLES = 1_000
_CHUNK = 200  # resamples at a time: 200 x 5,000 clusters are 8 MB


def intervals(study: Study) -> list[Interval]:
    """Return the interval of each complete point, best first, those of `Study.apart` last.

    Each is for a point that was fixed beforehand; see `hpc_search.stats.selection` for the best of many.
    """
    with np.errstate(all="ignore"):
        bands = _studentised(study.clusters) if study.clusters is not None else np.empty((2, 0))
    found = []
    for row, point in enumerate(study.points):
        middle, units = float(study.means[row]), study.units[row].tolist()
        if study.clusters is not None and row < study.clusters.points:
            found.append(_by_samples(point, middle, units, study, row, bands[:, row]))
        else:
            found.append(_by_units(point, middle, units, study.ratio, folds=study.folds))
    for score in study.apart:
        units = unit_values(score.values)
        middle = mean(units) if score.mean is None else score.mean
        found.append(_by_units(score.point, middle, units, study.ratio, folds=study.folds))
    return found


def _by_units(point: int, middle: float, units: list[float], ratio: float, *, folds: bool) -> Interval:
    """Return a t interval; on folds with the variance factor 1/J + n_val/n_train (Nadeau and Bengio 2003)."""
    from scipy.special import stdtrit

    count, sd, error = len(units), sample_sd(units), standard_error(units, ratio)
    word = f"corrected t on {count} folds" if folds else f"t on {count} seeds"
    if sd is None:
        return Interval(point, middle, None, None, count, None, None, "one value: no interval")
    if not error or not math.isfinite(error):
        return Interval(point, middle, sd, error, count, None, None, "all values are equal: no interval")
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error
    return Interval(point, middle, sd, error, count, middle - half, middle + half, word)


def _by_samples(
    point: int, middle: float, units: list[float], study: Study, row: int, band: Array
) -> Interval:
    clusters = study.clusters
    assert clusters is not None
    error = float(np.sqrt((clusters.scaled[:, row] ** 2).sum() * (1 + clusters.ratio)))
    sd, count = sample_sd(units), len(units)
    if not error or not math.isfinite(error):
        return Interval(point, middle, sd, error, count, None, None, "all scores are equal: no interval")
    word = f"studentised bootstrap over {len(clusters.parts)} {clusters.word}"
    if not np.isfinite(band).all():  # one wrong answer in a hundred: many resamples have no spread at all
        from scipy.special import stdtrit

        band = stdtrit(len(clusters.parts) - 1, np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
        word = f"t over {len(clusters.parts)} {clusters.word}"
    low, high = middle - float(band[1]) * error, middle - float(band[0]) * error
    return Interval(point, middle, sd, error, count, low, high, word)


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
        rows.append(shift / np.sqrt(np.maximum(spread, 0)))
    tail = (1 - LEVEL) / 2
    return np.asarray(np.quantile(np.concatenate(rows), [tail, 1 - tail], axis=0), dtype=np.float64)
