"""From a trial's number to what it is in a run: with stages that were opened, and proposed points."""

from __future__ import annotations

from hpc_search.layout import Layout
from hpc_search.ledger.gates import Gates
        """Return trial *number*; it is not ``known`` where its point was not proposed yet.

        Raises:
            UsageError: The plan has no such trial.
            DamagedError: An entry of the log of proposed points does not verify.
        """
        """Return trial *number*; it is not ``known`` where its point is not yet.

        Its stage waits for an earlier one, or nobody has proposed it.

    def block(self, number: int) -> Block:
        """Return the block of trial *number*, with what was derived for it."""
        self._look(number)
        return self._numbering.block(number)

    def _look(self, number: int) -> None:
        """Take in what became of the block of trial *number* where that waited when last seen."""
        place = self._numbering.waits(number)
        if place is None:
            return
        if self._gates.opened(place) is None:
            self._gates.refresh()
        opened = self._gates.opened(place)
        if opened is not None:
            self._numbering.take(place, opened.space, opened.given)

    def of_point(self, point: int) -> list[int]:
        """Return the numbers of all trials of *point*.

        Raises:
            UsageError: The plan has no such point.
        """
        return self._numbering.of_point(point)

    def point(self, point: int) -> PlannedTrial:
        """Return the first trial of *point*.

        Raises:
            UsageError: The plan has no such point.
            DamagedError: An entry of the log of proposed points does not verify.
        """
        self._look(number)
        return self._known(self._numbering(number))
