"""A worker's look at what is left of the search's budget."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.records.plan import Plan

if TYPE_CHECKING:
    from hpc_search.status.budget import Meter

#: Seconds between two looks: at least, and at most, since other workers may start at any time.
_LOOKS: Final = (0.2, 30.0)
#: Share of the time that is left after which to look again.
_SHARE: Final = 0.5


class Allowance:
    """What one worker may still begin."""

    def __init__(self, layout: Layout, plan: Plan) -> None:
        """Follow the budget of *plan* in the run at *layout*."""
        self._layout = layout
        self._limited = bool(plan.search.budget.hours or plan.search.budget.gpu_hours)
        self._plan = plan
        self._meter = self._new_meter() if self._limited else None
        self._next = 0.0
        self._begun = False

    def _new_meter(self) -> Meter:
        # Reading what others used needs what `status` does; most runs have no such budget.
        from hpc_search.status.budget import Meter

        return Meter(self._layout, self._plan)

    def begin(self) -> None:
        """Write down that trials start; the file server's time of the first one's note is the beginning."""
        if not self._begun and not self._layout.began.exists():
            durable.publish(self._layout.began, b"the first trial started\n")
        self._begun = True

    def over(self, amended: Callable[[], bool] = lambda: False) -> bool:
        """Return whether nothing more may begin; the others' journals are read now and then.

        The first worker that finds it says it to all by ledger/stop; what runs goes on to its end. Where
        the plan was *amended*, the budget of another one holds, and nothing is said.
        """
        if self._meter is None or time.monotonic() < self._next:
            return False
        seen = self._meter.look()
        self._next = time.monotonic() + min(max(_LOOKS[0], seen.seconds * _SHARE), _LOOKS[1])
        if seen.over and not amended():
            durable.publish(self._layout.stop, f"{seen.over}\n".encode())
        return bool(seen.over)
