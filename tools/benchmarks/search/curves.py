"""Learning curves of real small trainings, as a table: what early stopping is measured on.

A network of one hidden layer learns 500 of scikit-learn's handwritten digits; its cross-entropy on the
other 1,297 after each epoch is a curve. Configurations and trainings follow from fixed seeds: the same
machine and libraries make the same table.
"""

from __future__ import annotations

import os
import random
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

CONFIGURATIONS: Final = 256
EPOCHS: Final = 81
_LEARNED: Final = 500
_WORST: Final = 100.0
_NAME: Final = f"digits-{CONFIGURATIONS}x{EPOCHS}-1.npy"

Table = np.ndarray[Any, np.dtype[np.float64]]


class Configuration(NamedTuple):
    """One training."""

    rate: float
    momentum: float
    width: int
    batch: int
    decay: float
    rectified: bool
    seed: int


def configuration(number: int) -> Configuration:
    """Return configuration *number* of the table."""
    rng = random.Random(number)
    return Configuration(
        rate=10 ** rng.uniform(-4, 0.3),
        momentum=rng.choice([0.0, 0.5, 0.9, 0.97]),
        width=round(2 ** rng.uniform(2, 7)),
        batch=rng.choice([10, 25, 50, 100]),
        decay=10 ** rng.uniform(-6, -1),
        rectified=rng.random() < 0.5,
        seed=number,
    )


def cached(place: Path | None = None) -> tuple[Table, str]:
    """Return the table, made where *place* (default: the user's cache) has none yet, and what was done."""
    path = path_in(place or default_place())
    if path.exists():
        return np.load(path), f"read from {path}"
    started = time.perf_counter()
    table = made()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}-{os.getpid()}.npy")
    np.save(partial, table)
    partial.replace(path)
    return table, f"made in {time.perf_counter() - started:.0f} s into {path}"


def path_in(place: Path) -> Path:
    """Return the file of the table in *place*."""
    return place / _NAME


def default_place() -> Path:
    """Return the directory of the user's cache: the table is too large for the repository."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpc-search-bench"


def made(configurations: int = CONFIGURATIONS, epochs: int = EPOCHS) -> Table:
    """Train all and return the cross-entropies: a row for each configuration, a column for each epoch."""
    data = _digits()
    return np.array([trained(configuration(number), epochs, data) for number in range(configurations)])


class _Digits(NamedTuple):
    images: Table
    targets: Table
    unseen: Table
    labels: np.ndarray[Any, np.dtype[np.int64]]


def _digits() -> _Digits:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order] / 16 - 0.3, labels[order]
    return _Digits(images[:_LEARNED], np.eye(10)[labels[:_LEARNED]], images[_LEARNED:], labels[_LEARNED:])


def trained(one: Configuration, epochs: int, data: _Digits) -> list[float]:
    """Return the cross-entropy after each of *epochs*; what diverges stays at the worst."""
    rng = np.random.default_rng(one.seed)
    sizes = (data.images.shape[1], one.width, 10)
    weights = [rng.normal(0, size**-0.5, (size, into)) for size, into in pairwise(sizes)]
    weights += [np.zeros((1, into)) for into in sizes[1:]]
    speeds = [np.zeros_like(weight) for weight in weights]
    curve = []
    with np.errstate(all="ignore"):
        for _ in range(epochs):
            order = rng.permutation(len(data.images))
            for start in range(0, len(order), one.batch):
                chosen = order[start : start + one.batch]
                slopes = _slopes(weights, data.images[chosen], data.targets[chosen], one.rectified)
                for place, slope in enumerate(slopes):
                    speeds[place] *= one.momentum
                    speeds[place] -= one.rate * (slope + one.decay * weights[place])
                    weights[place] += speeds[place]
            curve.append(_loss(weights, data, one.rectified))
    return curve


def _forward(weights: list[Table], images: Table, rectified: bool) -> tuple[Table, Table]:
    inner = images @ weights[0] + weights[2]
    hidden = np.maximum(inner, 0) if rectified else np.tanh(inner)
    scores = hidden @ weights[1] + weights[3]
    return hidden, scores - scores.max(axis=1, keepdims=True)


def _slopes(weights: list[Table], images: Table, targets: Table, rectified: bool) -> list[Table]:
    hidden, scores = _forward(weights, images, rectified)
    shares = np.exp(scores)
    shares /= shares.sum(axis=1, keepdims=True)
    outer = (shares - targets) / len(images)
    inner = (outer @ weights[1].T) * ((hidden > 0) if rectified else 1 - hidden**2)
    bias = [one.sum(axis=0, keepdims=True) for one in (inner, outer)]
    return [images.T @ inner, hidden.T @ outer, *bias]


def _loss(weights: list[Table], data: _Digits, rectified: bool) -> float:
    _, scores = _forward(weights, data.unseen, rectified)
    right = scores[np.arange(len(scores)), data.labels] - np.log(np.exp(scores).sum(axis=1))
    loss = float(-right.mean())
    return min(loss, _WORST) if np.isfinite(loss) else _WORST
