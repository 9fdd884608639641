"""Series and batches of any sizes: nothing is lost, nothing repeated, and no batch could be saved."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from hpc_search.samplers import (
    BalancedSeriesBatchSampler,
    BinWeightedSampler,
    SeriesAwareBatchSampler,
)
from hpc_search.samplers.schedule import count_batches

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=12)
kinds = st.sampled_from([BalancedSeriesBatchSampler, SeriesAwareBatchSampler])


def longest_first(sizes: list[int], batch_size: int) -> tuple[int, int]:
    """Return the full and the short batches of the rule that is known to be the best."""
    left, full, short = sorted(sizes, reverse=True), 0, 0
    while left:
        full, short = full + (len(left) >= batch_size), short + (len(left) < batch_size)
        left = sorted((n - (i < batch_size) for i, n in enumerate(left)), reverse=True)
        left = [n for n in left if n]
    return full, short


@given(sizes, st.integers(1, 9))
def test_there_are_as_many_full_batches_and_as_few_in_all_as_can_be(
    sizes: list[int], batch_size: int
) -> None:
    counts = count_batches(sizes, batch_size)
    assert counts == longest_first(sizes, batch_size)
    assert counts.total == max(-(-sum(sizes) // batch_size), *sizes)


@given(kinds, sizes, st.integers(1, 9), st.integers(0, 3), st.booleans(), st.data())
def test_every_item_once_no_series_twice_and_any_batch_can_be_the_last_one(
    kind: type[BalancedSeriesBatchSampler],
    sizes: list[int],
    batch_size: int,
    epoch: int,
    shuffle: bool,
    data: st.DataObject,
) -> None:
    ids = data.draw(st.permutations([f"s{one}" for one, size in enumerate(sizes) for _ in range(size)]))
    sampler = kind(ids, batch_size, shuffle, seed=epoch)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert sorted(item for batch in batches for item in batch) == list(range(len(ids)))
    assert all(len({ids[item] for item in batch}) == len(batch) <= batch_size for batch in batches)
    assert sum(len(batch) < batch_size for batch in batches) == sampler.short_batches
    cut = data.draw(st.integers(0, len(batches)))
    other = kind(ids, batch_size, shuffle, seed=epoch)
    sampler.advance(cut)
    other.load_state_dict(sampler.state_dict())
    assert list(other) == batches[cut:]


@given(st.lists(st.sampled_from("abcd"), min_size=4, max_size=40), st.integers(4, 60), st.integers(0, 5))
def test_bins_have_their_parts_and_repeat_no_item_before_its_turn(
    bins: list[str], samples: int, seed: int
) -> None:
    sampler = BinWeightedSampler(bins, seed=seed, samples=samples)
    shown: Counter[int] = Counter()
    for epoch in range(3):
        sampler.set_epoch(epoch)
        drawn = list(sampler)
        parts = Counter(bins[item] for item in drawn)
        assert len(drawn) == samples
        assert max(parts.values()) - min(parts.values()) <= 1
        shown.update(drawn)
        for name in set(bins):
            counts = [shown[item] for item, other in enumerate(bins) if other == name]
            assert max(counts) - min(counts) <= 1
