"""From a trial's number to what it is in a run: with stages that were opened, and proposed points."""

from __future__ import annotations

from hpc_search.layout import Layout
from hpc_search.ledger.proposals import Proposals
from hpc_search.planning import Numbering
from hpc_search.records.plan import Plan, PlannedTrial


class Points:
    """The trials of a run by number; only reads."""

    def __init__(self, layout: Layout, plan: Plan) -> None:
        """Look at the run at *layout*."""
        self._layout = layout
        self._numbering = Numbering(plan)
        #: The log of proposed points, as far as it was read.
        self.proposals = Proposals(layout)

    def __call__(self, number: int) -> PlannedTrial:
        """Return trial *number*; it is not ``known`` where its point was not proposed yet.

        Raises:
            UsageError: The plan has no such trial.
            DamagedError: An entry of the log of proposed points does not verify.
        """
        return self._known(self._numbering(number))

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
        return self._known(self._numbering.point(point))

    def _known(self, trial: PlannedTrial) -> PlannedTrial:
        if trial.known:
            return trial
        if self.proposals.of(trial.point) is None:
            self.proposals.read()
        entry = self.proposals.of(trial.point)
        return trial._replace(params=entry.params, known=True) if entry is not None else trial
