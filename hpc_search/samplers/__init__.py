"""Data loading that can be killed at any batch and goes on with the very next one, bit-identically.

`ResumableLoader` takes the place of a ``DataLoader``; `ResumableSampler` and `SeededDataset` go into one of
the user's own. In either, `BalancedSeriesBatchSampler` and `SeriesAwareBatchSampler` give batches without
two items of one series, and `BinWeightedSampler` gives bins their parts of an epoch.

Random numbers come from counters (seed, epoch, position), never from the state of a process: it does not
matter how many workers there are, nor how far they have read ahead. This needs torch.
"""

from hpc_search.samplers.bins import BinWeightedSampler
from hpc_search.samplers.loader import ResumableLoader
from hpc_search.samplers.sampler import ResumableSampler, SeededDataset
from hpc_search.samplers.seeding import derived_seed, seeded
from hpc_search.samplers.series import BalancedSeriesBatchSampler, SeriesAwareBatchSampler
from hpc_search.samplers.workers import outlive_stop_signals

__all__ = [
    "BalancedSeriesBatchSampler",
    "BinWeightedSampler",
    "ResumableLoader",
    "ResumableSampler",
    "SeededDataset",
    "SeriesAwareBatchSampler",
    "derived_seed",
    "outlive_stop_signals",
    "seeded",
]
