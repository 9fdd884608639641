"""What an amended grid adds: the points of a finite space that earlier ones do not have."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

from hpc_search.space import Space


@dataclass(frozen=True, slots=True)
class Rest:
    """The points of a space that none of the spaces ``without`` has, in the order of their numbers."""

    without: tuple[Space, ...]
    name: str = "grid"
    adaptive: bool = False
    #: Numbers of the points left, of the last space: a cache, no part of the value.
    _left: list[tuple[Space, array[int]]] = field(default_factory=list, init=False, repr=False, compare=False)

    def count(self, space: Space) -> int:
        """Return how many points there are."""
        return len(self._numbers(space))

    def point(self, space: Space, index: int) -> dict[str, Any]:
        """Return point number *index*.

        Raises:
            IndexError: There is no such point.
        """
        return space.point(self._numbers(space)[index])

    def _numbers(self, space: Space) -> array[int]:
        for known, numbers in self._left:
            if known is space or known == space:
                return numbers
        points = ((number, space.point(number)) for number in range(space.size() or 0))
        numbers = array(
            "q", (number for number, point in points if not any(has(one, point) for one in self.without))
        )
        self._left[:] = [(space, numbers)]
        return numbers


def has(space: Space, params: dict[str, Any]) -> bool:
    """Return whether the finite *space* has the point *params*."""
    try:
        space.index(params)
    except ValueError:
        return False
    return True
