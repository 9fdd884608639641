"""Simulated cross-validations: true scores, fold values, and how long each training takes."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

POINTS: Final = 18
FOLDS: Final = 5
#: Share of the fold noise that all points, or those of a group, have in common.
_SHARED: Final = 0.8
_GROUPS: Final = 3
#: The noise of the points' own differs by this (of its logarithm).
_UNEQUAL: Final = 0.7
#: How fast two points, and two trainings of one, are.
_PACE: Final = (0.5, 0.1)
Table = NDArray[np.float64]

NOISES: Final = {
    "independent": "noise of every point and fold alone",
    "correlated": "four fifths of the noise are the fold's, the same for all points",
    "grouped": "four fifths are shared within each of three groups of points",
    "unequal": "independent, its deviation differs between points: log-normal, 0.7",
    "heavy": "independent, Student's t with 3 degrees of freedom",
}


class Study(NamedTuple):
    """One study: the true score of each point, its value in each fold, and the time that takes.

    The noise has deviation 1 (``unequal``: its median), the true scores the spread times that.
    """

    truth: Table
    values: Table
    seconds: Table

    @property
    def best(self) -> int:
        """The point that is best over all folds."""
        return int(self.values.mean(axis=1).argmax())

    def regret(self, point: int | None) -> float:
        """Return by how much *point* is truly worse than the truly best; None: by chance."""
        chosen = self.truth.mean() if point is None else self.truth[point]
        return float(self.truth.max() - chosen)


def study(noise: str, spread: float, seed: int, points: int = POINTS, folds: int = FOLDS) -> Study:
    """Return the study number *seed*."""
    rng = np.random.default_rng([seed, list(NOISES).index(noise), round(10 * spread)])
    truth = spread * rng.standard_normal(points)
    own = rng.standard_normal((points, folds))
    match noise:
        case "correlated":
            own = np.sqrt(_SHARED) * rng.standard_normal((1, folds)) + np.sqrt(1 - _SHARED) * own
        case "grouped":
            shared = rng.standard_normal((_GROUPS, folds))[np.arange(points) % _GROUPS]
            own = np.sqrt(_SHARED) * shared + np.sqrt(1 - _SHARED) * own
        case "unequal":
            own *= np.exp(_UNEQUAL * rng.standard_normal((points, 1)))
        case "heavy":
            own = rng.standard_t(3, (points, folds)) / np.sqrt(3)
    between, within = _PACE
    seconds = np.exp(
        between * rng.standard_normal((points, 1)) + within * rng.standard_normal((points, folds))
    )
    return Study(truth, truth[:, None] + own, seconds)
