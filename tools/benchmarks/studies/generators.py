"""Simulated studies with known true scores: what a search of 18 points on 5 folds would have seen.

Fold noise: the standard deviation of what a fold's value differs by from the point's true score; 1 here.
Spread: the standard deviation of the true scores, which are normal; `leader`: one point leads the others,
which are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from hpc_search.stats import FoldSamples, FoldSizes, Row, rank_points
from hpc_search.stats.study import Array, Study, make_study
from tools.benchmarks.studies import learner

POINTS: Final = 18
FOLDS: Final = 5
SAMPLES: Final = 200
#: The error that folds share since their training sets overlap, of a fold's variance (Nadeau and Bengio).
SHARED: Final = 1 / FOLDS


@dataclass(frozen=True)
class Setting:
    """One generator.

    Attributes:
        kind: "folds" (errors independent from fold to fold), "overlap" (a fifth of the variance is common
            to the folds of a point, as the correction takes it), "repeats" (independent repeats without
            folds), "samples" (per-sample scores, independent samples) or "learner".
        spread: Of the true scores, in fold noises.
        rho: The correlation of the points' errors.
        leader: One point leads by `spread`, the others are equal.
    """

    kind: str
    spread: float
    rho: float = 0.0
    leader: bool = False

    @property
    def sampled(self) -> bool:
        """Whether there are per-sample scores."""
        return self.kind in {"samples", "learner"}

    @property
    def made(self) -> bool:
        """Whether true scores and errors are drawn, not learned."""
        return not self.kind.startswith("learner")

    def __str__(self) -> str:
        if not self.made:
            return f"{self.kind:<13} ridge classifiers"
        what = "lead  " if self.leader else "spread"
        return f"{self.kind:<13} {what} {self.spread:>2g} rho {self.rho:g}"


def draw(setting: Setting, random: np.random.Generator) -> tuple[Study, Array]:
    """Return one study and the true score of each point by number."""
    if not setting.made:
        truth = np.array(learner.truth(learner.SAMPLES))
        scores = learner.cross_validate(learner.draw(random, learner.SAMPLES))
        return study_of(by_fold(scores), scores if setting.kind == "learner" else None), truth
    truth = _truth(setting, random)
    if setting.kind == "samples":
        scores = truth + np.sqrt(SAMPLES / FOLDS) * _errors(random, SAMPLES, setting.rho)
        return study_of(by_fold(scores), scores), truth
    errors = _errors(random, FOLDS, setting.rho)
    if setting.kind == "overlap":
        errors = np.sqrt(SHARED) * _errors(random, 1, setting.rho) + np.sqrt(1 - SHARED) * errors
    return study_of((truth + errors).T, folds=setting.kind != "repeats"), truth


def by_fold(scores: Array) -> Array:
    """Return the mean of each fold, a row a point, from one row a sample, folds in order."""
    return np.asarray(scores.reshape(FOLDS, -1, scores.shape[1]).mean(axis=1).T)


def study_of(values: Array, scores: Array | None = None, *, folds: bool = True) -> Study:
    """Return the study of *values* (a row a point), as a search would hand it over."""
    points, count = values.shape
    rows = [
        Row(unit * points + point, point, unit if folds else None, 0 if folds else unit, "done", "", value)
        for point, row in enumerate(values.tolist())
        for unit, value in enumerate(row)
    ]
    sizes: dict[int | None, FoldSizes] = {}
    samples = None
    if scores is not None:
        held = len(scores) // count
        ids = [list(range(fold * held, (fold + 1) * held)) for fold in range(count)]
        sizes = {fold: FoldSizes(len(scores) - held, held) for fold in range(count)}
        samples = {
            point: [FoldSamples(fold, 0, rows, scores[rows, point].tolist()) for fold, rows in enumerate(ids)]
            for point in range(points)
        }
    study = make_study(rank_points(rows, "max", lambda _: count), "max", sizes=sizes, samples=samples)
    assert study is not None
    assert not study.note, study.note
    return study


def _truth(setting: Setting, random: np.random.Generator) -> Array:
    if setting.leader:
        truth = np.zeros(POINTS)
        truth[random.integers(POINTS)] = setting.spread
        return truth
    return setting.spread * random.standard_normal(POINTS)


def _errors(random: np.random.Generator, rows: int, rho: float) -> Array:
    common = random.standard_normal((rows, 1))
    return np.asarray(np.sqrt(rho) * common + np.sqrt(1 - rho) * random.standard_normal((rows, POINTS)))
