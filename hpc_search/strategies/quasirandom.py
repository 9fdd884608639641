"""Sobol and Halton points: more evenly spread than random ones, each computed from its number and the seed.

Every dimension with several values and every linked group is one axis. Where the space is endless and has
no rules, point i is element i of the sequence. Else elements that rules exclude, or whose point was there
before, are passed over; after 16 of them in a row, when most points of a finite space are used up, the next
unused point of a keyed permutation of all points is taken. The first k points do not depend on how many
are asked for.
"""

from __future__ import annotations

import hashlib
import itertools
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hpc_search.errors import UsageError
from hpc_search.space import Space
from hpc_search.strategies import halton, sobol
from hpc_search.strategies.permutation import Permutation
from hpc_search.strategies.random import asked, different


@dataclass(frozen=True, slots=True)
class Quasirandom:
    """``points`` different points of the space along the sequence ``name``, scrambled by ``seed``."""

    name: str
    points: int
    seed: int = 0
    adaptive: bool = False
    #: The draws of the last space that needs them: a cache, no part of the value.
    _drawn: list[tuple[Space, tuple[int, ...]]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def count(self, space: Space) -> int:
        """Return the number of points asked for.

        Raises:
            UsageError: *space* has fewer points, or more axes than the sequence.
        """
        if self.name == "sobol" and len(space.free) > sobol.MOST:
            message = f"strategy sobol has {sobol.MOST} dimensions; the space has {len(space.free):,}"
            raise UsageError(message, hint="use strategy halton or random")
        return asked(self.name, self.points, space)

    def point(self, space: Space, index: int) -> dict[str, Any]:
        """Return point number *index*.

        Raises:
            IndexError: There is no such point.
            UsageError: *space* has fewer points than are asked for.
        """
        if not 0 <= index < self.count(space):
            raise IndexError(f"point {index} is outside 0..{self.points - 1}")
        if space.size() is None and space.ruled is None:
            return self._draw(space, index) or {}
        draws = self._sequence(space)
        if index >= len(draws):
            message = f"strategy {self.name} found only {len(draws):,} different points that the rules allow"
            raise UsageError(message, hint="ask for fewer points, or loosen the constraints")
        return self._draw(space, draws[index]) or {}

    def _draw(self, space: Space, draw: int) -> dict[str, Any] | None:
        """Return element number *draw*; of negative ones, places in a permutation of all points.

        None where rules exclude it, or have no value for it.
        """
        if draw < 0:
            return space.point(Permutation(space.size() or 1, self._key(-1, 32))(~draw))
        with suppress(ValueError):
            found = space.settled(space.at(self._coordinates(draw, len(space.free))))
            return found if isinstance(found, dict) else None
        return None

    def _coordinates(self, draw: int, axes: int) -> list[float]:
        if self.name == "sobol":
            return sobol.coordinates(
                draw, [int.from_bytes(self._key(axis, 4), "big") for axis in range(axes)]
            )
        return halton.coordinates(draw, [self._key(axis, 16) for axis in range(axes)])

    def _key(self, axis: int, size: int) -> bytes:
        return hashlib.blake2b(b"%d:%d" % (self.seed, axis), digest_size=size).digest()

    def _sequence(self, space: Space) -> tuple[int, ...]:
        for known, draws in self._drawn:
            if known is space or known == space:
                return draws
        draws = tuple(itertools.islice(different(space, partial(self._draw, space)), self.points))
        self._drawn[:] = [(space, draws)]
        return draws
