"""Sobol and Halton points: more evenly spread than random ones, each computed from its number and the seed.

Every dimension and every linked group is one axis. Where the space has a continuous dimension, point i
is element i of the sequence. Else elements that give a point that was there before are passed over;
after 16 of them in a row, when most points are used up, the next unused point of a keyed permutation
of all points is taken. The first k points do not depend on how many are asked for.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from hpc_search.errors import UsageError
from hpc_search.space import Choice, Int, Space
from hpc_search.strategies import halton, sobol
from hpc_search.strategies.permutation import Permutation

#: Part of the format: a change gives other points for the same number.
_REPEATS: Final = 16


@dataclass(frozen=True, slots=True)
class Quasirandom:
    """``points`` different points of the space along the sequence ``name``, scrambled by ``seed``."""

    name: str
    points: int
    seed: int = 0
    adaptive: bool = False
    #: The points of the last finite space by number: a cache, no part of the value.
    _drawn: list[tuple[Space, tuple[int, ...]]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def count(self, space: Space) -> int:
        """Return the number of points asked for.

        Raises:
            UsageError: *space* has fewer points, or more axes than the sequence.
        """
        if self.name == "sobol" and _axes(space) > sobol.MOST:
            message = f"strategy sobol has {sobol.MOST} dimensions; the space has {_axes(space):,}"
            raise UsageError(message, hint="use strategy halton or random")
        size = space.size()
        if size is not None and self.points > size:
            message = (
                f"strategy {self.name} asks for {self.points:,} points; the space has {size:,} different ones"
            )
            raise UsageError(message, hint=f"ask for at most {size} points, or use strategy: grid for all")
        return self.points

    def point(self, space: Space, index: int) -> dict[str, Any]:
        """Return point number *index*.

        Raises:
            IndexError: There is no such point.
            UsageError: *space* has fewer points than are asked for.
        """
        if not 0 <= index < self.count(space):
            raise IndexError(f"point {index} is outside 0..{self.points - 1}")
        if space.size() is None:
            return _at(space, self._coordinates(space, index))
        return space.point(self._sequence(space)[index])

    def place(self, space: Space, params: dict[str, Any]) -> int | None:
        """Return the number of the point *params*; None where it is none of those asked for."""
        if space.size() is None:
            return None
        number = space.index(params)
        sequence = self._sequence(space)
        return sequence.index(number) if number in sequence else None

    def _coordinates(self, space: Space, index: int) -> list[float]:
        if self.name == "sobol":
            keys = [int.from_bytes(self._key(axis, 4), "big") for axis in range(_axes(space))]
            return sobol.coordinates(index, keys)
        return halton.coordinates(index, [self._key(axis, 16) for axis in range(_axes(space))])

    def _key(self, axis: int, size: int) -> bytes:
        return hashlib.blake2b(b"%d:%d" % (self.seed, axis), digest_size=size).digest()

    def _sequence(self, space: Space) -> tuple[int, ...]:
        for known, numbers in self._drawn:
            if known is space or known == space:
                return numbers
        numbers = tuple(itertools.islice(self._distinct(space), self.points))
        self._drawn[:] = [(space, numbers)]
        return numbers

    def _distinct(self, space: Space) -> Iterator[int]:
        """Yield the number of every point of a finite *space* once."""
        size = space.size() or 1
        elements = (space.index(_at(space, self._coordinates(space, index))) for index in itertools.count())
        leftovers = map(Permutation(size, self._key(-1, 32)), range(size))
        seen: set[int] = set()
        while len(seen) < size:
            tries = itertools.chain(itertools.islice(elements, _REPEATS), leftovers)
            number = next(number for number in tries if number not in seen)
            seen.add(number)
            yield number


def _axes(space: Space) -> int:
    return len(space.dimensions) + len(space.linked)


def _at(space: Space, coordinates: list[float]) -> dict[str, Any]:
    """Return the point at *coordinates* of [0, 1), one for each dimension, then one for each linked group."""
    params: dict[str, Any] = {}
    for (name, dimension), u in zip(space.dimensions.items(), coordinates, strict=False):
        params[name] = (
            dimension.value(int(u * dimension.count()))
            if isinstance(dimension, Choice | Int)
            else dimension.quantile(u)
        )
    for group, u in zip(space.linked, coordinates[len(space.dimensions) :], strict=True):
        rows = len(next(iter(group.values())))
        params.update({name: values[int(u * rows)] for name, values in group.items()})
    return params | space.fixed
