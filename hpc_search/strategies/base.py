"""What every strategy is: a name, a number of points, and the point of a number."""

from __future__ import annotations

from typing import Any, Protocol

from hpc_search.space import Space


class Strategy(Protocol):
    """A pure function from (space, number) to a point; the same arguments give the same point.

    Where ``adaptive`` is true, the point of a number also depends on the results so far: such a
    strategy proposes instead, from the history that it is given, and ``point`` is not asked.
    """

    @property
    def name(self) -> str:
        """The name under which a search file asks for the strategy."""
        ...

    @property
    def adaptive(self) -> bool:
        """Whether points depend on results; then they are proposed when a trial is claimed."""
        ...

    def count(self, space: Space) -> int:
        """Return the exact number of points.

        Raises:
            UsageError: The strategy cannot search *space*.
        """
        ...

    def point(self, space: Space, index: int) -> dict[str, Any]:
        """Return point number *index*, 0 <= index < count.

        Raises:
            IndexError: There is no such point.
        """
        ...
