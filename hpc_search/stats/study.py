"""The complete points of a search as arrays: what intervals, comparisons and selection start from; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from hpc_search.stats.choice import size_ratio
from hpc_search.stats.figures import ESTIMAND, ONE_SPLIT, FoldSamples, FoldSizes
from hpc_search.stats.points import Goal, PointScore, Row

Array = NDArray[np.float64]

_Cell = tuple[int | None, int]

SAMPLED = 100  # per-sample scores are used of so many points, the best by mean
FEWEST_CLUSTERS = 20  # with fewer samples or groups a bootstrap says less than the folds
SAME_SCORE = 1e-4  # a fold's value and the mean of its samples may differ by so much, relatively


@dataclass(frozen=True)
class Clusters:
    """What each sample (or group of samples) adds to the deviation of the points' means.

    Row g of ``parts`` sums, over the samples of cluster g, (score - mean of the point) x weight of the
    sample in that mean. The rows of a point add up to 0, and G / (G - 1) x parts' x parts estimates the
    covariance of the means: the clustered variance of a weighted mean (Cameron and Miller 2015, eq. 6).
    """

    points: int  # the first so many of the study
    parts: Array
    word: str  # "samples" or "groups"
    ratio: float  # samples over those of a training side

    @property
    def scaled(self) -> Array:
        """``parts``, so that scaled' x scaled is the covariance of the means."""
        count = len(self.parts)
        return np.asarray(self.parts * np.sqrt(count / (count - 1)), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Study:
    """Complete points over the same folds (or seeds), best first.

    Attributes:
        units: One row a point: its value in each fold, the mean over the seeds; without several folds,
            its value with each seed.
        ratio: Validation samples over training samples, 0 for independent repeats.
        apart: Complete points over other folds or seeds than the best one: not comparable in pairs.
        clusters: Per-sample scores, where they can be used.
        note: Why they, or some points, were set aside; "" when there is nothing to say.
    """

    goal: Goal
    points: tuple[int, ...]
    means: Array
    units: Array
    folds: bool
    ratio: float
    apart: tuple[PointScore, ...]
    clusters: Clusters | None
    note: str

    @property
    def estimand(self) -> str:
        """What the means estimate, in words."""
        return ESTIMAND if self.folds or self.clusters is not None else ONE_SPLIT

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.goal == "max" else -1


def make_study(
    scores: Sequence[PointScore],
    goal: Goal,
    *,
    sizes: Mapping[int | None, FoldSizes] | None = None,
    samples: Mapping[int, Sequence[FoldSamples]] | None = None,
    groups: Mapping[str | int, str] | None = None,
) -> Study | None:
    """Return the complete points of *scores* (as `rank_points` gives them), None where there is none.

    Args:
        scores: Ranked points; incomplete ones never enter.
        goal: "max" or "min".
        sizes: Of the folds, by number; without them those of a k-fold with as many folds.
        samples: Of the points that have per-sample scores, one entry for each of their trials.
        groups: The group of each sample id, where samples of one group are not independent.
    """
    complete = [score for score in scores if score.complete and score.mean is not None]
    if not complete:
        return None
    alike, apart, cells, values = _table(complete)
    numbers = sorted({fold for fold, _ in cells}, key=lambda fold: -1 if fold is None else fold)
    folds = len(numbers) > 1
    units = _units(values, cells) if folds else values
    known = [sizes[fold] for fold in numbers if fold in sizes] if sizes else []
    ratio = size_ratio(known) if len(known) == len(numbers) else 1 / (len(numbers) - 1) if folds else 0.0
    clusters, note = _clusters(alike, cells, units, samples, groups, ratio) if samples else (None, "")
    if apart:
        note = f"{len(apart)} points have other folds or seeds than the best one. {note}".strip()
    return Study(
        goal=goal,
        points=tuple(score.point for score in alike),
        means=np.array([score.mean for score in alike], dtype=np.float64),
        units=units,
        folds=folds,
        ratio=ratio if folds else 0.0,
        apart=tuple(apart),
        clusters=clusters,
        note=note,
    )


_CELL = attrgetter("fold", "seed")


def _cell(of: Row | FoldSamples) -> _Cell:
    return of.fold, of.seed


def _by_fold(cell: _Cell) -> tuple[int, int]:
    return (-1 if cell[0] is None else cell[0]), cell[1]


def _table(
    scores: Sequence[PointScore],
) -> tuple[list[PointScore], list[PointScore], list[_Cell], Array]:
    """Return the points that have the cells (fold, seed) of the first one, the others, the cells, the values.

    The values have a row a point and a column a cell, by fold, then by seed.
    """
    cells = sorted(map(_cell, _done(scores[0])), key=_by_fold)
    alike, apart, table = [], [], []
    straight = list(map(_cell, _done(scores[0])))
    places = [straight.index(cell) for cell in cells]
    done = list(map(_done, scores))
    together = list(chain.from_iterable(done))
    if set(map(len, done)) == {len(cells)} and list(map(_CELL, together)) == straight * len(done):
        # All have them in the same order, as a grid has.
        values = np.array([row.value for row in together], dtype=np.float64)
        return list(scores), [], cells, values.reshape(len(done), len(cells)).take(places, axis=1)
    for score, rows in zip(scores, done, strict=True):
        if list(map(_CELL, rows)) == straight:
            table.append([rows[place].value for place in places])
        elif sorted(map(_cell, rows), key=_by_fold) == cells:
            table.append([row.value for row in sorted(rows, key=lambda row: _by_fold(_cell(row)))])
        else:
            apart.append(score)
            continue
        alike.append(score)
    return alike, apart, cells, np.array(table, dtype=np.float64)


def _done(score: PointScore) -> list[Row]:
    """Return the rows of a complete point that have its values: all, or those that are done."""
    if len(score.rows) == score.n:
        return score.rows
    return [row for row in score.rows if row.state == "done" and row.value is not None]


def _units(values: Array, cells: Sequence[_Cell]) -> Array:
    """Return one column a fold, the mean over its seeds."""
    folds = np.array([-1 if fold is None else fold for fold, _ in cells])
    return np.stack([values[:, folds == fold].mean(axis=1) for fold in np.unique(folds)], axis=1)


def _clusters(
    scores: Sequence[PointScore],
    cells: Sequence[_Cell],
    units: Array,
    samples: Mapping[int, Sequence[FoldSamples]],
    groups: Mapping[str | int, str] | None,
    ratio: float,
) -> tuple[Clusters | None, str]:
    """Return the per-sample scores of the first points as deviations, or None and why not."""
    top = scores[:SAMPLED]
    order: dict[int | None, list[str | int]] = {}
    columns = []
    for score in top:
        entries = samples.get(score.point, ())
        if sorted(map(_cell, entries), key=_by_fold) != cells:
            return None, "Per-sample scores were not reported by every trial, so they are not used."
        column = _column(entries, order)
        if column is None:
            return None, "The trials reported scores of different samples, so they are not used."
        columns.append(column)
    matrix = np.stack(columns, axis=1)
    weights = np.concatenate([np.full(len(ids), 1 / len(ids)) for ids in order.values()]) / len(order)
    means = weights @ matrix
    wide = SAME_SCORE * max(1e-9, float(np.abs(matrix).mean()))
    if np.abs(means - units[: len(top)].mean(axis=1)).max() > wide:
        return None, "The metric is not the mean of the per-sample scores, so they are not used."
    keys = [key for ids in order.values() for key in ids]
    distinct = len(set(keys))
    names = [str(groups.get(key, key)) for key in keys] if groups is not None else list(map(str, keys))
    word = "groups" if groups is not None else "samples"
    parts = _summed(weights[:, None] * (matrix - means), names)
    if len(parts) < FEWEST_CLUSTERS:
        return None, f"There are only {len(parts)} {word}, so the folds are used instead."
    return Clusters(len(top), parts, word, ratio * distinct * len(order) / len(keys)), ""


def _column(entries: Sequence[FoldSamples], order: dict[int | None, list[str | int]]) -> Array | None:
    """Return the scores of one point, folds after each other, the mean over seeds; *order* learns new folds.

    None where a fold has other samples than the *order* that an earlier trial gave it.
    """
    folds: dict[int | None, list[Array]] = {}
    for entry in sorted(entries, key=lambda entry: _by_fold(_cell(entry))):
        ids = order.setdefault(
            entry.fold, sorted(entry.ids, key=lambda key: (str(key), isinstance(key, int)))
        )
        place = {key: row for row, key in enumerate(entry.ids)}
        if len(place) != len(entry.ids) or len(ids) != len(place) or any(key not in place for key in ids):
            return None
        values = np.asarray(entry.scores, dtype=np.float64)
        folds.setdefault(entry.fold, []).append(values[[place[key] for key in ids]])
    return np.concatenate([np.mean(folds[fold], axis=0) for fold in order])


def _summed(parts: Array, names: Sequence[str]) -> Array:
    """Return the rows of *parts* summed by name, in the order of the names."""
    _, inverse = np.unique(np.array(names), return_inverse=True)
    rows = np.argsort(inverse, kind="stable")
    starts = np.flatnonzero(np.diff(inverse[rows], prepend=-1))
    return np.asarray(np.add.reduceat(parts[rows], starts, axis=0), dtype=np.float64)
