"""A worker's look at what is left of the search's budget."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import USED_UP, used_up
from hpc_search.planning import amended
from hpc_search.records.plan import Plan

if TYPE_CHECKING:
    from hpc_search.status.budget import Meter

#: Seconds between two looks: at least, and at most, since other workers may start at any time.
_LOOKS: Final = (0.2, 30.0)
#: Share of the time that is left after which to look again.
_SHARE: Final = 0.5


#: Why a worker leaves that finds nothing more in its plan, where there is a newer one.
AMENDED: Final = "the plan was amended"


class Allowance:
    """What one worker may still begin, and why it ends where that is nothing.

    Attributes:
        amended: Whether it ends because the run has a newer plan.
    """

    def __init__(self, layout: Layout, plan: Plan, *, one: bool = False, few: bool = False) -> None:
        """Follow the budget of *plan* in the run at *layout*.

        A worker for *one* trial alone looks for nothing; one for a *few* goes on by no newer plan.
        """
        self._layout = layout
        self._plan = plan
        self._goes_on = not (one or few)
        limited = bool(plan.search.budget.hours or plan.search.budget.gpu_hours)
        self._meter = self._new_meter() if limited and not one else None
        self._next = 0.0
        self._begun = False
        self.amended = False

    def _new_meter(self) -> Meter:
        # Reading what others used needs what `status` does; most runs have no such budget.
        from hpc_search.status.budget import Meter

        return Meter(self._layout, self._plan)

    def begin(self) -> None:
        """Write down that trials start; the file server's time of the first one's note is the beginning."""
        if not self._begun and not self._layout.began.exists():
            durable.publish(self._layout.began, b"the first trial started\n")
        self._begun = True

    def over(self) -> bool:
        """Return whether nothing more may begin; the others' journals are read now and then.

        The first worker that finds it says it to all by ledger/stop; what runs goes on to its end. Where
        the plan was amended the budget of another one holds, and nothing is said.
        """
        if self._meter is None or time.monotonic() < self._next:
            return False
        seen = self._meter.look()
        self._next = time.monotonic() + min(max(_LOOKS[0], seen.seconds * _SHARE), _LOOKS[1])
        if seen.over and not amended(self._layout, self._plan):
            durable.publish(self._layout.stop, f"{seen.over}\n".encode())
        return bool(seen.over)

    def reason(self, *, closed: bool) -> str:
        """Return why the worker ends that claims nothing more; *closed*: whether nobody shall."""
        if self._goes_on and amended(self._layout, self._plan):
            self.amended = True
            return AMENDED
        if used_up(self._layout):
            return USED_UP
        return "stopped" if closed else "no work left"
