"""CMA-ES over the numbers of a space, its state a function of the history by point number.

Optuna's sampler keeps its state, pickled, in attributes of trials, and stamps each trial with the
generation in which it was asked: both depend on who asked when. Here the library of the same authors is
used directly. A generation is the next ``population`` ended points in the order of their numbers, so
that with one worker it is Optuna's, and a point that is late, fails or still runs holds nobody up: until
it ends, the points after it take its place. What Optuna does with points that were asked in an earlier
generation (it drops them) would waste most of a search with many workers; here they count, after their
distance from the mean has been limited, as Hansen's "Injecting external solutions into CMA-ES" (2011)
does it. Samples of the present distribution are practically never so far away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from cmaes import CMA

from hpc_search.strategies.adaptive.axes import Number, Place
from hpc_search.strategies.adaptive.worth import Loss

#: Times Hansen's limit: beyond it are fewer than one in 10^8 samples of the present distribution.
_FAR: Final = 2.0

Evaluated = tuple[Place, Loss]


def ask(numbers: Sequence[Number], ended: Sequence[Evaluated], population: int, seed: int) -> Place:
    """Return the coordinates of *numbers* that follow from the points *ended*, in order of their numbers."""
    optimizer = _after(numbers, ended, population)
    optimizer.reseed_rng(seed)
    units = optimizer.ask()
    return {number.name: number.at(float(unit)) for number, unit in zip(numbers, units, strict=True)}


def population_of(numbers: Sequence[Number]) -> int:
    """Return the usual size of a generation for as many *numbers*."""
    return 4 + math.floor(3 * math.log(len(numbers)))


def _after(numbers: Sequence[Number], ended: Sequence[Evaluated], population: int) -> CMA:
    count = len(numbers)
    optimizer = CMA(
        mean=np.full(count, 0.5),
        sigma=1 / 6,
        bounds=np.array([[0.0, 1.0]] * count),
        # Whoever asks gives a seed; telling draws nothing.
        seed=0,
        n_max_resampling=10 * count,
        population_size=population,
    )
    for first in range(0, len(ended) - population + 1, population):
        generation = ended[first : first + population]
        optimizer.tell([(_near(optimizer, numbers, place), loss[0]) for place, loss in generation])
        if first + population < len(ended):
            # Optuna has stored it meanwhile, with one half of the covariances: equal is to the last bit.
            optimizer.__setstate__(optimizer.__getstate__())
    return optimizer


def _near(optimizer: CMA, numbers: Sequence[Number], place: Place) -> np.ndarray:
    """Return *place* as a vector; an absent parameter is at the mean, where it says nothing."""
    mean = optimizer.mean
    found = np.array(
        [
            number.unit(place[number.name]) if number.name in place else float(centre)
            for number, centre in zip(numbers, mean, strict=True)
        ]
    )
    basis, deviations = optimizer._eigen_decomposition()  # noqa: SLF001 - what tell itself would do
    step = found - mean
    length = float(np.linalg.norm(basis.T.dot(step) / deviations)) / optimizer._sigma  # noqa: SLF001
    count = len(numbers)
    most = _FAR * (math.sqrt(count) + 2 * count / (count + 2))
    return found if length <= most else np.asarray(mean + step * (most / length))
