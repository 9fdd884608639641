"""A space as models see it: each free parameter or linked group is an axis with a coordinate.

A `Category` has the number of its value as coordinate, a `Number` a float or an integer of its range. A
continuous distribution that models do not know (a normal one, a prior) is seen by its share: the coordinate
is the u in [0, 1] whose quantile is the value, so that a uniform prior over u is the user's own. The
prior of a finite range, and the weights of a choice, govern what is drawn before there is a model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hpc_search.space import (
    Choice,
    Dimension,
    Excluded,
    Int,
    LogInt,
    LogUniform,
    Normal,
    Prior,
    Quantized,
    Space,
    Uniform,
    canonical,
)

#: Just below 1: a quantile is defined on [0, 1).
_ALMOST: Final = 1.0 - 2.0**-53
#: Halvings after which the share of a value is known to a float's precision.
_HALVINGS: Final = 60

#: Coordinates by the name of the axis; what is not there is absent (an inactive parameter).
Place = dict[str, float]


@dataclass(frozen=True, slots=True)
class Category:
    """One of ``values``: of a choice, or the rows of a linked group."""

    name: str
    values: tuple[Any, ...]
    _numbers: dict[bytes, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Number the values; of equal ones the first counts."""
        numbers: dict[bytes, int] = {}
        for number, value in enumerate(self.values):
            numbers.setdefault(canonical(value), number)
        object.__setattr__(self, "_numbers", numbers)

    @property
    def middle(self) -> int:
        """The coordinate of an absent one."""
        return 0

    def read(self, value: object) -> int | None:
        """Return the coordinate of *value*; None where it has none (it was normalised)."""
        return self._numbers.get(canonical(value))

    def write(self, coordinate: float) -> Any:
        """Return the value at *coordinate*."""
        return self.values[int(coordinate)]


@dataclass(frozen=True, slots=True)
class Number:
    """A range from ``low`` to ``high``; ``step`` 0 where it is continuous.

    ``dimension`` is asked for the value where the coordinate is a share of it, or the number of a step.
    """

    name: str
    low: float
    high: float
    log: bool = False
    step: float = 0
    integer: bool = False
    dimension: Normal | Uniform | LogUniform | Quantized | None = None

    @property
    def middle(self) -> float:
        """The coordinate of an absent one."""
        return self.at(0.5)

    def read(self, value: object) -> float | None:
        """Return the coordinate of *value*; None where it has none (it was normalised)."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if self.dimension is not None and not isinstance(self.dimension, Quantized):
            return _share(self.dimension, value)
        # A stage's bounds may leave out a point that came first.
        return min(max(value, self.low), self.high)

    def write(self, coordinate: float) -> Any:
        """Return the value at *coordinate*."""
        if isinstance(self.dimension, Quantized):
            # Its values are exact in decimal; low + k x step is not.
            return self.dimension.value(round((coordinate - self.low) / self.step))
        if self.dimension is not None:
            return self.dimension.quantile(min(max(coordinate, 0.0), _ALMOST))
        return int(coordinate) if self.integer else float(coordinate)

    @property
    def _ends(self) -> tuple[float, float]:
        """The ends, half a step farther out, so that the first and the last value get a whole share."""
        half = self.step / 2
        if self.log:
            return math.log(self.low - half), math.log(self.high + half)
        return self.low - half, self.high + half

    def unit(self, coordinate: float) -> float:
        """Return where *coordinate* lies between the ends, 0 to 1, in logarithms where the range has them."""
        low, high = self._ends
        return ((math.log(coordinate) if self.log else coordinate) - low) / (high - low)

    def at(self, unit: float) -> float:
        """Return the coordinate at *unit*, the nearest one of those there are."""
        low, high = self._ends
        found = low + unit * (high - low)
        found = math.exp(found) if self.log else found
        if self.integer and self.log:
            found = round(found)
        elif self.step:
            found = self.low + math.floor((found - self.low) / self.step + 0.5) * self.step
        return min(max(found, self.low), self.high)


Axis = Category | Number


def axes_of(space: Space) -> tuple[Axis, ...]:
    """Return the axes of *space*, in the order of its free parameters."""
    return tuple(_axis(name, dimension) for name, dimension in space.free.items())


def place_of(space: Space, axes: Sequence[Axis], params: Mapping[str, Any]) -> Place:
    """Return the coordinates of the point *params* of *space*."""
    chosen = space.chosen(params)
    read = {axis.name: axis.read(chosen[axis.name]) for axis in axes if axis.name in chosen}
    return {name: coordinate for name, coordinate in read.items() if coordinate is not None}


def point_at(space: Space, axes: Sequence[Axis], place: Mapping[str, float]) -> dict[str, Any] | None:
    """Return the point of *space* at *place*, a full one; None where a constraint excludes it."""
    try:
        found = space.resolve(space.raw({axis.name: axis.write(place[axis.name]) for axis in axes}))
    except ValueError:
        # A rule has no value there, such as a division by zero: no point either.
        return None
    return None if isinstance(found, Excluded) else found


def _axis(name: str, dimension: Dimension) -> Axis:
    match dimension:
        case Choice(values=values):
            return Category(name, values)
        case Normal() | Uniform(prior=Prior()) | LogUniform(prior=Prior()):
            return Number(name, 0.0, 1.0, dimension=dimension)
        case LogUniform(low=low, high=high):
            return Number(name, low, high, log=True)
        case Uniform(low=low, high=high):
            return Number(name, low, high)
        case Quantized(low=low, high=high, step=step):
            return Number(name, low, high, step=step, dimension=dimension)
        case LogInt(low=low, high=high):
            return Number(name, low, high, log=True, step=1, integer=True)
        case Int(low=low, high=high, step=step):
            return Number(name, low, high, step=step, integer=True)


def _share(dimension: Normal | Uniform | LogUniform, value: float) -> float:
    """Return the u whose quantile is *value*."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if dimension.quantile(middle) < value:
            low = middle
        else:
            high = middle
    return min(high, _ALMOST)
