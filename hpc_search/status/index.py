"""The index as a status reads it: without a lock, and without belief in what does not verify."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from hpc_search import durable, stats
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.ledger import marks, mode, rebuild
from hpc_search.planning.numbers import split_number
from hpc_search.records import index as codec
from hpc_search.records.index import Entry
from hpc_search.records.plan import Block
from hpc_search.status.model import Best, BestPoint

_STATE: Final = itemgetter(Entry._fields.index("state"))
_CHANGED: Final = itemgetter(Entry._fields.index("changed"))


class Summary:
    """The entries that verify, counted once: by state, and those that are final from the oldest on."""

    def __init__(self, entries: Sequence[Entry | None]) -> None:
        """Count *entries*."""
        self.known = [entry for entry in entries if entry is not None]
        self.counts = Counter(map(_STATE, self.known))
        self.finals = sorted((entry for entry in self.known if entry.state >= codec.DONE), key=_CHANGED)

    @property
    def run_ends(self) -> list[int]:
        """When those ended that were run, the oldest first; skipped ones were not."""
        return [entry.changed for entry in self.finals if entry.seconds or entry.state != codec.PRUNED]


def left_out(entries: Iterable[Entry], counts: Counter[int]) -> int:
    """Return how many of *entries*, which has so many by state, a race left out."""
    return sum(entry.left_out for entry in entries) if counts[codec.PRUNED] else 0


class Read(NamedTuple):
    """Entries by trial, None for one that does not verify; where they are from; what to say of that."""

    entries: Sequence[Entry | None]
    source: str
    notes: tuple[str, ...] = ()


def read_entries(layout: Layout, trials: int) -> Read:
    """Return the entries of the index, or of the journals where it is not used or not whole.

    None of them is known where a file that says what counts is damaged: seals, failures that were taken back.
    """
    try:
        return _read_entries(layout, trials)
    except DamagedError as error:
        return Read([None] * trials, "journals", (f"{error.message}: `hpc-search fsck RUN --repair`",))


def _read_entries(layout: Layout, trials: int) -> Read:
    if mode.exclusive(layout):
        # Before the journals are read: an end stands in its journal before a name says so.
        ended = marks.finals(layout)
        entries_now = rebuild.entries(layout, trials)[1]
        lost = ended - sum(entry.final for entry in entries_now)
        note = f"{lost} trials ended by ledger/open, but no journal holds their results: `hpc-search fsck`"
        return Read(entries_now, "journals", (note,) if lost > 0 else ())
    entries = _entries_of(layout, trials)
    if entries is not None and None in entries:
        # A torn record is one that was being written: it is whole a moment later.
        again = _entries_of(layout, trials) or entries
        entries = [new if old is None else old for old, new in zip(entries, again, strict=True)]
    if entries is not None:
        bad = entries.count(None)
        return Read(entries, "index", (f"{bad} records of the index do not verify",) if bad else ())
    note = "the index (ledger/claims.bin) is missing or damaged: counted from the journals"
    return Read(rebuild.entries(layout, trials)[1], "journals", (note,))


def ended(layout: Layout, trials: int) -> bool:
    """Return whether the head of the index says that every trial is final; it may lag behind."""
    try:
        header = codec.parse_header(durable.read_bytes(layout.claims, 0, codec.HEADER_BYTES))
    except OSError:
        return False
    return header is not None and header.finals >= header.trials >= trials


def _entries_of(layout: Layout, trials: int) -> list[Entry | None] | None:
    try:
        data = layout.claims.read_bytes()
    except OSError:
        return None
    header = codec.parse_header(data)
    if header is None or len(data) < codec.index_bytes(header.trials):
        return None
    # Of trials that an amendment added there are no records yet; of those of a newer plan there may be.
    known = min(trials, header.trials)
    return [*parse_entries(data, known), *(codec.Entry() for _ in range(trials - known))]


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


def cause_of(entry: Entry) -> str:
    """Return the cause in words; "?" for one of a newer version."""
    return codec.CAUSES[entry.cause] if entry.cause < len(codec.CAUSES) else "?"


def causes(finals: Sequence[Entry]) -> dict[str, int]:
    """Return how many trials failed, by cause."""
    return dict(sorted(Counter(cause_of(entry) for entry in finals if entry.state == codec.FAILED).items()))


def best_trial(blocks: Sequence[Block], goal: str, entries: Sequence[Entry | None]) -> Best | None:
    """Return the done trial of *blocks* with the best finite value, the lowest number of equal ones."""
    choose = max if goal == "max" else min
    best: Best | None = None
    for block in blocks:
        mine = entries[block.first : block.first + block.trials]
        done = (entry.value for entry in mine if entry is not None and entry.state == codec.DONE)
        value = choose(filter(math.isfinite, done), default=None)
        if value is None or (best is not None and choose(value, best.value) == best.value):
            continue
        place = next(
            place
            for place, entry in enumerate(mine)
            if entry is not None and entry.state == codec.DONE and entry.value == value
        )
        number = block.first + place
        best = Best(number, block.first_point + split_number(block, number)[0], value)
    return best


def best_point(
    blocks: Sequence[Block], goal: str, entries: Sequence[Entry | None], best: Best | None
) -> BestPoint | None:
    """Return the point of *blocks* with the best mean of those whose trials are all done."""
    if len(blocks) == 1 and blocks[0].trials == blocks[0].points:
        # Every point has one trial.
        return None if best is None else BestPoint(best.point, best.value, 1)
    values: defaultdict[int, list[float]] = defaultdict(list)
    expected: Counter[int] = Counter()
    for block in blocks:
        seeds, points, first = len(block.seeds), block.points, block.first_point
        expected.update(dict.fromkeys(range(first, first + points), block.trials // points))
        for place, entry in enumerate(entries[block.first : block.first + block.trials]):
            if entry is not None and entry.state == codec.DONE:
                values[first + place // seeds % points].append(entry.value)
    sign = -1 if goal == "max" else 1
    complete = [(sign * stats.mean(v), point) for point, v in values.items() if len(v) == expected[point]]
    if not complete:
        return None
    mean, point = min(complete)
    return BestPoint(point, sign * mean, expected[point])
