"""Sampling by bins: each bin has the share of an epoch that it is given, however many items it has."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch

from hpc_search.errors import UsageError
from hpc_search.samplers.labels import coded, digest
from hpc_search.samplers.sampler import ResumableSampler, whole
from hpc_search.samplers.seeding import derived_seed, shuffled


class BinWeightedSampler(ResumableSampler):
    """Indices by bin: the same part of an epoch for every bin, or parts by ``weights``.

    Without replacement (the default) an epoch has the exact part of each bin, and of its items none comes
    again before all others of the bin have come, also from one epoch to the next. (A bin with a larger part
    than items repeats them evenly.) With replacement every index is drawn by itself: an epoch of n draws
    with equal weights shows only 63 % of n items.

    Resumed and given to a DataLoader as `ResumableSampler` is.

    Example:
        ``BinWeightedSampler(weights["bin_pair"], seed=trial.seed)`` gives each bin the same part;
        ``BinWeightedSampler(bins, {"(0, 0)": 2, "(0, 1)": 1}, seed=0)`` the first twice that of the second.
    """

    def __init__(
        self,
        bins: Iterable[Any],
        weights: Mapping[Any, float] | None = None,
        *,
        seed: int,
        samples: int | None = None,
        replacement: bool = False,
    ) -> None:
        """Sample the items 0 ... n-1, whose bins are *bins*.

        Args:
            bins: The bin of each item: a list, an array, a tensor, or a column of a table.
            weights: The part of each bin, in any unit; None: all the same.
            seed: What the order depends on.
            samples: How many an epoch has; None: as many as there are items.
            replacement: Whether every index is drawn by itself.

        Raises:
            UsageError: A bin is missing or has no weight, or an epoch is too short to show every bin.
        """
        codes, labels = coded(bins, "bin")
        size = len(codes) if samples is None else whole(samples)
        if size < 1:
            raise UsageError(
                f"BinWeightedSampler: samples {samples!r} is no whole number from 1 on",
                hint="give the samples of an epoch",
            )
        self._weights = _weights(labels, weights)
        self._replacement = replacement
        self._digest = digest(codes)
        by_bin = np.argsort(codes, kind="stable")
        self._items = np.split(by_bin, np.cumsum(np.bincount(codes))[:-1])
        self._parts = [] if replacement else _parts(labels, self._weights, size)
        super().__init__(size, seed=seed)

    def _indices(self, epoch: int) -> Sequence[int]:
        drawn = self._drawn(epoch) if self._replacement else self._dealt(epoch)
        return cast("list[int]", drawn.tolist())

    def _drawn(self, epoch: int) -> Any:
        generator = torch.Generator().manual_seed(derived_seed("bins", self._seed, epoch))
        weights = torch.tensor(self._weights, dtype=torch.float64)
        bins = torch.multinomial(weights, self._size, replacement=True, generator=generator).numpy()
        places = torch.rand(self._size, generator=generator, dtype=torch.float64).numpy()
        sizes = np.array([len(items) for items in self._items])
        firsts = np.cumsum(sizes) - sizes
        return np.concatenate(self._items)[firsts[bins] + (places * sizes[bins]).astype(np.int64)]

    def _dealt(self, epoch: int) -> Any:
        found = []
        for number, (items, part) in enumerate(zip(self._items, self._parts, strict=True)):
            circle = shuffled(len(items), derived_seed("bin", self._seed, number)).numpy()
            found.append(items[circle[(epoch * part + np.arange(part)) % len(items)]])
        return np.concatenate(found)[shuffled(self._size, derived_seed("order", self._seed, epoch)).numpy()]

    def _order(self) -> dict[str, Any]:
        return {
            "seed": self._seed,
            "size": self._size,
            "bins": self._digest,
            "weights": self._weights,
            "replacement": self._replacement,
        }


def _weights(labels: Sequence[Hashable], weights: Mapping[Any, float] | None) -> list[float]:
    """Return the part of each bin in an epoch; they sum to 1.

    Raises:
        UsageError: A bin has none, or one is no number from 0 on, or all are 0.
    """
    if weights is None:
        return [1 / len(labels)] * len(labels)
    without = [label for label in labels if label not in weights]
    wrong = [label for label in labels if label not in without and not 0 <= weights[label] < math.inf]
    total = sum(weights[label] for label in labels if label not in without)
    problems = [f"no weight of {_named(without)}"] * bool(without)
    problems += [f"the weight of {_named(wrong)} is no number from 0 on"] * bool(wrong)
    if not problems and not total:
        problems = ["all weights are 0"]
    if problems:
        raise UsageError(
            f"BinWeightedSampler: {'; '.join(problems)}", hint="give a weight for every bin of the data"
        )
    return [weights[label] / total for label in labels]


def _parts(labels: Sequence[Hashable], weights: Sequence[float], size: int) -> list[int]:
    """Return how many of *size* samples each bin gets: the whole part, and one more where most is left.

    Raises:
        UsageError: A bin would get none, in any epoch.
    """
    exact = [weight * size for weight in weights]
    parts = [int(part) for part in exact]
    by_rest = sorted(range(len(exact)), key=lambda one: parts[one] - exact[one])
    for one in by_rest[: size - sum(parts)]:
        parts[one] += 1
    never = [label for label, weight, part in zip(labels, weights, parts, strict=True) if weight and not part]
    if never:
        raise UsageError(
            f"BinWeightedSampler: an epoch of {size} samples has no place for {_named(never)}",
            hint="give more `samples`, a larger weight, or weight 0",
        )
    return parts


def _named(labels: Sequence[Hashable]) -> str:
    shown = ", ".join(map(repr, labels[:3]))
    return f"the bins {shown}" + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
