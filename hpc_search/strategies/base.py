"""What every strategy is: a name, a number of points, and the point of a number."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from hpc_search.space import Space
from hpc_search.strategies.history import History


class Strategy(Protocol):
    """A pure function from (space, number) to a point; the same arguments give the same point.

    Where ``adaptive`` is true, the point of a number also depends on the results so far: it is an
    `Adaptive` one, which proposes, and ``point`` is not asked.
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


@runtime_checkable
class Adaptive(Protocol):
    """A strategy whose points depend on the history; pure: the same arguments give the same proposal."""

    def propose(self, space: Space, history: History, index: int, goals: tuple[str, ...]) -> dict[str, Any]:
        """Return point number *index*: a full one of *space*, none of those in *history* where it is finite.

        *goals* has "max" or "min" for each of the objectives, in the order of an observation's values.

        Raises:
            UsageError: A library is missing, or every point of the space was proposed before.
        """
        ...
