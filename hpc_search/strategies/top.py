"""The best points of an earlier stage again: they are given when the stage opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpc_search.space import Space


@dataclass(frozen=True, slots=True)
class Top:
    """``points`` points that come from results, none of them from the space."""

    points: int
    name: str = "top"
    adaptive: bool = False

    def count(self, space: Space) -> int:
        """Return the number of points asked for."""
        del space
        return self.points

    def point(self, space: Space, index: int) -> dict[str, Any]:
        """Have no point of its own.

        Raises:
            IndexError: Always: the points are those that the stage was given.
        """
        del space
        raise IndexError(f"point {index} was not given: the stage that it comes from has not ended")
