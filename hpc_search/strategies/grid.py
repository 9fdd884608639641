"""The grid: every point of a finite space, in the order of its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpc_search.errors import UsageError
from hpc_search.space import MOST_ROWS, Space


def too_large(space: Space) -> str:
    """Return why the points of *space* cannot be listed, with the variables that are joined."""
    names = "; ".join(", ".join(group) for group in space.large)
    return f"strategy grid cannot list more than {MOST_ROWS:,} combinations of what the rules join: {names}"


@dataclass(frozen=True, slots=True)
class Grid:
    """Point number i is the space's point number i."""

    name: str = "grid"
    adaptive: bool = False

    def count(self, space: Space) -> int:
        """Return the size of *space*.

        Raises:
            UsageError: A dimension is continuous; it is named.
        """
        size = space.size()
        if size is None:
            if not space.continuous:
                raise UsageError(too_large(space), hint="use strategy: {random: {points: N, seed: 0}}")
            names = ", ".join(space.continuous)
            hint = "give a list of values for each of them, or use strategy: {random: {points: N, seed: 0}}"
            message = f"strategy grid needs finite dimensions; found a continuous range: {names}"
            raise UsageError(message, hint=hint)
        return size

    def point(self, space: Space, index: int) -> dict[str, Any]:
        """Return point number *index* of *space*.

        Raises:
            IndexError: There is no such point.
        """
        return space.point(index)

    def place(self, space: Space, params: dict[str, Any]) -> int:
        """Return the number of the point *params*.

        Raises:
            ValueError: It is no point of *space*.
        """
        return space.index(params)
