"""Loading that goes on with the next batch: the same order and the same random numbers, however it is cut."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest

from hpc_search.checkpoint import capture
from hpc_search.errors import UsageError

torch = pytest.importorskip("torch")
data = torch.utils.data

from hpc_search.samplers import (  # noqa: E402
    ResumableLoader,
    ResumableSampler,
    SeededDataset,
    derived_seed,
    outlive_stop_signals,
    seeded,
)

SIZE, BATCH, EPOCHS = 23, 4, 3


class Noisy(data.Dataset):  # type: ignore[misc,name-defined]
    """Every item draws from all three global generators."""

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Any:
        noise = random.random() + np.random.random() + torch.rand(()).item()  # noqa: NPY002
        return torch.tensor([float(index), noise], dtype=torch.float64)


class Pids(Noisy):
    def __getitem__(self, index: int) -> Any:
        return torch.tensor(os.getpid())


def make(**more: Any) -> ResumableLoader:
    return ResumableLoader(**{"dataset": Noisy(), "batch_size": BATCH, "seed": 7, **more})


def epochs(loader: ResumableLoader, until: int = EPOCHS) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield every batch with the state that a save after it would keep."""
    while loader.epoch < until:
        for batch in loader:
            yield batch.tolist(), loader.state_dict()


@pytest.fixture(scope="module")
def whole() -> list[tuple[Any, dict[str, Any]]]:
    return list(epochs(make()))


def test_an_epoch_is_every_sample_once_and_each_epoch_has_its_own_order_and_noise(whole: Any) -> None:
    per_epoch = -(-SIZE // BATCH)
    assert len(make()) == per_epoch
    rows = [
        [row for batch, _ in whole[e * per_epoch : (e + 1) * per_epoch] for row in batch] for e in range(3)
    ]
    assert all(sorted(int(row[0]) for row in one) == list(range(SIZE)) for one in rows)
    assert len({str([row[0] for row in one]) for one in rows}) == EPOCHS
    assert len({row[1] for one in rows for row in one}) == EPOCHS * SIZE


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_that_stopped_after_any_batch_goes_on_bit_identically(whole: Any, workers: int) -> None:
    cuts = range(len(whole)) if workers == 0 else (0, 3, 5, 9)
    for cut in cuts:
        loader = make(num_workers=workers)
        loader.load_state_dict(whole[cut][1])
        # The next epoch of a loader that stopped at the end of one is the one after the end.
        rest = list(epochs(loader, EPOCHS if workers == 0 else loader.epoch + 1))
        assert rest == whole[cut + 1 : cut + 1 + len(rest)]
        assert workers or len(rest) == len(whole) - cut - 1


@pytest.mark.parametrize("options", [{"num_workers": 1}, {"num_workers": 2, "prefetch_factor": 5}])
def test_workers_and_how_far_they_read_ahead_change_nothing(whole: Any, options: dict[str, Any]) -> None:
    assert list(epochs(make(**options), 2)) == whole[: 2 * len(make())]


def test_persistent_workers_change_nothing(whole: Any) -> None:
    loader = make(num_workers=1, persistent_workers=True)
    assert list(epochs(loader, 2)) == whole[: 2 * len(loader)]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_generators_of_the_training_are_not_touched(workers: int) -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    before = repr(capture())
    list(make(num_workers=workers))
    assert repr(capture()) == before


def test_what_the_training_draws_changes_no_batch(whole: Any) -> None:
    found = []
    for item in epochs(make(), 1):
        torch.rand(3), random.random(), np.random.random()  # noqa: NPY002
        found.append(item)
    assert found == whole[: len(found)]


def test_a_loop_that_is_left_early_goes_on_with_the_next_batch(whole: Any) -> None:
    loader = make()
    first = [batch.tolist() for batch in islice(loader, 2)]
    assert (loader.epoch, loader.sample) == (0, 2 * BATCH)
    rest = [batch.tolist() for batch in loader]
    assert first + rest == [batch for batch, _ in whole[: len(loader)]]
    assert (loader.epoch, loader.sample) == (1, 0)


def test_a_position_at_the_end_of_an_epoch_ends_it_first() -> None:
    loader = make()
    loader.load_state_dict({**loader.state_dict(), "sample": SIZE})
    assert list(loader) == []
    assert loader.epoch == 1


def test_set_epoch_keeps_the_position_of_the_same_epoch_and_begins_another(whole: Any) -> None:
    loader = make()
    next(iter(loader))
    loader.set_epoch(0)
    assert loader.sample == BATCH
    loader.set_epoch(2)
    assert next(iter(loader)).tolist() == whole[2 * len(loader)][0]


def test_the_last_part_of_a_batch_can_be_dropped_and_the_order_kept_as_it_is() -> None:
    loader = make(drop_last=True, shuffle=False)
    assert len(loader) == len(list(loader)) == SIZE // BATCH
    assert next(iter(loader))[:, 0].tolist() == [0, 1, 2, 3]
    assert make(dataset=[], shuffle=False).__len__() == len(list(make(dataset=[]))) == 0


@pytest.mark.parametrize("own", [False, True])
def test_a_sampler_of_the_users_is_drawn_once_an_epoch_under_its_own_seed(own: bool) -> None:
    def weighted() -> Any:
        generator = torch.Generator() if own else None
        return data.WeightedRandomSampler([1.0] * SIZE, 10, generator=generator)

    found = list(epochs(make(sampler=weighted())))
    loader = make(sampler=weighted())
    loader.load_state_dict(found[4][1])
    assert list(epochs(loader)) == found[5:]
    assert len(loader) == 3


def test_a_smaller_batch_goes_on_where_its_batches_begin_and_is_refused_elsewhere(whole: Any) -> None:
    smaller = make(batch_size=2)
    smaller.load_state_dict(whole[2][1])
    assert [int(row[0]) for batch in smaller for row in batch] == [
        int(row[0]) for batch, _ in whole[3 : len(make())] for row in batch
    ]
    with pytest.raises(UsageError, match="no batch of 5 starts there"):
        make(batch_size=5).load_state_dict(whole[2][1])


@pytest.mark.parametrize("other", [{"seed": 8}, {"shuffle": False}, {"dataset": [1, 2]}, {"drop_last": True}])
def test_a_position_in_another_order_is_refused_with_both(whole: Any, other: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"seed 7, size 23.* this is seed"):
        make(**other).load_state_dict(whole[0][1])


def test_what_cannot_be_resumed_is_refused() -> None:
    class Stream(data.IterableDataset):  # type: ignore[misc,name-defined]
        def __iter__(self) -> Iterator[int]:
            return iter(range(3))

    for options in ({"dataset": Stream()}, {"batch_size": 0}, {"generator": None}, {"batch_sampler": [[0]]}):
        with pytest.raises(UsageError):
            make(**options)
    loader = make()
    first = iter(loader)
    next(first)
    next(iter(loader))
    with pytest.raises(UsageError, match="second time"):
        next(first)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_workers_outlive_the_stop_signals_of_a_preemption(number: signal.Signals) -> None:
    loader = make(dataset=Pids(), num_workers=2, prefetch_factor=1)
    batches = iter(loader)
    pids = set(next(batches).tolist()) | set(next(batches).tolist())
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, number)
    rest = [pid for batch in batches for pid in batch.tolist()]
    assert len(rest) == SIZE - 2 * BATCH
    assert set(rest) == pids


def test_a_program_that_leaves_a_loop_early_ends_although_its_workers_outlive_signals() -> None:
    code = (
        "import torch\n"
        "from hpc_search.samplers import ResumableLoader\n"
        "kept = [ResumableLoader(torch.arange(9), 2, seed=1, num_workers=1, persistent_workers=p)"
        " for p in (False, True)]\n"
        "iterators = [iter(loader) for loader in kept]\n"
        "print([next(iterator).tolist() for iterator in iterators])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[[")


# -- the sampler, in the user's own DataLoader
def own_loader(sampler: ResumableSampler, workers: int) -> Any:
    return data.DataLoader(
        SeededDataset(Noisy(), seed=7),
        batch_size=BATCH,
        sampler=sampler,
        num_workers=workers,
        generator=sampler.generator,
        worker_init_fn=outlive_stop_signals,
    )


def trained(sampler: ResumableSampler, workers: int, until: int = EPOCHS) -> Iterator[Any]:
    loader = own_loader(sampler, workers)
    for epoch in range(sampler.epoch, until):
        sampler.set_epoch(epoch)
        for batch in loader:
            sampler.advance(len(batch))
            yield batch.tolist(), sampler.state_dict()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sampler_goes_on_where_the_training_is_not_where_the_loader_has_read(workers: int) -> None:
    expected = list(trained(ResumableSampler(SIZE, seed=7), 0))
    before = repr(capture())
    for cut in range(len(expected)) if workers == 0 else (0, 7):
        sampler = ResumableSampler(Noisy(), seed=7)
        sampler.load_state_dict(expected[cut][1])
        assert list(trained(sampler, workers)) == expected[cut + 1 :]
    assert repr(capture()) == before


def test_a_sampler_has_each_index_once_and_refuses_another_order() -> None:
    sampler = ResumableSampler(SIZE, seed=1)
    assert sorted(sampler) == list(range(SIZE))
    assert len(sampler) == SIZE
    assert list(ResumableSampler(3, seed=1, shuffle=False)) == [0, 1, 2]
    with pytest.raises(UsageError, match="size 23"):
        ResumableSampler(5, seed=1).load_state_dict(sampler.state_dict())
    with pytest.raises(UsageError, match="without a length"):
        ResumableSampler(iter([1]), seed=1)  # type: ignore[arg-type]


def test_seeds_differ_by_every_counter_and_seeded_puts_everything_back() -> None:
    seeds = {derived_seed("a", i, j) for i in range(20) for j in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
    before = repr(capture())
    drawn = []
    for _ in range(2):
        with seeded(5):
            drawn.append((random.random(), np.random.random(), torch.rand(1).item()))  # noqa: NPY002
    assert drawn[0] == drawn[1]
    assert repr(capture()) == before


# -- samplers of the user's own
class Own:
    """A sampler that draws from a generator of its own."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw

    def __len__(self) -> int:
        return SIZE

    def __iter__(self) -> Iterator[int]:
        indices = list(range(SIZE))
        self.draw.shuffle(indices)
        return iter(indices)


@pytest.mark.parametrize("draw", [random.Random(3), np.random.default_rng(3)], ids=["python", "numpy"])
def test_a_sampler_that_would_resume_in_another_order_is_refused_when_it_is_saved(draw: Any) -> None:
    loader = make(sampler=Own(draw))
    next(iter(loader))
    with pytest.raises(UsageError, match="the sampler Own gives another order each time") as caught:
        loader.state_dict()
    assert "set_epoch" in caught.value.hint


def test_a_sampler_of_other_content_than_before_is_refused_in_words() -> None:
    subset = data.SubsetRandomSampler
    loader = make(sampler=subset([1, 5, 7, 8, 9, 10]))
    next(iter(loader))
    state = loader.state_dict()
    for other in ([1, 5, 7, 8, 9, 11], list(range(20))):
        changed = make(sampler=subset(other))
        changed.load_state_dict(state)
        with pytest.raises(UsageError, match="SubsetRandomSampler gives another order of epoch 0"):
            next(iter(changed))
    same = make(sampler=subset([1, 5, 7, 8, 9, 10]))
    same.load_state_dict(state)
    assert next(iter(same)).tolist() == next(iter(loader)).tolist()


def test_a_sampler_whose_weights_come_back_after_the_loader_goes_on() -> None:
    def weighted() -> Any:
        return data.WeightedRandomSampler([1.0] * SIZE, SIZE)

    sampler = weighted()
    sampler.weights[:9] = 0
    loader = make(sampler=sampler)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    resumed = weighted()
    again = make(sampler=resumed)
    again.load_state_dict(state)
    resumed.weights[:9] = 0
    assert next(iter(again)).tolist() == next(batches).tolist()


@pytest.mark.parametrize("size", [None, 5.0, "4", 0, -1])
def test_a_batch_size_that_is_no_whole_number_is_refused_in_words(size: Any) -> None:
    with pytest.raises(UsageError, match=r"ResumableLoader: batch_size .* no whole number from 1 on"):
        make(batch_size=size)
