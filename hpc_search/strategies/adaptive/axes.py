"""A space as models see it: each free parameter or linked group is an axis with a coordinate.

A `Category` has its row number as coordinate, a `Number` a float or an integer of its range. A
distribution that models do not know (a normal one, a prior) is seen by its share: the coordinate is
the u in [0, 1] whose quantile is the value, so that a uniform prior over u is the user's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hpc_search.space import Choice, Dimension, Int, LogInt, LogUniform, Space, Uniform, canonical

#: Just below 1: a quantile is defined on [0, 1).
_ALMOST: Final = 1.0 - 2.0**-53
#: Halvings after which the share of a value is known to a float's precision.
_HALVINGS: Final = 60

Params = Mapping[str, Any]
#: Coordinates by the name of the axis; what is not there is absent (an inactive parameter).
Place = dict[str, float]


@dataclass(frozen=True, slots=True)
class Category:
    """One of ``rows``, each of which gives its parameters a value: a choice or a linked group."""

    name: str
    rows: tuple[dict[str, Any], ...]
    _numbers: dict[bytes, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Number the rows; of equal ones the first counts."""
        numbers: dict[bytes, int] = {}
        for number, row in enumerate(self.rows):
            numbers.setdefault(canonical(row), number)
        object.__setattr__(self, "_numbers", numbers)

    @property
    def single(self) -> bool:
        """Whether there is nothing to choose."""
        return len(self.rows) == 1

    @property
    def middle(self) -> int:
        """The coordinate of an absent one."""
        return 0

    def read(self, params: Params) -> int | None:
        """Return the coordinate of *params*, None where they do not have it."""
        names = self.rows[0]
        if any(name not in params for name in names):
            return None
        return self._numbers.get(canonical({name: params[name] for name in names}))

    def write(self, coordinate: float) -> dict[str, Any]:
        """Return the parameters at *coordinate*."""
        return self.rows[int(coordinate)]


@dataclass(frozen=True, slots=True)
class Number:
    """A range from ``low`` to ``high``; ``step`` 0 where it is continuous.

    ``dimension`` is asked for the value where the coordinate is a share of it.
    """

    name: str
    low: float
    high: float
    log: bool = False
    step: float = 0
    integer: bool = False
    dimension: Any = None

    @property
    def single(self) -> bool:
        """Whether there is nothing to choose."""
        return self.low == self.high

    @property
    def middle(self) -> float:
        """The coordinate of an absent one."""
        return self.at(0.5)

    def read(self, params: Params) -> float | None:
        """Return the coordinate of *params*, None where they do not have it."""
        if self.name not in params:
            return None
        value = params[self.name]
        if self.dimension is not None:
            return _share(self.dimension, value)
        return value if isinstance(value, int | float) else None

    def write(self, coordinate: float) -> dict[str, Any]:
        """Return the parameters at *coordinate*."""
        if self.dimension is not None:
            return {self.name: self.dimension.quantile(min(max(coordinate, 0.0), _ALMOST))}
        if self.integer:
            return {self.name: int(coordinate)}
        return {self.name: float(coordinate)}

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
    """Return the axes of *space*, in its own order."""
    found = [_axis(name, dimension) for name, dimension in space.dimensions.items()]
    for group in space.linked:
        rows = zip(*group.values(), strict=True)
        found.append(Category("+".join(group), tuple(dict(zip(group, row, strict=True)) for row in rows)))
    return tuple(found)


def place_of(axes: tuple[Axis, ...], params: Params) -> Place:
    """Return the coordinates of *params*."""
    read = {axis.name: axis.read(params) for axis in axes}
    return {name: coordinate for name, coordinate in read.items() if coordinate is not None}


def params_at(axes: tuple[Axis, ...], place: Mapping[str, float]) -> dict[str, Any]:
    """Return the parameters at *place*."""
    found: dict[str, Any] = {}
    for axis in axes:
        if axis.name in place:
            found.update(axis.write(place[axis.name]))
    return found


def _axis(name: str, dimension: Dimension) -> Axis:
    match dimension:
        case Choice(values=values):
            return Category(name, tuple({name: value} for value in values))
        case LogUniform(low=low, high=high):
            return Number(name, low, high, log=True)
        case Uniform(low=low, high=high):
            return Number(name, low, high)
        case LogInt(low=low, high=high):
            return Number(name, low, high, log=True, step=1, integer=True)
        case Int(low=low, high=high):
            return Number(name, low, high, step=1, integer=True)


def _share(dimension: Any, value: float) -> float:
    """Return the u whose quantile is *value*."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if dimension.quantile(middle) < value:
            low = middle
        else:
            high = middle
    return high
