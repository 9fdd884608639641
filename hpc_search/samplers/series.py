"""Batches with no two items of one series: photos of a scene, spectra of a sample, visits of a patient."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch

from hpc_search.errors import UsageError
from hpc_search.samplers.labels import coded, digest
from hpc_search.samplers.sampler import Index, Positioned, whole
from hpc_search.samplers.schedule import count_batches, distinct_batches
from hpc_search.samplers.seeding import derived_seed


class SeriesBatchSampler(Positioned[list[int]]):
    """Batches of different series: every item once an epoch, in as few batches as can be."""

    unit: ClassVar = "batch"

    def __init__(
        self,
        series_ids: Iterable[Any],
        batch_size: int,
        shuffle: bool = True,
        *,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        """Sample the items 0 ... n-1, whose series are *series_ids*, by *batch_size*.

        Args:
            series_ids: The series of each item: a list, an array, a tensor, or a column of a table.
            batch_size: Most items in a batch.
            shuffle: Whether the order is another one in each epoch, else always that of *series_ids*.
            seed: What the orders depend on.
            drop_last: Whether short batches are left out, with the items in them.

        Raises:
            UsageError: There is no item, one has no series, or *batch_size* is below 1.
        """
        codes, labels = coded(series_ids, "series")
        if whole(batch_size) < 1:
            raise UsageError(
                f"{type(self).__name__}: batch_size {batch_size!r} is no whole number from 1 on",
                hint="give the most items of a batch",
            )
        self._codes = codes
        self._batch_size = whole(batch_size)
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._digest = digest(codes)
        counts = count_batches(np.bincount(codes, minlength=len(labels)).tolist(), self._batch_size)
        self._full = counts.full
        self.short_batches = 0 if drop_last else counts.short
        super().__init__(counts.full + self.short_batches, seed)

    @property
    def batch(self) -> int:
        """Batches of this epoch that the training has used."""
        return self._used

    def __iter__(self) -> Iterator[list[int]]:
        epoch = self.epoch
        batches = distinct_batches(
            self._preferred(epoch).tolist(), self._codes.tolist(), self._batch_size, self._full
        )
        for number, batch in zip(range(self._size), batches, strict=False):
            if number >= self._used:
                yield [Index(item, epoch) for item in batch]

    def advance(self, batches: int = 1) -> None:
        """Say that the training has used the next *batches* of the epoch."""
        self._used = min(self._size, self._used + batches)

    def _generator(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(derived_seed("series", self._seed, epoch))

    @abstractmethod
    def _preferred(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the items in the order that is kept as far as no series comes twice in a batch."""

    def _order(self) -> dict[str, Any]:
        return {
            "seed": self._seed,
            "items": len(self._codes),
            "series": self._digest,
            "batch_size": self._batch_size,
            "shuffle": self._shuffle,
            "drop_last": self._drop_last,
        }


class BalancedSeriesBatchSampler(SeriesBatchSampler):
    """Round-robin over the series, one item of each, in an order of series that each epoch shuffles.

    A series that is exhausted is left out of the next rounds. No series comes twice in a batch: where fewer
    series than *batch_size* are left, the batch is short. Series that would else be left over with many
    items take part early enough, so the batches are the fewest that can be, and the short ones come last.
    Every item comes exactly once an epoch; ``len()`` is the number of batches.

    Example:
        ::

            sampler = BalancedSeriesBatchSampler(pairs["series_id"], 64, seed=trial.seed)
            loader = DataLoader(SeededDataset(dataset, seed=trial.seed), batch_sampler=sampler, num_workers=2,
                                generator=sampler.generator, worker_init_fn=outlive_stop_signals)
            step = trial.restore(model=model, optimizer=optimizer, sampler=sampler)
            for epoch in range(sampler.epoch, epochs):
                sampler.set_epoch(epoch)
                for inputs, labels in loader:
                    ...
                    sampler.advance()
                    step += 1
                    trial.save(step, model=model, optimizer=optimizer, sampler=sampler)

        or, without `advance` and the rest,
        ``ResumableLoader(dataset, batch_sampler=sampler, seed=trial.seed, num_workers=2)``.

    Attributes:
        epoch: The epoch that the training is in, from 0.
        short_batches: How many batches of an epoch have fewer than *batch_size* items.
        generator: A generator of its own, for the DataLoader.
    """

    def _preferred(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        items = np.arange(len(self._codes))
        turn = np.arange(self._codes.max() + 1)
        if self._shuffle:
            generator = self._generator(epoch)
            items = torch.randperm(len(items), generator=generator).numpy()
            turn = torch.randperm(len(turn), generator=generator).numpy()
        by_series = items[np.argsort(self._codes[items], kind="stable")]
        codes = self._codes[by_series]
        first = np.searchsorted(codes, codes)
        rounds = np.arange(len(codes)) - first
        return by_series[np.lexsort((turn[codes], rounds))]


class SeriesAwareBatchSampler(SeriesBatchSampler):
    """Random items, but no series twice in a batch: an item waits for a batch without its series.

    All else is as in `BalancedSeriesBatchSampler`, which gives each series the same part in a batch; here
    a series has part in an epoch's batches by how many items it has left.
    """

    def _preferred(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        if not self._shuffle:
            return np.arange(len(self._codes))
        return torch.randperm(len(self._codes), generator=self._generator(epoch)).numpy()
