"""From a trial's number to what it is in a run: with stages that were opened, and proposed points."""

from __future__ import annotations

from hpc_search.layout import Layout
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.proposals import Proposals
from hpc_search.planning import Numbering
from hpc_search.records.plan import Block, Plan, PlannedTrial


class Points:
    """The trials of a run by number; only reads."""

    def __init__(self, layout: Layout, plan: Plan) -> None:
        """Look at the run at *layout*."""
        self._gates = Gates(layout, plan)
        self._numbering = Numbering(plan)
        #: The log of proposed points, as far as it was read.
        self.proposals = Proposals(layout)

    def __call__(self, number: int) -> PlannedTrial:
        """Return trial *number*; it is not ``known`` where its point is not yet.

        Then its stage waits for an earlier one, or nobody has proposed it.

        Raises:
            UsageError: The plan has no such trial.
            DamagedError: An entry of the log of proposed points does not verify.
        """
        self._look(number)
        trial = self._numbering(number)
        if trial.known or self._numbering.waits(number) is not None:
            return trial
        if self.proposals.of(trial.point) is None:
            self.proposals.read()
        entry = self.proposals.of(trial.point)
        return trial._replace(params=entry.params, known=True) if entry is not None else trial

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
        return self(self._numbering.point(point).number)
