"""How fast a run goes and when it will be done, as ranges; pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from hpc_search.records import index as codec
from hpc_search.records.index import Entry
from hpc_search.status.model import Eta

#: The rate is that of the last so many ends; so many done trials say how long one takes.
_RECENT = 100
_KNOWN = 1000


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
    """Return the rate of the last ends from their sorted seconds, None below two.

    Until *now* while the run is active, so that a run that hangs slows down; else until the last end.
    """
    if len(changed) < 2:
        return None
    recent = changed[-_RECENT:]
    until = recent[-1] if now is None else max(now, recent[-1])
    return Rate((len(recent) - 1) / max(until - recent[0], 1.0), len(recent) - 1)


def eta(rate: Rate, left: int) -> Eta | None:
    """Return the time for *left* trials, with two standard errors of a Poisson count on both sides."""
    if left <= 0 or rate.per_second <= 0:
        return None
    seconds = left / rate.per_second
    error = 2 / math.sqrt(rate.ends)
    return Eta(seconds / (1 + error), seconds / (1 - error) if error < 1 else None)


def length(finals: Sequence[Entry]) -> Length | None:
    """Return how long a trial takes, by the newest of those that ended; None where none did."""
    ended = [entry for entry in finals if entry.state in (codec.DONE, codec.PRUNED) and entry.seconds > 0]
    if len(ended) > _KNOWN:
        ended = sorted(ended, key=lambda entry: entry.changed)[-_KNOWN:]
    seconds = sorted(entry.seconds for entry in ended)
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
