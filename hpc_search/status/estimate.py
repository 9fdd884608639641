"""How fast a run goes and when it will be done, as ranges; pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import islice
from typing import Final, NamedTuple

from hpc_search.records import index as codec
from hpc_search.records.index import Entry
from hpc_search.status.model import Eta

#: So many of the last trials say how long one takes.
_KNOWN: Final = 1000


class Rate(NamedTuple):
    """Ends per second, from ``ends`` of them."""

    per_second: float
    ends: int


class Length(NamedTuple):
    """Slot seconds of one trial, all of its attempts: mean with its standard error, median and 90 %."""

    mean: float
    error: float
    median: float
    high: float


def recent_rate(changed: Sequence[int], now: float | None) -> Rate | None:
    """Return the rate of ends from their sorted seconds, None below two.

    Until *now* while the run is active, so that a run that hangs slows down; else until the last end.
    """
    if len(changed) < 2:
        return None
    until = changed[-1] if now is None else max(now, changed[-1])
    return Rate((len(changed) - 1) / max(until - changed[0], 1.0), len(changed) - 1)


def eta(rate: Rate, left: float) -> Eta | None:
    """Return the time for *left* trials, with two standard errors of a Poisson count on both sides."""
    if left <= 0 or rate.per_second <= 0:
        return None
    seconds = left / rate.per_second
    error = 2 / math.sqrt(rate.ends)
    return Eta(seconds / (1 + error), seconds / (1 - error) if error < 1 else None)


def length(finals: Sequence[Entry]) -> Length | None:
    """Return how long a trial takes, by the last of *finals*, the oldest first; None where none is known."""
    ended = (entry.seconds for entry in reversed(finals) if entry.state != codec.FAILED and entry.seconds > 0)
    seconds = sorted(islice(ended, _KNOWN))
    if not seconds:
        return None
    mean = statistics.fmean(seconds)
    spread = statistics.stdev(seconds, mean) if len(seconds) > 1 else mean
    at = len(seconds) - 1
    return Length(mean, spread / math.sqrt(len(seconds)), seconds[at // 2], seconds[math.ceil(at * 0.9)])


class Crew(NamedTuple):
    """Who will work: ``live`` slots, and (seconds until, slots) that wait; None: nobody knows when."""

    live: int
    joining: tuple[tuple[float | None, int], ...] = ()


def work_left(one: Length, left: int, overhead: float, begun: float) -> tuple[float, float]:
    """Return the slot seconds that *left* trials need, low and high.

    *overhead* is slot time over time in trials, at least 1; *begun* what running attempts have done.
    """
    low = left * max(0.0, one.mean - 2 * one.error) * overhead - begun
    return max(0.0, low), max(0.0, left * (one.mean + 2 * one.error) * overhead - begun)


def by_slots(work: tuple[float, float], one: Length, crew: Crew, left: int) -> Eta | None:
    """Return the time that *crew* needs for *work* slot seconds (low, high) of *left* trials.

    Low: who waits without a known start begins at once. High: never. None where nobody would begin.
    """
    early = [(start or 0.0, count) for start, count in crew.joining]
    late = [(start, count) for start, count in crew.joining if start is not None]
    low = _time(work[0], crew.live, early, left)
    if low is None:
        return None
    high = _time(work[1], crew.live, late, left)
    # The last trial takes its time however many slots are free.
    return Eta(low, None if high is None else max(high + one.high, low))


def _time(work: float, live: int, joining: Sequence[tuple[float, int]], left: int) -> float | None:
    """Return when *work* slot seconds are done by *live* slots and those that join; at most *left* work."""
    at, slots = 0.0, live
    for start, count in sorted(joining):
        gain = (start - at) * min(slots, left)
        if gain >= work and slots:
            break
        work, at, slots = work - gain, start, slots + count
    return at + work / min(slots, left) if slots and left else None


def joined(first: Eta | None, second: Eta | None) -> Eta | None:
    """Return the range that holds both."""
    if first is None or second is None:
        return first or second
    highs = [one.high for one in (first, second) if one.high is not None]
    return Eta(min(first.low, second.low), max(highs) if highs else None)
