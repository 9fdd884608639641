"""What a run looks like now, from its index: read-only, without a lock, without numpy."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from hpc_search import stats
from hpc_search.layout import Layout
from hpc_search.ledger import marks, mode, paused, rebuild
from hpc_search.planning.numbers import split_number
from hpc_search.records import index as codec
from hpc_search.records.index import Entry
from hpc_search.records.plan import Plan
from hpc_search.status.files import Failure, LiveWorker, last_submission, read_failures, read_workers
from hpc_search.status.text import render

__all__ = ["Best", "BestPoint", "Eta", "Failure", "LiveWorker", "Status", "read_status"]

#: The rate is that of the last so many ends.
_RECENT: Final = 100


class Best(msgspec.Struct, frozen=True):
    """The done trial with the best value so far."""

    trial: int
    point: int
    value: float


class BestPoint(msgspec.Struct, frozen=True):
    """The complete point with the best mean so far, over its ``n`` trials."""

    point: int
    mean: float
    n: int


class Eta(msgspec.Struct, frozen=True):
    """Seconds until everything is final, as a range; ``high`` is None where few ends say little."""

    low: float
    high: float | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Counts, rate, best, workers and failures of a run.

    ``source`` is "index", or "journals" where the index cannot be read. ``unknown`` counts records of
    the index that do not verify. ``busy_seconds`` is the time inside attempts that ended, all workers
    together. ``notes`` say in words what is unusual, such as why nothing runs.
    """

    name: str
    run_id: str
    metric: str
    goal: str
    trials: int
    pending: int
    claimed: int
    running: int
    paused: int
    done: int
    failed: int
    pruned: int
    unknown: int
    causes: dict[str, int]
    best: Best | None
    best_point: BestPoint | None
    rate_per_min: float | None
    eta_seconds: Eta | None
    busy_seconds: float
    workers: tuple[LiveWorker, ...]
    failures: tuple[Failure, ...]
    stopped: str | None
    source: str
    notes: tuple[str, ...] = ()

    @property
    def finished(self) -> int:
        """How many trials are final."""
        return self.done + self.failed + self.pruned

    @property
    def left(self) -> int:
        """How many trials are not final."""
        return self.trials - self.finished

    def text(self, width: int = 80, *, colour: bool = False) -> str:
        """Return the status for a terminal of *width* columns, without a last newline."""
        return render(msgspec.structs.asdict(self), width, colour=colour)

    def json(self) -> str:
        """Return the status as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()


class _Read(NamedTuple):
    entries: Sequence[Entry | None]
    source: str
    notes: tuple[str, ...] = ()


def read_status(
    layout: Layout, plan: Plan, index: tuple[Any, Sequence[Entry]] | None = None, *, now: float | None = None
) -> Status:
    """Return the status of a run; a damaged index costs time, not the answer.

    Args:
        layout: The run.
        plan: Its plan.
        index: Header and entries, where the caller has read them; else they are read here.
        now: Wall-clock seconds, for the rate only; this moment where None.
    """
    read = _Read(index[1], "index") if index is not None else _read_entries(layout, plan.trials)
    known = [entry for entry in read.entries if entry is not None]
    counts = Counter(entry.state for entry in known)
    workers = read_workers(layout, held_trials(read.entries))
    left = plan.trials - sum(entry.final for entry in known)
    active = bool(workers) and left > 0
    finals = [entry for entry in known if entry.final]
    rate = recent_rate(sorted(entry.changed for entry in finals), _moment(now) if active else None)
    stopped = _stopped(layout)
    best = _best(plan, read.entries)

    begun = any(entry.attempt for entry in known)
    return Status(
        name=plan.search.name,
        run_id=plan.run_id,
        metric=plan.metric.name,
        goal=plan.metric.goal,
        trials=plan.trials,
        **{name: counts[state] for state, name in enumerate(codec.STATES)},
        unknown=len(read.entries) - len(known),
        causes=_causes(finals),
        best=best,
        best_point=_best_point(plan, read.entries, best),
        rate_per_min=None if rate is None else rate.per_second * 60,
        eta_seconds=eta(rate, left) if rate is not None and active else None,
        busy_seconds=math.fsum(entry.seconds for entry in known),
        workers=workers,
        failures=read_failures(layout, failed_trials(read.entries)),
        stopped=stopped,
        source=read.source,
        notes=(*read.notes, *_why_nothing_runs(layout, left if not active else 0, begun, stopped)),
    )


def _moment(now: float | None) -> float:
    return time.time() if now is None else now


def _read_entries(layout: Layout, trials: int) -> _Read:
    if mode.exclusive(layout):
        # Before the journals are read: an end stands in its journal before a name says so.
        ended = marks.finals(layout)
        entries_now = rebuild.entries(layout, trials)[1]
        lost = ended - sum(entry.final for entry in entries_now)
        note = f"{lost} trials ended by ledger/open, but no journal holds their results: `hpc-search fsck`"
        return _Read(entries_now, "journals", (note,) if lost > 0 else ())
    entries = _entries_of(layout, trials)
    if entries is not None and None in entries:
        # A torn record is one that was being written: it is whole a moment later.
        again = _entries_of(layout, trials) or entries
        entries = [new if old is None else old for old, new in zip(entries, again, strict=True)]
    if entries is not None:
        bad = entries.count(None)
        return _Read(entries, "index", (f"{bad} records of the index do not verify",) if bad else ())
    note = "the index (ledger/claims.bin) is missing or damaged: counted from the journals"
    return _Read(rebuild.entries(layout, trials)[1], "journals", (note,))


def _entries_of(layout: Layout, trials: int) -> list[Entry | None] | None:
    try:
        data = layout.claims.read_bytes()
    except OSError:
        return None
    header = codec.parse_header(data)
    whole = header is not None and header.trials == trials and len(data) >= codec.index_bytes(trials)
    return parse_entries(data, trials) if whole else None


def parse_entries(data: bytes, trials: int) -> list[Entry | None]:
    """Return the entries of an index's bytes, None for a record that does not verify."""
    return codec.parse_entries(data[codec.HEADER_BYTES : codec.index_bytes(trials)])


def held_trials(entries: Sequence[Entry | None]) -> dict[int, list[int]]:
    """Return owner -> the trials that it holds, running ones first."""
    held: defaultdict[int, list[tuple[bool, int]]] = defaultdict(list)
    for number, entry in enumerate(entries):
        if entry is not None and entry.state in (codec.CLAIMED, codec.RUNNING):
            held[entry.owner].append((entry.state != codec.RUNNING, number))
    return {owner: [number for _, number in sorted(trials)] for owner, trials in held.items()}


def failed_trials(entries: Sequence[Entry | None]) -> dict[int, Entry]:
    """Return trial -> entry of the failed trials."""
    return {
        number: entry
        for number, entry in enumerate(entries)
        if entry is not None and entry.state == codec.FAILED
    }


class Rate(NamedTuple):
    """Ends per second, from ``ends`` of them."""

    per_second: float
    ends: int


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


def _causes(finals: Sequence[Entry]) -> dict[str, int]:
    counts = Counter(entry.cause for entry in finals if entry.state == codec.FAILED)
    named = {codec.CAUSES[cause] if cause < len(codec.CAUSES) else "?": n for cause, n in counts.items()}
    return dict(sorted(named.items()))


def _best(plan: Plan, entries: Sequence[Entry | None]) -> Best | None:
    sign = 1 if plan.metric.goal == "max" else -1
    ranked = (
        (sign * entry.value, -number, entry.value)
        for number, entry in enumerate(entries)
        if entry is not None and entry.state == codec.DONE and math.isfinite(entry.value)
    )
    best = max(ranked, default=None)
    if best is None:
        return None
    number = -best[1]
    block = next(block for block in reversed(plan.blocks) if block.first <= number)
    return Best(number, block.first_point + split_number(block, number)[0], best[2])


def _best_point(plan: Plan, entries: Sequence[Entry | None], best: Best | None) -> BestPoint | None:
    if plan.trials == plan.points:
        # Every point has one trial.
        return None if best is None else BestPoint(best.point, best.value, 1)
    values: defaultdict[int, list[float]] = defaultdict(list)
    expected: Counter[int] = Counter()
    for block in plan.blocks:
        seeds, points, first = len(block.seeds), block.points, block.first_point
        expected.update(dict.fromkeys(range(first, first + points), block.trials // points))
        for place, entry in enumerate(entries[block.first : block.first + block.trials]):
            if entry is not None and entry.state == codec.DONE:
                values[first + place // seeds % points].append(entry.value)
    sign = -1 if plan.metric.goal == "max" else 1
    complete = [(sign * stats.mean(v), point) for point, v in values.items() if len(v) == expected[point]]
    if not complete:
        return None
    mean, point = min(complete)
    return BestPoint(point, sign * mean, expected[point])


def _stopped(layout: Layout) -> str | None:
    try:
        return layout.stop.read_text(errors="replace").strip()
    except OSError:
        return None


def _why_nothing_runs(layout: Layout, left: int, begun: bool, stopped: str | None) -> tuple[str, ...]:
    if words := paused(layout):
        return (f"{words}; `resume RUN` goes on",)
    if not left and stopped is None:
        return ()
    if stopped is not None:
        first, _, rest = stopped.partition("\n")
        more = " (all of it: ledger/stop)" if rest else ""
        return (f"stopped: {first or 'no reason given'}{more}; `submit RUN` clears that and starts workers",)
    token = last_submission(layout)
    if not token and begun:
        return ("nothing runs: no live worker; `submit RUN` starts workers for what is left",)
    if not token:
        return ("nothing was started yet: `submit RUN` starts workers",)
    look = f"`squeue --me --name={token}` says whether its tasks still wait"
    return (f"no worker runs now; last submission {token}: {look}; `submit RUN` starts what is missing",)
