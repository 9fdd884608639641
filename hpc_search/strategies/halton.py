"""Halton's sequence with permuted digits: point i is computed from i alone, on integers.

Each digit of each dimension has a permutation of its own (Owen, "A randomized Halton algorithm in R",
2017), which breaks the correlations between large bases.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import nextafter
from typing import Final

from hpc_search.strategies.permutation import Permutation

#: Digits are computed until they are worth less than this many bits.
_BITS: Final = 53
_BELOW_ONE: Final = nextafter(1.0, 0.0)


def coordinates(index: int, keys: Sequence[bytes]) -> list[float]:
    """Return point number *index*, one coordinate in [0, 1) for each of *keys*, which permute its digits."""
    return [_inverse(index, prime, key) for prime, key in zip(_primes(len(keys)), keys, strict=True)]


def _inverse(index: int, base: int, key: bytes) -> float:
    """Return the digits of *index*, permuted, mirrored at the point."""
    numerator, denominator, place = 0, 1, 0
    while index or denominator >> _BITS == 0:
        index, digit = divmod(index, base)
        numerator = numerator * base + _permutation(base, key, place)(digit)
        denominator *= base
        place += 1
    return min(numerator / denominator, _BELOW_ONE)


@lru_cache(maxsize=1 << 16)
def _permutation(base: int, key: bytes, place: int) -> Permutation:
    return Permutation(base, key + b":%d" % place)


@lru_cache(maxsize=8)
def _primes(count: int) -> tuple[int, ...]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found if prime * prime <= candidate):
            found.append(candidate)
        candidate += 1
    return tuple(found)
