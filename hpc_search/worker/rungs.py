"""Claiming where trials are ended early, and waiting for those of others to reach rungs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from hpc_search.ledger import Claimed, Ledger
from hpc_search.steering.referee import Referee
from hpc_search.worker.events import Events

#: Of the longest attempt: how long a worker stays without work, and how often it looks.
_STAYS: Final = 2.0
_LOOKS: Final = 0.1
#: Seconds between two looks, at least and at most.
_BETWEEN: Final = (0.25, 10.0)


class Rungs:
    """One worker's way to its next trial: one that was promoted, else a new one, else some patience.

    If it left at once where it has no work, what is promoted later would be left to the last ones that run,
    one by one. It stays for twice its longest attempt since it last had work, while trials of others may let
    a paused one go on: an idle slot costs no more than that.
    """

    def __init__(self, referee: Referee, ledger: Ledger, events: Events, tick: Callable[[], float]) -> None:
        """Decide by *referee*; wait for *events* and do what is due in *tick* meanwhile."""
        self._referee = referee
        self._ledger = ledger
        self._events = events
        self._tick = tick
        self._since = (-1, 0.0)

    def claim(self, stopping: Callable[[], str]) -> list[Claimed]:
        """Own the next trial; those whose point was pruned are ended at once."""
        while not stopping():
            claimed = self._referee.advance() or self._ledger.claim()
            kept = self._referee.sift(claimed)
            if kept or not claimed:
                return kept
            self._events.wait(min(self._tick(), 0.0))
        return []

    def wait(self, stopping: Callable[[], str], longest: float, attempts: int) -> bool:
        """Stay while it is worth it; return whether to claim again.

        *longest* is the longest attempt of the worker's, *attempts* how many it made.
        """
        if self._since[0] != attempts:
            self._since = attempts, time.monotonic()
        until = self._since[1] + _STAYS * longest
        pause = min(max(_BETWEEN[0], _LOOKS * longest), _BETWEEN[1])
        while not stopping() and time.monotonic() < until and self._referee.filling():
            look = time.monotonic() + pause
            while not stopping() and (left := look - time.monotonic()) > 0:
                self._events.wait(min(left, self._tick()))
            if self._referee.due():
                return not stopping()
        return False
