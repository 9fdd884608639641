"""Seeds from counters, and the global generators for the time of one batch."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_SEED_BITS = 63


def derived_seed(*counters: int | str) -> int:
    """Return a seed of 63 bits that depends on all of *counters* and nothing else (blake2b)."""
    digest = hashlib.blake2b(repr(counters).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> (64 - _SEED_BITS)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's global CPU generators with *seed*; afterwards they are as before.

    Example:
        ``with seeded(derived_seed(trial.seed, epoch, index)): image = augment(image)``
    """
    before = random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])  # noqa: NPY002 - the legacy generator is what datasets use
    # torch.manual_seed would seed the GPUs too, which go on with the training's numbers.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


def shuffled(size: int, seed: int) -> torch.Tensor:
    """Return a permutation of 0 ... *size* - 1, int64, that depends on *size* and *seed*."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))
