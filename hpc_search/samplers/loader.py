"""A loader that goes on with the next batch after any interruption."""

from __future__ import annotations

import atexit
import hashlib
import math
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any, Final, NamedTuple, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from hpc_search.errors import UsageError
from hpc_search.samplers.sampler import check_order, sized, whole
from hpc_search.samplers.seeding import derived_seed, seeded, shuffled
from hpc_search.samplers.workers import WorkerStart

#: Arguments of a DataLoader that would take the order out of this loader's hands.
_OWN: Final = ("generator", "in_order")
#: What a sampler may draw from, to be the same in every attempt.
_DRAWS: Final = (
    "let the sampler draw from Python's, NumPy's or torch's global generator, from an attribute `generator`"
    " of torch, or from what `set_epoch` gives: these are seeded for each epoch"
)

_T = TypeVar("_T")


class _Batch(NamedTuple):
    seed: int
    indices: list[int]


class _Order(NamedTuple):
    """What an epoch is: indices, how many of them come before each batch and after all, and a digest."""

    epoch: int
    indices: torch.Tensor
    bounds: Sequence[int]
    digest: str


class ResumableLoader:
    """Batches of a map-style dataset; its position is a state that ``trial.save`` keeps.

    Order and random numbers depend on (seed, epoch, position) alone: with 0 or any number of workers, read
    ahead or not, interrupted or not, every batch is bit-identical. While a batch is made, Python's, NumPy's
    and torch's global CPU generators are seeded for it; the training's own numbers are not touched. Workers
    outlive the stop signals of SLURM. Batches of ``batch_size`` samples, collated as by a DataLoader.

    A ``for`` goes on where the one before it ended: one that was left early, or was killed, goes on with the
    next batch of the same epoch; one that came to its end is followed by the next epoch.

    Example:
        ::

            loader = ResumableLoader(dataset, batch_size=32, seed=trial.seed, num_workers=2)
            step = trial.restore(model=model, optimizer=optimizer, loader=loader)
            for epoch in range(loader.epoch, trial.params["epochs"]):
                for inputs, labels in loader:
                    ...
                    step += 1
                    trial.save(step, model=model, optimizer=optimizer, loader=loader)

    Attributes:
        epoch: The epoch of the next batch, from 0.
        sample: Samples of this epoch that were given out.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        *,
        seed: int,
        shuffle: bool = True,
        drop_last: bool = False,
        sampler: Any = None,
        batch_sampler: Any = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        num_workers: int = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        **options: Any,
    ) -> None:
        """Load *dataset*; *options* are further ones of a DataLoader.

        A *sampler* gives the indices of an epoch instead of *shuffle*: it is iterated wholly at the start of
        the epoch (in the first one twice: it must repeat itself), with the global generators, and its own
        ``generator``, seeded by (seed, epoch), after its ``set_epoch(epoch)`` where it has one. So does a
        *batch_sampler*, which gives lists of indices, each of them a batch; then *batch_size*, *shuffle*,
        *drop_last* and *sampler* are its own.

        Raises:
            UsageError: The dataset has no length or an option would break the order.
        """
        own = batch_size != 1 or not shuffle or drop_last or sampler is not None
        _refuse(batch_size, options, twice=own and batch_sampler is not None)
        self._length = sized(None if isinstance(dataset, IterableDataset) else dataset)
        self._batch_size = int(batch_size)
        self._seed = seed
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._sampler = sampler if batch_sampler is None else batch_sampler
        self._by_batch = batch_sampler is not None
        self._order: _Order | None = None
        #: The epoch and the digest that it had when it was saved.
        self._expected: tuple[int, str] | None = None
        #: Whether the sampler gives the same order when asked again for the same epoch; None until asked.
        self._repeats: bool | None = None
        self._passes = 0
        self.epoch = 0
        self.sample = 0
        self._loader = DataLoader(
            _Batches(dataset, collate_fn or default_collate),
            batch_size=None,
            sampler=_Tokens(self),
            collate_fn=_as_it_is,
            num_workers=num_workers,
            worker_init_fn=WorkerStart(worker_init_fn),
            # A DataLoader draws the seeds of its workers from the global generator where it has none.
            generator=torch.Generator().manual_seed(derived_seed("loader", seed)),
            **options,
        )
        if options.get("persistent_workers"):
            atexit.register(_end_workers_of, weakref.ref(self._loader))

    def __len__(self) -> int:
        """Return the batches of a whole epoch."""
        if self._by_batch:
            return sized(self._sampler)
        return math.ceil(self._end(self._count()) / self._batch_size)

    def __iter__(self) -> Iterator[Any]:
        self._passes += 1
        current = self._passes
        bounds = self._drawn_order().bounds
        for batch in self._batches() if self.sample < bounds[-1] else ():
            if current != self._passes:
                raise UsageError("this loader is being iterated a second time", hint="make two loaders")
            self.sample = bounds[bisect_right(bounds, self.sample)]
            yield batch
        if current == self._passes:
            self.epoch, self.sample = self.epoch + 1, 0

    def _batches(self) -> Iterator[Any]:
        iterator = iter(self._loader)
        shutdown: Callable[[], None] | None = getattr(iterator, "_shutdown_workers", None)
        if shutdown is None or self._loader.persistent_workers:
            yield from iterator
            return
        # At exit Python waits for workers that it has only sent SIGTERM.
        atexit.register(shutdown)
        try:
            yield from iterator
        finally:
            atexit.unregister(shutdown)

    def set_epoch(self, epoch: int) -> None:
        """Begin *epoch*; where the training is in it already, its position stays."""
        if epoch != self.epoch:
            self._passes += 1
            self.epoch, self.sample = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the batch that was given out last, and what the order depends on.

        Raises:
            UsageError: The sampler gives another order whenever it is asked.
        """
        state = {"epoch": self.epoch, "sample": self.sample, **self._decisive()}
        if self._repeats is False:
            raise UsageError(
                f"ResumableLoader: {self._kind()} gives another order each time it is iterated, also in one"
                " epoch: a resumed trial would see other batches",
                hint=_DRAWS,
            )
        # An epoch that has not begun has no order yet: what the sampler draws from may still change.
        if self._order is None or self._order.epoch != self.epoch:
            return state
        return {**state, "order": self._order.digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the position of *state*; the batch size may be another one if its batches begin there too.

        Raises:
            UsageError: It is a position in another order, or inside a batch of this one. (What a sampler
                gives is compared when it is iterated.)
        """
        check_order(self._decisive(), state)
        epoch, sample = state["epoch"], state["sample"]
        if not self._by_batch and sample % self._batch_size and sample < self._end(self._count()):
            raise UsageError(
                f"the position that was saved is after {sample} samples:"
                f" no batch of {self._batch_size} starts there",
                hint="keep the batch size, or save where its batches and the new ones end together",
            )
        self._passes += 1
        self.epoch, self.sample = epoch, sample
        # Compared when it is drawn: then all that was saved is back, also what a sampler draws from.
        self._order, self._expected = None, (epoch, state["order"]) if "order" in state else None

    def tokens(self) -> Iterator[_Batch]:
        """Yield what makes each batch from the position on, to whoever reads ahead."""
        sample, order = self.sample, self._drawn_order()
        for start, end in pairwise(order.bounds):
            if start >= sample:
                seed = derived_seed("batch", self._seed, order.epoch, start)
                yield _Batch(seed, order.indices[start:end].tolist())

    def _decisive(self) -> dict[str, Any]:
        return {
            "seed": self._seed,
            "size": self._length,
            "shuffle": self._shuffle if self._sampler is None else type(self._sampler).__name__,
            "drop_last": self._drop_last,
        }

    def _count(self) -> int:
        return self._length if self._sampler is None else sized(self._sampler)

    def _end(self, size: int) -> int:
        return size - size % self._batch_size if self._drop_last else size

    def _drawn_order(self) -> _Order:
        if self._order is None or self._order.epoch != self.epoch:
            self._order = self._new_order(self.epoch)
        if self._expected is not None and self._expected[0] == self.epoch:
            if self._expected[1] != self._order.digest:
                raise UsageError(
                    f"ResumableLoader: {self._kind()} gives another order of epoch {self.epoch} than"
                    " before it was saved: the batches that are left are others",
                    hint=f"build it from the same data in every attempt; {_DRAWS}",
                )
            self._expected = None
        return self._order

    def _kind(self) -> str:
        return "this torch" if self._sampler is None else f"the sampler {type(self._sampler).__name__}"

    def _new_order(self, epoch: int) -> _Order:
        seed = derived_seed("order", self._seed, epoch)
        if self._by_batch:
            batches = self._from_sampler(epoch, seed, _indices_of_batch)
            drawn = torch.tensor(list(chain.from_iterable(batches)), dtype=torch.int64)
            bounds = [*accumulate(map(len, batches), initial=0)]
            content = drawn.numpy().tobytes() + repr(bounds).encode()
        else:
            drawn = self._drawn(seed, epoch)
            end = self._end(len(drawn))
            bounds = [*range(0, end, self._batch_size), end]
            content = drawn.numpy().tobytes()
        return _Order(epoch, drawn, bounds, hashlib.blake2b(content, digest_size=16).hexdigest())

    def _drawn(self, seed: int, epoch: int) -> torch.Tensor:
        if self._sampler is None:
            return shuffled(self._length, seed) if self._shuffle else torch.arange(self._length)
        return torch.tensor(self._from_sampler(epoch, seed, int), dtype=torch.int64)

    def _from_sampler(self, epoch: int, seed: int, of: Callable[[Any], _T]) -> list[_T]:
        drawn = self._ask_sampler(epoch, seed, of)
        if self._repeats is None:
            self._repeats = drawn == self._ask_sampler(epoch, seed, of)
        return drawn

    def _ask_sampler(self, epoch: int, seed: int, of: Callable[[Any], _T]) -> list[_T]:
        if hasattr(self._sampler, "set_epoch"):
            self._sampler.set_epoch(epoch)
        if isinstance(getattr(self._sampler, "generator", None), torch.Generator):
            self._sampler.generator.manual_seed(seed)
        with seeded(seed):
            return [of(drawn) for drawn in self._sampler]


def _indices_of_batch(batch: Any) -> list[int]:
    return [int(index) for index in batch]


class _Tokens:
    """The sampler that the DataLoader sees."""

    def __init__(self, loader: ResumableLoader) -> None:
        self._loader = weakref.ref(loader)

    def __iter__(self) -> Iterator[_Batch]:
        loader = self._loader()
        return iter(()) if loader is None else loader.tokens()

    def __len__(self) -> int:
        loader = self._loader()
        return 0 if loader is None else len(loader)


class _Batches(Dataset[Any]):
    """The dataset that the DataLoader sees: an item is a whole batch, made under its own seed."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any]) -> None:
        self._dataset = dataset
        self._collate = collate

    def __getitem__(self, batch: _Batch) -> Any:
        with seeded(batch.seed):
            many = getattr(self._dataset, "__getitems__", None)
            items = many(batch.indices) if many is not None else [self._dataset[i] for i in batch.indices]
            return self._collate(items)


def _refuse(batch_size: Any, options: Mapping[str, Any], *, twice: bool) -> None:
    wrong = [f"the option {name}" for name in _OWN if name in options]
    if twice:
        wrong.append("batch_size, shuffle, drop_last or sampler beside a batch_sampler")
    if whole(batch_size) < 1:
        wrong = [f"batch_size {batch_size!r}, which is no whole number from 1 on,"]
    if wrong:
        hint = "give batch_size, seed and sampler"
        raise UsageError(f"ResumableLoader: {wrong[0]} cannot be used", hint=hint)


def _as_it_is(batch: Any) -> Any:
    return batch


def _end_workers_of(loader: weakref.ref[Any]) -> None:
    iterator = getattr(loader(), "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()  # noqa: SLF001 - torch has no public way
