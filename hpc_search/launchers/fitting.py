"""How many tasks fit under the limits of a site now, and into which arrays they are cut. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from hpc_search.site.limits import Bound, Place

#: Tasks, where nothing bounds them.
NO_LIMIT: Final = 10_000_000


class Room(NamedTuple):
    """How many more tasks may be sent now, of one array, and by which ``rule`` not more ("" where none).

    ``most`` is what that rule allows in all, 0 where there is none.
    """

    tasks: int = NO_LIMIT
    array: int = NO_LIMIT
    rule: str = ""
    most: int = 0


def room(bounds: Iterable[Bound], there: Sequence[Place], array: int) -> Room:
    """Return the room that the tightest of *bounds* leaves beside the tasks *there*.

    Bounds on what runs at once make tasks wait, and refuse none.
    """
    found = Room(NO_LIMIT, array)
    for bound in bounds:
        left = bound.most - sum(map(bound.counts, there))
        if not bound.running and left < found.tasks:
            found = Room(max(0, left), array, bound.rule, bound.most)
    return found


def sizes(tasks: int, array: int) -> Iterator[int]:
    """Yield the sizes of the arrays for *tasks*, each of at most *array*."""
    while tasks > 0:
        yield min(tasks, array)
        tasks -= array


class Filling:
    """Which sizes to try where a limit is met that could not be read: halved at each refusal, down to 1."""

    def __init__(self, tasks: int, array: int) -> None:
        """Want *tasks* in all, in arrays of at most *array*."""
        self.left = tasks
        self._most = array

    @property
    def size(self) -> int:
        """The next array's tasks; 0 where nothing is left, or no more fits."""
        return min(self.left, self._most)

    def taken(self) -> None:
        """The array of `size` was accepted."""
        self.left -= self.size

    def refused(self) -> None:
        """It was not."""
        self._most = self.size // 2
