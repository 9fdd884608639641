"""How many trials a worker claims ahead, when one of them hangs, and whether there is time for another."""

from __future__ import annotations

import math
import os
import statistics
import time
from contextlib import suppress
from typing import Final

from hpc_search.layout import Layout
from hpc_search.ledger import Claimed, Ledger
from hpc_search.records.plan import Plan
from hpc_search.worker import estimate
from hpc_search.worker.walltime import Walltime

#: Trials are claimed one at a time until this many durations are known.
_KNOWN_ENDS: Final = 3
#: Seconds of work that a worker claims ahead.
_AHEAD: Final = 10.0
#: Trials that it claims ahead at most: each heartbeat looks at every one.
_MOST_AHEAD: Final = 256
#: Durations that count.
_RECENT: Final = 51
#: Seconds between two looks at how many workers there are.
_CENSUS: Final = 10.0
#: Seconds between two readings of the others' journals, and of the own one.
_LEARN: Final = (300.0, 1.0)
#: Silence after which a trial is hung: this, or this many medians.
_STALL: Final = (1800.0, 5.0)


class Pace:
    """What one worker knows about times."""

    def __init__(self, layout: Layout, plan: Plan, ledger: Ledger, walltime: Walltime) -> None:
        """Know nothing yet."""
        self._layout = layout
        self._plan = plan
        self._ledger = ledger
        self._walltime = walltime
        self._durations: list[float] = []
        self._census = (-_CENSUS, 1)
        self._others: tuple[float, list[estimate.Sample]] = (-math.inf, [])
        self._began_with_job = estimate.full(walltime.left(), walltime.usable)
        self._own: tuple[float, list[estimate.Sample]] = (-math.inf, [])

    @property
    def whole(self) -> bool:
        """Whether the next attempt has the whole walltime: it is the first, and the job began with us."""
        return self._began_with_job and not self._durations

    def ended(self, seconds: float) -> None:
        """Take the length of an attempt."""
        self._durations.append(seconds)

    def longest(self) -> float:
        """Return the seconds of the longest attempt of late, 0 before the first."""
        return max(self._durations[-_RECENT:], default=0.0)

    def ahead(self) -> int:
        """Return how many trials to claim: 10 s of work, never more than half of a fair share."""
        if len(self._durations) < _KNOWN_ENDS:
            return 1
        now = time.monotonic()
        if now - self._census[0] > _CENSUS:
            with suppress(OSError):
                self._census = (now, max(1, len(os.listdir(self._layout.workers))))
        pending = self._ledger.pending_estimate()
        median = max(statistics.median(self._durations[-_RECENT:]), 1e-4)
        return int(max(1, min(_AHEAD / median, pending / (2 * self._census[1]), _MOST_AHEAD)))

    def stall(self) -> float:
        """Return the seconds without a sign of life after which a trial is hung."""
        asked = self._plan.search.stall
        median = statistics.median(self._durations) if self._durations else 0.0
        return asked or max(_STALL[0], _STALL[1] * median)

    def time_for(self, claimed: Claimed) -> bool:
        """Return whether the trial can reach its next checkpoint, or its end, before the job's."""
        limit, left = self._walltime.usable, self._walltime.left()
        if limit is None:
            return True
        first, trial = not self._durations, claimed.trial.number
        known = self._known()
        if claimed.before.attempt and limit > left:
            known = [*known, *estimate.Journals(self._layout, self._ledger.id).samples_of(trial)]
        return estimate.may_start(estimate.needed(known, trial), left, limit, first=first)

    def _known(self) -> list[estimate.Sample]:
        now, journals = time.monotonic(), estimate.Journals(self._layout, self._ledger.id)
        if now - self._others[0] > _LEARN[0]:
            self._others = now, journals.samples_of_others()
        if now - self._own[0] > _LEARN[1]:
            self._own = now, journals.own_samples()
        return [*self._others[1], *self._own[1]]
