"""Points that are given come first; those of a strategy follow, and none of them twice.

They count: a budget of 100 with 3 given points has 97 of the strategy. Where the strategy's own points
come one by one, those that are given are left out (a finite space, or one with rules); where a dimension
is continuous, the one point in 2^53 that equals a given one is replaced by a random one.
Either way point number i does not depend on how many are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from hpc_search.errors import UsageError
from hpc_search.space import Space, point_hash
from hpc_search.strategies.base import Strategy
from hpc_search.strategies.random import Random


@runtime_checkable
class Numbered(Protocol):
    """A strategy that knows the number of a point."""

    def place(self, space: Space, params: dict[str, Any]) -> int:
        """Return the number of the point *params* of a finite *space*.

        Raises:
            LookupError: Only going through the points tells.
        """
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """``points``, then those of ``own``; without one, only the given ones."""

    points: tuple[Mapping[str, Any], ...]
    own: Strategy | None = None
    _hashes: frozenset[str] = field(init=False, repr=False, compare=False)
    #: Numbers that the given points have in ``own``, of the last space: a cache, no part of the value.
    _taken: list[tuple[Space, list[int]]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Name the given points once."""
        object.__setattr__(self, "_hashes", frozenset(map(point_hash, self.points)))

    @property
    def name(self) -> str:
        """The name of the strategy."""
        return self.own.name if self.own is not None else "points"

    @property
    def adaptive(self) -> bool:
        """Whether the points after the given ones depend on results."""
        return self.own is not None and self.own.adaptive

    def count(self, space: Space) -> int:
        """Return the number of points, the given ones counted.

        Raises:
            UsageError: There are more given ones than points, or the strategy cannot search *space*.
        """
        if self.own is None:
            return len(self.points)
        count = self.own.count(space)
        if len(self.points) > count:
            message = f"{len(self.points):,} points are given; strategy {self.name} has {count:,} in all"
            raise UsageError(message, hint="raise its number of points, or use strategy: points")
        return count

    def point(self, space: Space, index: int) -> dict[str, Any]:
        """Return point number *index*.

        Raises:
            IndexError: There is no such point.
            LookupError: It is not known yet.
        """
        if 0 <= index < len(self.points):
            return dict(self.points[index])
        if not 0 <= index < self.count(space):
            raise IndexError(f"point {index} is outside 0..{self.count(space) - 1}")
        if self.own is None or self.own.adaptive:
            raise LookupError(f"point {index} of strategy {self.name} is not known yet")
        place = index - len(self.points)
        for taken in self._places(space, self.own):
            place += taken <= place
        return self._new(space, self.own.point(space, place))

    def _places(self, space: Space, own: Strategy) -> list[int]:
        """Return the numbers that the given points have in *own*, ascending."""
        for known, places in self._taken:
            if known is space or known == space:
                return places
        places = [] if _endless(space) else sorted(self._looked_up(space, own))
        self._taken[:] = [(space, places)]
        return places

    def _looked_up(self, space: Space, own: Strategy) -> set[int]:
        if space.size() is not None and isinstance(own, Numbered):
            with suppress(LookupError):
                return {own.place(space, dict(point)) for point in self.points}
        numbers = range(own.count(space))
        return {place for place in numbers if point_hash(own.point(space, place)) in self._hashes}

    def _new(self, space: Space, params: dict[str, Any]) -> dict[str, Any]:
        """Return *params*, or another point of an endless space where they are given."""
        while _endless(space) and (found := point_hash(params)) in self._hashes:
            digest = hashlib.blake2b(f"{self.name}:{found}".encode(), digest_size=8).digest()
            params = Random(1, int.from_bytes(digest, "big")).point(space, 0)
        return params


def _endless(space: Space) -> bool:
    """Return whether a strategy computes each point of *space* by itself, never twice the same."""
    return space.size() is None and space.ruled is None
