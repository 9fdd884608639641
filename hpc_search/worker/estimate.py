"""How long a trial needs to its next checkpoint, learned from the journals, and whether it may start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records import journal as lines
from hpc_search.worker.verdict import NO_CHECKPOINT

#: The longest of the last so many counts.
_RECENT: Final = 20
#: Journals of other workers that are read; ids are random, so these are.
_OTHERS: Final = 8
#: Bytes of the end of a journal that are read.
_TAIL: Final = 1 << 20
#: A worker has its full walltime where it has run nothing and at least this share of it is left.
_FULL: Final = 0.9
#: An attempt had a full walltime where it ran for this share of it.
_WHOLE: Final = 0.8
#: A trial that reports stops, and saves, within this many of the times between its reports.
_REPORTS: Final = 2
_KINDS: Final = frozenset({b"start", b"report", b"checkpoint", b"end"})


class Sample(NamedTuple):
    """Seconds from the start of an attempt at *trial* to what it first kept: a checkpoint, or its result."""

    trial: int
    seconds: float


def samples(records: Iterable[lines.AnyRecord]) -> Iterator[Sample]:
    """Yield what the records of one worker, in order, say: differences of that machine's own clock.

    A trial that saves and reports is stopped sooner than its own checkpoints are due: two reports count.
    """
    started: dict[int, float] = {}
    reported: dict[int, float] = {}
    for record in records:
        match record:
            case lines.Start():
                started[record.trial] = record.t
                reported.pop(record.trial, None)
            case lines.Report() if record.trial in started:
                reported.setdefault(record.trial, record.t - started[record.trial])
            case lines.Checkpoint() if record.trial in started:
                seconds = record.t - started.pop(record.trial)
                step = reported.get(record.trial)
                yield Sample(record.trial, seconds if step is None else min(seconds, _REPORTS * step))
            case lines.End() if record.trial in started:
                seconds = record.t - started.pop(record.trial)
                if record.state == "done":
                    yield Sample(record.trial, seconds)


def needed(known: Sequence[Sample], trial: int) -> float | None:
    """Return the seconds that *trial* needs: what it needed itself, else the longest of the last ones."""
    own = [sample.seconds for sample in known if sample.trial == trial]
    recent = own or [sample.seconds for sample in known[-_RECENT:]]
    return max(recent, default=None)


def may_start(need: float | None, left: float, limit: float | None, *, first: bool) -> bool:
    """Return whether a trial that needs *need* seconds shall start with *left* seconds of the *limit*.

    Without data it starts, and so does the *first* of a worker that has its full walltime: elsewhere it
    would not fit either.
    """
    if limit is None or need is None:
        return True
    return need <= left or (first and full(left, limit))


def whole_walltime(seconds: float, limit: float | None, *, first: bool) -> bool:
    """Return whether an attempt of *seconds* had all that a worker with this *limit* can give.

    It had where it was the *first* of a worker that began with its job, however long the imports took.
    """
    return limit is not None and (first or seconds >= _WHOLE * limit)


def full(left: float, limit: float | None) -> bool:
    """Return whether *left* seconds are all of a job with this *limit*, but for its start."""
    return limit is not None and left >= _FULL * limit


class Times(NamedTuple):
    """Seconds to what attempts first kept, and of whole trials that are done."""

    needs: list[float]
    durations: list[float]


def times(layout: Layout) -> Times:
    """Return what some journals of the run, live ones first, say of the last trials."""
    found = Times([], [])
    for file in islice(history.journal_files(layout), _OTHERS):
        records = list(_records(line for _, line in history.verified(file.data[-_TAIL:], _KINDS)))
        found.needs.extend(sample.seconds for sample in samples(records))
        ends = (record for record in records if isinstance(record, lines.End) and record.state == "done")
        found.durations.extend(end.seconds for end in ends)
    return found


class Journals:
    """What the journals of a run say to one worker about times."""

    def __init__(self, layout: Layout, worker: str) -> None:
        """Read for *worker*."""
        self._layout = layout
        self._worker = worker

    def samples_of_others(self) -> list[Sample]:
        """Return what the journals of some other workers say."""
        others = [name for name in history.live_workers(self._layout) if name != self._worker][:_OTHERS]
        return [sample for name in others for sample in samples(self._tail(name))]

    def own_samples(self) -> list[Sample]:
        """Return what this worker's journal says."""
        return list(samples(self._tail(self._worker)))

    def samples_of(self, trial: int) -> list[Sample]:
        """Return what every journal says of *trial*."""
        needle = b'"trial":%d,' % trial
        found: list[Sample] = []
        for file in history.journal_files(self._layout):
            if needle in file.data:
                records = _records(line for _, line in history.verified(file.data, _KINDS) if needle in line)
                found.extend(samples(records))
        return found

    def nodes_that_tried(self, trial: int) -> set[str]:
        """Return the nodes on which an attempt at *trial* ended."""
        needle = b'"trial":%d,' % trial
        found = history.lines(self._layout, frozenset({b"end"}))
        records = (lines.parse_line(line.data) for line in found if needle in line.data)
        return {one.node for one in records if isinstance(one, lines.End) and one.trial == trial and one.node}

    def walltimes_without_checkpoint(self, trial: int) -> int:
        """Return how many of the last attempts at *trial* had a whole walltime and saved nothing."""
        needle = b'"trial":%d,' % trial
        ends: dict[int, lines.End] = {}
        for line in history.lines(self._layout, frozenset({b"end"})):
            record = lines.parse_line(line.data) if needle in line.data else None
            if isinstance(record, lines.End) and record.trial == trial and record.cause:
                ends[record.attempt] = record
        count = 0
        for attempt in sorted(ends, reverse=True):
            if NO_CHECKPOINT not in ends[attempt].detail:
                break
            count += 1
        return count

    def _tail(self, worker: str) -> Iterator[lines.AnyRecord]:
        for _, data in history.worker_segments(self._layout, worker):
            yield from _records(line for _, line in history.verified(data[-_TAIL:], _KINDS))


def _records(found: Iterable[bytes]) -> Iterator[lines.AnyRecord]:
    return (record for record in map(lines.parse_line, found) if record is not None)
