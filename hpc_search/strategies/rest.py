"""What an amended grid adds: the points of a finite space that an earlier one does not have.

Mostly both are products of the same parameters, the earlier one of fewer values: then the n-th point outside
of it is found digit by digit. Else (rules that joined other parameters) all points are looked at, once.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, Protocol

from hpc_search.space import Space


class _Left(Protocol):
    """Numbers of a space, ascending, that are left."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Rest:
    """The points of a space that none of the spaces ``without`` has, in the order of their numbers."""

    without: tuple[Space, ...]
    name: str = "grid"
    adaptive: bool = False
    #: Numbers of the points left, of the last space: a cache, no part of the value.
    _left: list[tuple[Space, _Left]] = field(default_factory=list, init=False, repr=False, compare=False)

    def count(self, space: Space) -> int:
        """Return how many points there are."""
        return len(self._numbers(space))

    def point(self, space: Space, index: int) -> dict[str, Any]:
        """Return point number *index*.

        Raises:
            IndexError: There is no such point.
        """
        return space.point(self._numbers(space)[index])

    def _numbers(self, space: Space) -> _Left:
        for known, numbers in self._left:
            if known is space or known == space:
                return numbers
        box = box_of(space, self.without[0]) if len(self.without) == 1 else None
        found = Outside(box) if box is not None else looked_at(space, self.without)
        self._left[:] = [(space, found)]
        return found


def looked_at(space: Space, without: tuple[Space, ...]) -> array[int]:
    """Return the numbers of the points of *space* that none of *without* has."""
    points = ((number, space.point(number)) for number in range(space.size() or 0))
    return array("q", (number for number, point in points if not any(has(one, point) for one in without)))


def lost(space: Space, old: Space) -> int:
    """Return how many points of the finite space *old* are not in *space*."""
    if box_of(space, old) is not None:
        return 0
    return sum(not has(space, old.point(number)) for number in range(old.size() or 0))


def has(space: Space, params: dict[str, Any]) -> bool:
    """Return whether the finite *space* has the point *params*."""
    try:
        space.index(params)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Box:
    """A product within a product: how many values each digit has, and which of them the inner one has."""

    sizes: tuple[int, ...]
    inner: tuple[tuple[int, ...], ...]


def box_of(space: Space, old: Space) -> Box | None:
    """Return where the points of *old* are in *space*, None where they are no product of its digits."""
    outer, inner = space.counts(), old.counts()
    if outer is None or inner is None or [names for names, _ in outer] != [names for names, _ in inner]:
        return None
    digits = []
    stride, old_stride = space.size() or 0, old.size() or 0
    if not old_stride:
        return None
    for (_, size), (_, old_size) in zip(outer, inner, strict=True):
        stride, old_stride = stride // size, old_stride // old_size
        try:
            # These points differ in one digit.
            numbers = [space.index(old.point(digit * old_stride)) for digit in range(old_size)]
        except ValueError:
            return None
        digits.append(tuple(sorted({number // stride % size for number in numbers})))
    found = Box(tuple(size for _, size in outer), tuple(digits))
    return found if math.prod(map(len, digits)) == old.size() else None


class Outside:
    """The numbers of a product that are outside of an inner one, ascending."""

    def __init__(self, box: Box) -> None:
        """Leave out the inner product of *box*."""
        self._box = box

    def __len__(self) -> int:
        """Return how many there are."""
        return math.prod(self._box.sizes) - math.prod(map(len, self._box.inner))

    def __getitem__(self, place: int, /) -> int:
        """Return number *place*.

        Raises:
            IndexError: There are fewer.
        """
        if not 0 <= place < len(self):
            raise IndexError(f"{place} is outside 0..{len(self) - 1}")
        found = 0
        inside = True
        outer, inner = math.prod(self._box.sizes), math.prod(map(len, self._box.inner))
        for size, digits in zip(self._box.sizes, self._box.inner, strict=True):
            outer, inner = outer // size, inner // len(digits)
            digit, place = _digit(place, size, outer, digits, inner if inside else 0)
            found = found * size + digit
            inside = inside and digit in digits
        return found


def _digit(place: int, size: int, outer: int, digits: tuple[int, ...], inner: int) -> tuple[int, int]:
    """Return the digit that number *place* has, and its place among those with this digit.

    A digit stands for *outer* numbers, without *inner* of them where it is one of *digits*.
    """
    low, high = 0, size - 1
    while low < high:
        middle = (low + high + 1) // 2
        if middle * outer - bisect_left(digits, middle) * inner <= place:
            low = middle
        else:
            high = middle - 1
    return low, place - (low * outer - bisect_left(digits, low) * inner)
