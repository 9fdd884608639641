"""Which points are best where there are several goals: fronts and crowding distances (Deb et al., 2002)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpc_search.strategies.adaptive.worth import Loss


def best(losses: Sequence[Loss], count: int) -> list[int]:
    """Return the numbers of the best *count* of *losses*, best first.

    Front by front; within one the more isolated first; equal ones in the order of their numbers.
    """
    if losses and len(losses[0]) == 1:
        return sorted(range(len(losses)), key=lambda number: (losses[number], number))[:count]
    chosen: list[int] = []
    left = list(range(len(losses)))
    while left and len(chosen) < count:
        front = _front(losses, left)
        distances = _crowding(losses, front)
        chosen += sorted(front, key=lambda number: (-distances[number], number))
        inside = set(front)
        left = [number for number in left if number not in inside]
    return chosen[:count]


def _front(losses: Sequence[Loss], numbers: Sequence[int]) -> list[int]:
    """Return those of *numbers* that none of them dominates."""
    table = np.array([losses[number] for number in numbers])
    no_worse = (table[:, None, :] <= table[None, :, :]).all(axis=2)
    better = (table[:, None, :] < table[None, :, :]).any(axis=2)
    dominated = (no_worse & better).any(axis=0)
    return [number for number, below in zip(numbers, dominated, strict=True) if not below]


def _crowding(losses: Sequence[Loss], front: Sequence[int]) -> dict[int, float]:
    distances = dict.fromkeys(front, 0.0)
    for goal in range(len(losses[front[0]])):
        order = sorted(front, key=lambda number: (losses[number][goal], number))
        values = [losses[number][goal] for number in order]
        width = values[-1] - values[0]
        distances[order[0]] = distances[order[-1]] = math.inf
        if width > 0:
            for place in range(1, len(order) - 1):
                distances[order[place]] += (values[place + 1] - values[place - 1]) / width
    return distances
