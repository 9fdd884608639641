"""Follows doctor's array by the records of its tasks, and reads the times out of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from hpc_search.doctor.cluster.found import Event, Look, Outcome, Timing

#: Seconds until the first task has to run, and until all has happened after that, KillWait not counted:
#: the limit of a minute, which SLURM looks at every 30 s, and the rest.
START_S: Final = 60.0
_LIMIT_S: Final = 95.0
_REST_S: Final = 30.0
#: Seconds between looks at the records, between questions to SLURM, and without a sign of life until a
#: task counts as killed.
_POLL_S: Final = 0.1
_ASK_S: Final = 6.0
_QUIET_S: Final = 2.5


class Queue(NamedTuple):
    """What SLURM says of the array: how many tasks it knows that are not over, and why some wait."""

    live: int
    reason: str = ""


class Calls(NamedTuple):
    """What is asked of SLURM meanwhile: the queue (None: no answer), and to cancel one task."""

    queue: Callable[[], Queue | None]
    cancel: Callable[[], None]


@dataclass(slots=True)
class Records:
    """The events of each record, by its name, and when each was first seen here (monotonic)."""

    directory: Path
    events: dict[str, list[Event]] = field(default_factory=dict)
    seen: dict[tuple[str, str], float] = field(default_factory=dict)
    grew: dict[str, float] = field(default_factory=dict)

    def read(self) -> None:
        """Read all of them anew; a line that is not complete yet is left for later."""
        now = time.monotonic()
        for path in self.directory.glob("*-*.jsonl"):
            try:
                lines = path.read_bytes().split(b"\n")[:-1]
            except OSError:
                continue
            events = [msgspec.json.decode(line, type=Event) for line in lines]
            if len(events) > len(self.events.get(path.stem, ())):
                self.grew[path.stem] = now
                self.events[path.stem] = events
            for event in events:
                self.seen.setdefault((path.stem, event.what), now)

    def first(self, name: str, what: str) -> Event | None:
        """Return the first event *what* of the record *name*."""
        return next((one for one in self.events.get(name, ()) if one.what == what), None)

    def ended(self, name: str) -> bool:
        """Return whether the task of *name* was told to end and gave no sign of life since a while."""
        quiet = time.monotonic() - self.grew.get(name, 0.0) > _QUIET_S
        return quiet and self.first(name, "SIGTERM") is not None

    def look(self) -> Look | None:
        """Return what the first task saw."""
        return next((one.look for events in self.events.values() for one in events if one.look), None)

    def complete(self, *, signals: bool, patient: bool) -> bool:
        """Return whether all has happened; *patient*: a requeued task is waited for until it is back."""
        asked = self.first("requeue-0", "requeue")
        refused = asked is not None and (bool(asked.words) or not patient)
        back = self.first("requeue-1", "start") is not None
        limit = self.ended("limit-0") if signals else self.look() is not None
        return (back or refused) and self.ended("cancel-0") and limit


class Followed(NamedTuple):
    """How the array ended, why where it did not run, and seconds until its first task ran."""

    outcome: Outcome
    words: str
    wait: float | None
    records: Records
    cancelled_at: float | None = None


def follow(
    directory: Path, calls: Calls, *, signals: bool, kill_wait: float, requeue_wait: float = 0.0
) -> Followed:
    """Wait for what the tasks write into *directory*; every wait has an end.

    Args:
        directory: Where the records are.
        calls: What is asked of SLURM.
        signals: Whether the time limit is waited for.
        kill_wait: Seconds from TERM to KILL, as configured.
        requeue_wait: Seconds that a requeued task waits, as configured; too long a time is not waited for.
    """
    records, sent = Records(directory), time.monotonic()
    asked, cancelled, began = sent - _ASK_S + 3.0, None, None
    rest = (_LIMIT_S if signals else 0.0) + kill_wait + _REST_S
    patient = requeue_wait < rest - _REST_S / 2
    while True:
        records.read()
        now = time.monotonic()
        if began is None and records.events:
            began = now
        if cancelled is None and records.first("cancel-0", "start"):
            cancelled = time.monotonic()
            calls.cancel()
        if began is not None and (records.complete(signals=signals, patient=patient) or now - began > rest):
            return Followed("ran", "", began - sent, records, cancelled)
        if began is None and now - asked > _ASK_S:
            asked, queue = now, calls.queue()
            if queue is not None and not queue.live:
                records.read()
                if not records.events:
                    return Followed("failed", "", None, records)
        if began is None and now - sent > START_S:
            queue = calls.queue()
            reason = queue.reason if queue else "the controller does not answer"
            return Followed("not started", reason, None, records)
        time.sleep(_POLL_S)


def timing(followed: Followed, *, asked: int) -> Timing:
    """Return the times in the records of tasks whose warning was to come *asked* seconds before the end."""
    records = followed.records
    warning, limit = records.first("limit-0", "SIGUSR2"), records.first("limit-0", "SIGTERM")
    requeue = records.first("requeue-0", "requeue")
    at = records.seen
    left, back = at.get(("requeue-0", "SIGTERM")), at.get(("requeue-1", "start"))
    left = left or at.get(("requeue-0", "requeue"))
    told = at.get(("cancel-0", "SIGTERM"))
    return Timing(
        asked=asked,
        warned=round(limit.at - warning.at, 1) if limit and warning else None,
        warning=warning.at if warning else None,
        limit=limit.at if limit else None,
        killed=_killed(records, "limit-0"),
        cancelled=_between(followed.cancelled_at, told),
        cancel_killed=_killed(records, "cancel-0"),
        requeued=requeue is not None and not requeue.words,
        requeue_words=requeue.words if requeue else "",
        pending=_between(left, back),
        restarts=1 if back is not None else None,
    )


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(end - start, 1)


def _killed(records: Records, name: str) -> float | None:
    """Return the seconds from TERM to the last sign of life; None without a TERM."""
    term = records.first(name, "SIGTERM")
    return None if term is None else round(records.events[name][-1].at - term.at, 1)
