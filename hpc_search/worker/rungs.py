"""Waiting for trials of others to reach rungs, where paused ones may then go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from hpc_search.steering import Referee
from hpc_search.worker.events import Events

#: Of the longest attempt: how long a worker stays without work, and how often it looks.
_STAYS: Final = 2.0
_LOOKS: Final = 0.1
#: Seconds between two looks, at least and at most.
_BETWEEN: Final = (0.25, 10.0)


class Rungs:
    """One worker's patience where it has no work, and trials of others may soon let a paused one go on.

    If it left, what is promoted later would be left to the last ones that run, one by one. It stays for
    twice the longest attempt that it saw since it last had work: an idle slot costs no more than that.
    """

    def __init__(self, referee: Referee, events: Events, tick: Callable[[], float]) -> None:
        """Look by *referee*; meanwhile wait for *events* and do what is due in *tick*."""
        self._referee = referee
        self._events = events
        self._tick = tick
        self._since = (-1, 0.0)

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
