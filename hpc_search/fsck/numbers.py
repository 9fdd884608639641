"""Numbers that should follow each other: one stray number must not make thousands of files missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

#: A file whose number is further from the one before it is none of the series.
FAR: Final = 100


def gaps(numbers: Iterable[int], first: int = 1, end: int = 0) -> Iterator[range]:
    """Yield the ranges that are missing in *numbers*, from *first*, up to *end* - 1 where that is beyond."""
    expected, there = first, set(numbers)
    if end > max(there, default=0):
        there.add(end)
    for number in sorted(there):
        if number > expected:
            yield range(expected, number)
        expected = max(expected, number + 1)


def stray(numbers: Iterable[int], last: int = 0) -> set[int]:
    """Return those *numbers* that are too far from the others; up to *last* they are known to have been."""
    at, found = max(last, 0), set()
    for number in sorted(numbers):
        if number > at + FAR:
            found.add(number)
        else:
            at = max(at, number)
    return found
