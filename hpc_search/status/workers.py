"""Who works on a run now, as far as its files and SLURM's last answer tell; nothing is decided by it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Literal, NamedTuple

import msgspec

from hpc_search.layout import Layout, parse_journal
from hpc_search.ledger import gone, history, liveness
from hpc_search.records import journal
from hpc_search.site.shared import Queue

_HEAD: Final = 16 << 10
_TAIL: Final = 4 << 10
#: Heartbeats without which a worker is silent, and seconds at least.
_SILENT: Final = (3.0, 10.0)


class LiveWorker(msgspec.Struct, frozen=True):
    """A worker that did not say that it exits; ``trials`` are what it holds, running ones first.

    ``state``: "live"; "silent", without a heartbeat for ``quiet`` seconds, three beats and more; or "gone",
    where SLURM no longer knows its task: `submit` gives its trials to others.
    """

    id: str
    node: str
    seat: str
    device: str
    job_id: str
    trials: tuple[int, ...]
    token: str = ""
    state: Literal["live", "silent", "gone"] = "live"
    quiet: float = 0.0


class Signs(NamedTuple):
    """Of a worker, by the file server's clock: when it last beat, when its journal last grew."""

    beat: float
    journal: float


class Census:
    """Looks at the workers of a run, again and again; keep it as long as the run is watched."""

    def __init__(self, layout: Layout, heartbeat: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Take a worker for silent after some times *heartbeat* seconds; *clock* is monotonic."""
        self._layout = layout
        self._clock = clock
        self._silent = max(_SILENT[0] * heartbeat, _SILENT[1])
        #: The last beat of each worker, and when that was first seen.
        self._seen: dict[str, tuple[float, float]] = {}
        self.signs: dict[str, Signs] = {}

    def take(
        self, held: Mapping[int, list[int]], queue: Queue | None, now: float | None
    ) -> tuple[LiveWorker, ...]:
        """Return the workers that have a journal without an exit, and are not gone by what is known.

        *held* are the trials by owner; *now* is the file server's time, None where that is not known.
        """
        me = liveness.this_process()
        departed = gone.reported(self._layout)
        found = []
        self.signs = {}
        for worker in history.live_workers(self._layout):
            opening = _open_journal(self._layout, worker)
            if opening is None or worker in departed or liveness.certainly_gone(opening, me):
                continue
            self.signs[worker] = signs(self._layout, worker)
            trials = tuple(held.get(int(worker, 16), ()))
            found.append(
                LiveWorker(
                    *(worker, opening.host, opening.seat, opening.device, opening.job_id, trials),
                    token=opening.token,
                )
            )
        newest = now if now is not None else max((max(signs) for signs in self.signs.values()), default=0.0)
        return tuple(self._judged(worker, queue, newest) for worker in found)

    def _judged(self, worker: LiveWorker, queue: Queue | None, now: float) -> LiveWorker:
        quiet = self._quiet(worker.id, now)
        state: Literal["live", "silent", "gone"] = "silent" if quiet > self._silent else "live"
        # It may have begun after the answer: then it beats after it.
        if queue is not None and queue.healthy and quiet > (queue.age or 0.0) and _absent(worker, queue):
            state = "gone"
        return msgspec.structs.replace(worker, state=state, quiet=round(quiet, 1))

    def _quiet(self, worker: str, now: float) -> float:
        """Return the seconds since the last beat: of the file server, or of own looks at it."""
        beat, clock = self.signs[worker].beat, self._clock()
        if self._seen.get(worker, (0.0, 0.0))[0] != beat:
            self._seen[worker] = beat, clock
        return max(now - beat, clock - self._seen[worker][1], 0.0)


def _absent(worker: LiveWorker, queue: Queue) -> bool:
    task = task_of(worker.seat)
    if task < 0 or not worker.token or worker.token in queue.unasked:
        return False
    jobs = [job for job in queue.jobs if job.token == worker.token and job.kind != "waiting"]
    return not any(job.has(task) for job in jobs)


def task_of(seat: str) -> int:
    """Return the array task of *seat*, -1 where it is none of SLURM."""
    kind, _, rest = seat.partition(":")
    task = rest.partition(":")[0]
    return int(task) if kind == "slurm" and task.isdecimal() else -1


def signs(layout: Layout, worker: str) -> Signs:
    """Return the signs of *worker*, 0 where there are none."""
    journals = [layout.journal(worker, segment) for segment in _segments(layout, worker)[-1:]]
    found = []
    for paths in ([layout.heartbeat(worker), *journals], journals):
        times = [0.0]
        for path in paths:
            with suppress(OSError):
                times.append(os.stat(path).st_mtime)
        found.append(max(times))
    return Signs(*found)


def _segments(layout: Layout, worker: str) -> list[int]:
    """Return the segments of the journal of *worker*, ascending."""
    try:
        names = os.listdir(layout.worker(worker))
    except OSError:
        return []
    return sorted(number for number in map(parse_journal, names) if number is not None)


def _open_journal(layout: Layout, worker: str) -> journal.Open | None:
    """Return the opening of a worker's last segment, None where that ends in an exit."""
    try:
        segment = (_segments(layout, worker) or [0])[-1]
        fd = os.open(layout.journal(worker, segment), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        head = os.pread(fd, _HEAD, 0)
        tail = os.pread(fd, _TAIL, max(0, os.fstat(fd).st_size - _TAIL))
    except OSError:
        return None
    finally:
        os.close(fd)
    if any(journal.kind(line) == b"exit" and journal.checksum(line) for line in tail.split(b"\n")):
        return None
    record = journal.parse_line(head.partition(b"\n")[0])
    return record if isinstance(record, journal.Open) else None
