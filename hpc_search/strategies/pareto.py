"""Several objectives: which points are better than which, and how far apart they lie. Pure.

One point dominates another where it is not worse in any objective and better in one. Front 0 are the points
that none dominates; front k those that only points of the fronts before it do.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import le
from typing import Final, Protocol

_SIGNS: Final = {"max": -1.0, "min": 1.0}


def ranks(values: Sequence[Sequence[float]], goals: Sequence[str]) -> list[int]:
    """Return the front of every point, by its *values*, all finite; *goals* has "max" or "min" for each.

    Points in lexicographic order, each put into the first front that does not dominate it, which is
    found by bisection (Zhang et al., 2015); up to three objectives a front needs O(log n) a question.
    """
    signs = [_SIGNS[goal] for goal in goals]
    costs = [tuple(map(_product, signs, row)) for row in values]
    fronts: list[_Front] = []
    found: dict[tuple[float, ...], int] = {}
    for cost in sorted(set(costs)):
        low, high = 0, len(fronts)
        while low < high:
            middle = (low + high) // 2
            if fronts[middle].dominates(cost):
                low = middle + 1
            else:
                high = middle
        if low == len(fronts):
            fronts.append(_Staircase() if len(signs) <= 3 else _Scan())
        fronts[low].add(cost)
        found[cost] = low
    return [found[cost] for cost in costs]


def _product(sign: float, value: float) -> float:
    # -0.0 and 0.0 are one value.
    return sign * value + 0.0


class _Front(Protocol):
    """The points of a front so far; those asked for come later in lexicographic order."""

    def dominates(self, cost: tuple[float, ...]) -> bool: ...

    def add(self, cost: tuple[float, ...]) -> None: ...


class _Staircase:
    """A front by its second and third costs: those that no other of it undercuts in both."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._thirds: list[float] = []

    def dominates(self, cost: tuple[float, ...]) -> bool:
        second, third = (*cost, 0.0, 0.0)[1:3]
        place = bisect_right(self._seconds, second) - 1
        return place >= 0 and self._thirds[place] <= third

    def add(self, cost: tuple[float, ...]) -> None:
        second, third = (*cost, 0.0, 0.0)[1:3]
        first = last = bisect_left(self._seconds, second)
        while last < len(self._thirds) and self._thirds[last] >= third:
            last += 1
        self._seconds[first:last] = [second]
        self._thirds[first:last] = [third]


class _Scan:
    """A front of four objectives or more: asked one after the other, the newest first."""

    def __init__(self) -> None:
        self._costs: list[tuple[float, ...]] = []

    def dominates(self, cost: tuple[float, ...]) -> bool:
        return any(all(map(le, one, cost)) for one in reversed(self._costs))

    def add(self, cost: tuple[float, ...]) -> None:
        self._costs.append(cost)


def crowding(values: Sequence[Sequence[float]]) -> list[float]:
    """Return how far the neighbours of each point of one front are, summed over the objectives.

    Each objective is scaled by its range; the ends of a front are infinitely far (Deb et al., 2002).
    """
    distances = [0.0] * len(values)
    for column in zip(*values, strict=True):
        order = sorted(range(len(column)), key=column.__getitem__)
        low, high = column[order[0]], column[order[-1]]
        distances[order[0]] = distances[order[-1]] = math.inf
        # Halves, so that the range of the largest floats does not overflow.
        span = high / 2 - low / 2
        for before, place, after in zip(order, order[1:], order[2:], strict=False):
            if span:
                distances[place] += (column[after] / 2 - column[before] / 2) / span
    return distances


def best_first(values: Sequence[Sequence[float]], goals: Sequence[str]) -> list[int]:
    """Return the places of *values*, best first: by front, then the least crowded, then by place."""
    found = ranks(values, goals)
    fronts: dict[int, list[int]] = {}
    for place, rank in enumerate(found):
        fronts.setdefault(rank, []).append(place)
    return [place for _, front in sorted(fronts.items()) for place in _spread(values, front)]


def _spread(values: Sequence[Sequence[float]], front: Iterable[int]) -> list[int]:
    places = list(front)
    distances = crowding([values[place] for place in places])
    return [place for _, place in sorted(zip([-one for one in distances], places, strict=True))]
