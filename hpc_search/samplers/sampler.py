"""A sampler whose position is that of the training, for the user's own DataLoader."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any, ClassVar, Self, TypeVar, cast

import torch
from torch.utils.data import Dataset, Sampler

from hpc_search.errors import UsageError
from hpc_search.samplers.seeding import derived_seed, seeded, shuffled

_Item = TypeVar("_Item")


class Index(int):
    """An index that knows its epoch, also in another process."""

    epoch: int

    def __new__(cls, index: int, epoch: int) -> Self:
        """Return *index* as drawn in *epoch*."""
        made = super().__new__(cls, index)
        made.epoch = epoch
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Index, (int(self), self.epoch)


class Positioned(Sampler[_Item], ABC):
    """What samplers share that are resumed: the training says what it has used; a loader reads ahead."""

    #: What a position counts.
    unit: ClassVar = "sample"

    def __init__(self, size: int, seed: int) -> None:
        """Give *size* of its units an epoch, in orders that depend on *seed*."""
        self._size = size
        self._seed = seed
        self._used = 0
        self.epoch = 0
        self.generator = torch.Generator().manual_seed(derived_seed("loader", seed))

    def __len__(self) -> int:
        """Return the length of a whole epoch."""
        return self._size

    def set_epoch(self, epoch: int) -> None:
        """Begin *epoch*; where the training is in it already, its position stays."""
        if epoch != self.epoch:
            self.epoch, self._used = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position, and what the order depends on."""
        return {"epoch": self.epoch, self.unit: self._used, **self._order()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the position of *state*.

        Raises:
            UsageError: It is the position in another order.
        """
        check_order(self._order(), state)
        self.epoch, self._used = state["epoch"], state[self.unit]

    @abstractmethod
    def _order(self) -> dict[str, Any]:
        """Return what the order depends on."""


class ResumableSampler(Positioned[int]):
    """Indices 0 ... n-1 of each epoch, shuffled by (seed, epoch), from where the training is.

    A loader reads ahead, so the training says what it has used: ``advance(samples)`` after each batch. Give
    the sampler to ``trial.save`` and ``trial.restore``, its `generator` to the DataLoader (which would else
    draw from torch's global generator at each start), and wrap a dataset that draws random numbers in
    `SeededDataset`.

    Example:
        ::

            sampler = ResumableSampler(dataset, seed=trial.seed)
            loader = DataLoader(SeededDataset(dataset, seed=trial.seed), batch_size=32, sampler=sampler,
                                num_workers=2, generator=sampler.generator,
                                worker_init_fn=outlive_stop_signals)
            step = trial.restore(model=model, optimizer=optimizer, sampler=sampler)
            for epoch in range(sampler.epoch, epochs):
                sampler.set_epoch(epoch)
                for inputs, labels in loader:
                    ...
                    sampler.advance(len(labels))
                    step += 1
                    trial.save(step, model=model, optimizer=optimizer, sampler=sampler)

    Attributes:
        epoch: The epoch that the training is in, from 0.
        generator: A generator of its own.
    """

    def __init__(self, dataset: Sized | int, *, seed: int, shuffle: bool = True) -> None:
        """Sample *dataset*, or as many as it says.

        Raises:
            UsageError: It has no length.
        """
        super().__init__(dataset if isinstance(dataset, int) else sized(dataset), seed)
        self._shuffle = shuffle

    @property
    def sample(self) -> int:
        """Samples of this epoch that the training has used."""
        return self._used

    def __iter__(self) -> Iterator[int]:
        epoch = self.epoch
        return (Index(index, epoch) for index in self._indices(epoch)[self._used :])

    def advance(self, samples: int) -> None:
        """Say that the training has used the next *samples* of the epoch."""
        self._used = min(self._size, self._used + samples)

    def _indices(self, epoch: int) -> Sequence[int]:
        if not self._shuffle:
            return range(self._size)
        return cast("list[int]", shuffled(self._size, derived_seed("order", self._seed, epoch)).tolist())

    def _order(self) -> dict[str, Any]:
        return {"seed": self._seed, "size": self._size, "shuffle": self._shuffle}


class SeededDataset(Dataset[Any]):
    """A dataset whose global random numbers depend on (seed, epoch, index) alone.

    Around each ``dataset[i]`` Python's, NumPy's and torch's CPU generators are seeded and put back. The epoch
    comes with the indices of a `ResumableSampler`; other samplers stay in epoch 0.
    """

    def __init__(self, dataset: Any, *, seed: int) -> None:
        """Wrap *dataset*, which has ``__getitem__`` and ``__len__``."""
        self._dataset = dataset
        self._seed = seed

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        with seeded(derived_seed("item", self._seed, getattr(index, "epoch", 0), int(index))):
            return self._dataset[int(index)]


def sized(dataset: Any) -> int:
    """Return the length of *dataset*.

    Raises:
        UsageError: It has none.
    """
    try:
        return len(dataset)
    except TypeError:
        raise UsageError(
            "a dataset without a length cannot be resumed in order",
            hint="give a map-style dataset, with __len__ and __getitem__",
        ) from None


def check_order(now: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Raise where a position in one order is put into another.

    Raises:
        UsageError: With both.
    """
    saved = {key: state.get(key) for key in now}
    if saved != dict(now):
        raise UsageError(
            f"the position that was saved is one in {_words(saved)}, this is {_words(now)}",
            hint="build the loader from trial.params, trial.seed and the same data in every attempt",
        )


def _words(order: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in order.items())


def whole(value: Any) -> int:
    """Return *value*, 0 where it is no whole number."""
    try:
        return operator.index(value)
    except TypeError:
        return 0
