"""Evolution: children of the best points so far, by crossover and mutation; with several goals NSGA-II.

Steady state: the parents of a child are the best ``population`` of all points that ended (for several
objectives by front, then by crowding distance, as in NSGA-II), so that no generation has to be waited for,
and a child is a function of the history alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from hpc_search.strategies.adaptive.axes import Axis, Category, Place
from hpc_search.strategies.adaptive.worth import Loss
from hpc_search.strategies.pareto import best_first

#: Of the children, how many have two parents; the others are mutants of one.
_CROSSED: Final = 0.9
#: How far beyond its parents a number may lie, in their distance: BLX-alpha.
_BEYOND: Final = 0.25
#: Standard deviation of a mutation, as a share of the range.
_MUTATION: Final = 0.1

Evaluated = tuple[Place, Loss]


def child(axes: Sequence[Axis], ended: Sequence[Evaluated], population: int, seed: int) -> Place:
    """Return a child of the best of the points *ended*, of which there is at least one."""
    rng = random.Random(seed)
    order = best_first([loss for _, loss in ended], ["min"] * len(ended[0][1]))
    parents = [ended[number][0] for number in order[:population]]
    first = parents[_tournament(len(parents), rng)]
    second = parents[_tournament(len(parents), rng)] if rng.random() < _CROSSED else first
    rate = 1 / len(axes)
    return {axis.name: _gene(axis, first, second, rate, rng) for axis in axes}


def _tournament(count: int, rng: random.Random) -> int:
    """Return the better of two of the first *count* numbers, of which 0 is best."""
    return min(rng.randrange(count), rng.randrange(count))


def _gene(axis: Axis, first: Place, second: Place, rate: float, rng: random.Random) -> float:
    # The same draws are made whatever the parents have, so that a difference stays where it is.
    pick, blend, mutates, jump = rng.random(), rng.random(), rng.random() < rate, rng.gauss(0.0, 1.0)
    one, other = (first, second) if pick < 0.5 else (second, first)
    here = one.get(axis.name, other.get(axis.name))
    if isinstance(axis, Category):
        count = len(axis.values)
        fresh = min(int(blend * count), count - 1)
        return fresh if here is None or mutates else here
    if here is None:
        return axis.at(blend)
    unit = axis.unit(here)
    there = axis.unit(other.get(axis.name, here))
    if there != unit:
        low, high = min(unit, there), max(unit, there)
        unit = low + ((1 + 2 * _BEYOND) * blend - _BEYOND) * (high - low)
    return axis.at(_inside(unit + jump * _MUTATION if mutates else unit))


def _inside(unit: float) -> float:
    """Return *unit* reflected into [0, 1]: an end would collect what is cut off."""
    unit %= 2.0
    return 2.0 - unit if unit > 1.0 else unit
