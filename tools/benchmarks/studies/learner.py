"""A real learner, refitted in every fold of every study: ridge classifiers whose true accuracy is known.

Data: two classes of Gaussians, x = y m + N(0, I), y = -1 or 1, 40 features, the first ones matter most.
Points: penalties x how many of the features are used. The accuracy of a fitted direction w is
Phi(w m / |w|), exactly; a point's true score is its mean over many independent training sets of a fold's
size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from scipy.special import ndtr

from hpc_search.stats.study import Array

FEATURES: Final = 40
USED: Final = (4, 12, 40)
PENALTIES: Final = (0.1, 3.0, 10.0, 30.0, 100.0, 1000.0)
POINTS: Final = len(USED) * len(PENALTIES)
FOLDS: Final = 5
SAMPLES: Final = 200
SIGNAL: Final = np.where(np.arange(FEATURES) < 16, 0.55 * 0.85 ** np.arange(FEATURES), 0.0)


@dataclass(frozen=True)
class Data:
    """One data set: features and labels."""

    x: Array
    y: Array


def draw(random: np.random.Generator, samples: int) -> Data:
    """Return a new data set."""
    y = random.choice([-1.0, 1.0], samples)
    return Data(y[:, None] * SIGNAL + random.standard_normal((samples, FEATURES)), y)


def fit(data: Data) -> Array:
    """Return the directions of all points, one column a point."""
    directions = np.zeros((FEATURES, POINTS))
    column = 0
    for used in USED:
        x = data.x[:, :used]
        values, vectors = np.linalg.eigh(x.T @ x)
        turned = vectors.T @ (x.T @ data.y)
        for penalty in PENALTIES:
            directions[:used, column] = vectors @ (turned / (np.maximum(values, 0) + penalty))
            column += 1
    return directions


def cross_validate(data: Data) -> Array:
    """Return 1 where a sample is classified rightly by the model of its fold, one row a sample."""
    samples = len(data.y)
    fold = np.arange(samples) * FOLDS // samples
    right = np.zeros((samples, POINTS))
    for number in range(FOLDS):
        held = fold == number
        directions = fit(Data(data.x[~held], data.y[~held]))
        right[held] = (data.x[held] @ directions) * data.y[held, None] > 0
    return right


@cache
def truth(samples: int, training_sets: int = 500) -> tuple[float, ...]:
    """Return the expected accuracy of each point on training sets of the size that *samples* leave."""
    random = np.random.default_rng(1)
    total = np.zeros(POINTS)
    for _ in range(training_sets):
        directions = fit(draw(random, samples * (FOLDS - 1) // FOLDS))
        total += ndtr(SIGNAL @ directions / np.linalg.norm(directions, axis=0))
    return tuple((total / training_sets).tolist())
