"""What a worker does for the stages of a plan: it opens the next one, or stays while it comes soon."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from hpc_search.ledger import IndexDamagedError, Ledger
from hpc_search.steering import stages

#: Seconds that a task stays without work: less than another one needs to start.
PATIENCE: Final = 30.0
_LOOK: Final = 0.25


class Staging:
    """Looks after the stages of one run."""

    def __init__(self, ledger: Ledger, patience: float) -> None:
        """Wait at most *patience* seconds for a stage that others are about to end."""
        self._ledger = ledger
        self._patience = patience
        self._staged = any(block.needs is not None for block in ledger.plan.blocks)
        self._idle_since: float | None = None

    def advance(self) -> bool:
        """Open the stages whose time has come; return whether there were some."""
        if not self._staged:
            return False
        ledger = self._ledger
        ledger.flush()
        try:
            opened = stages.advance(ledger.layout, ledger.plan, ledger.gates)
        except IndexDamagedError:
            # The next claim makes it anew.
            return False
        if opened:
            ledger.note("stage", f"{opened} blocks of the plan were opened, or their searches stopped")
        return opened > 0

    def worked(self) -> None:
        """Note that there was work."""
        self._idle_since = None

    def comes(self, wait: Callable[[float], object], stopping: Callable[[], str]) -> bool:
        """Stay a while where a stage waits for trials of others; return whether to claim again."""
        if not self._staged or not any(self._waits()) or not self._ledger.left():
            return False
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        until = min(self._idle_since + self._patience, now + self._ledger.plan.search.heartbeat)
        seen = self._seen()
        while not stopping() and time.monotonic() < until and self._seen() == seen:
            wait(_LOOK)
        return not stopping() and time.monotonic() < self._idle_since + self._patience

    def _waits(self) -> list[int]:
        return list(stages.waits(self._ledger.layout, self._ledger.plan, self._ledger.gates))

    def _seen(self) -> object:
        self._ledger.gates.refresh()
        return self._ledger.counts(), self._ledger.gates.closed, self._ledger.closed
