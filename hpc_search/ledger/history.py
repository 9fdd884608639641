"""Reading the journals of all workers, live and archived: the truth about a run."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from hpc_search import durable
from hpc_search.layout import WORKER_ID, Layout, parse_journal
from hpc_search.ledger import marks, retries
from hpc_search.ledger.names import listed
from hpc_search.records import archive, seal
from hpc_search.records import journal as codec

_END: Final = msgspec.json.Decoder(codec.End)
#: Kind, number, time and trial are the first fields of a record that is about a trial.
_TRIAL: Final = re.compile(rb'\{"k":"[a-z]+","n":\d+,"t":[0-9.eE+-]+,"trial":(\d{1,12}),')
_NUMBER: Final = re.compile(rb'\{"k":"[a-z]+","n":(\d+)')


#: Of the plan, where it stands in the first lines, and of the opening line of a segment.
_RUN: Final = re.compile(rb'"run_id": *"([^"\n]+)"')
_RUN_BYTES: Final = 512

#: An opening record and an exit record are shorter than this.
_EDGE: Final = 16 << 10


class Line(NamedTuple):
    """One verified line, without its newline, and where it stands."""

    worker: str
    segment: int
    offset: int
    data: bytes


class Result(NamedTuple):
    """The one accepted end record of a trial."""

    end: codec.End
    worker: str
    checksum: str

    @property
    def attempt(self) -> int:
        """The attempt that ended."""
        return self.end.attempt


class JournalFile(NamedTuple):
    """The bytes of one segment."""

    worker: str
    segment: int
    data: bytes
    archived: bool


def journal_files(layout: Layout) -> Iterator[JournalFile]:
    """Yield every segment, live ones first; one that moves meanwhile may come twice, never be missed.

    Those of another run, which `fsck` sets aside, are left out: their numbers mean other trials.
    """
    seen: set[tuple[str, int]] = set()
    run_id = run_of(layout)
    for worker in live_workers(layout):
        for segment, data in worker_segments(layout, worker):
            seen.add((worker, segment))
            if not stranger(data, run_id):
                yield JournalFile(worker, segment, data, archived=False)
    for data in archives(layout):
        yield from (file for file in _sections(data, seen) if not stranger(file.data, run_id))


def run_of(layout: Layout) -> bytes:
    """Return the id of the run as its plan says, b"" where that cannot be read."""
    with suppress(OSError):
        found = _RUN.search(durable.read_bytes(layout.plan, 0, _RUN_BYTES))
        return found[1] if found is not None else b""
    return b""


def stranger(data: bytes, run_id: bytes) -> bool:
    """Return whether the segment *data* opens with the id of another run."""
    first = data[: data.find(b"\n")] if run_id and data.startswith(b'{"k":"open",') else b""
    found = _RUN.search(first)
    return found is not None and found[1] != run_id and codec.checksum(first) is not None


def _sections(data: bytes, seen: set[tuple[str, int]]) -> Iterator[JournalFile]:
    for section in archive.sections(data):
        segment = parse_journal(section.name)
        if segment is not None and (section.worker, segment) not in seen:
            seen.add((section.worker, segment))
            yield JournalFile(section.worker, segment, section.content(data), archived=True)


def archives(layout: Layout, but: Collection[str] = ()) -> Iterator[bytes]:
    """Yield the content of every archive, newest first; not of those named in *but*.

    Of a journal that two archives hold, the newer one has all of it.

    One that is gone was merged into a newer one since it was listed: the list is read again until it
    holds nothing new, so that nothing is missed.
    """
    known = set(but)
    while names := [name for name in archive_paths(layout) if name not in known]:
        known.update(names)
        for name in reversed(names):
            with suppress(FileNotFoundError):
                yield durable.read_bytes(layout.archive / name)


def archive_paths(layout: Layout) -> list[str]:
    """Return the names of the archives, oldest first."""
    try:
        return sorted(path.name for path in layout.archive.iterdir() if path.name.isdigit())
    except FileNotFoundError:
        return []


def live_workers(layout: Layout) -> list[str]:
    """Return the ids of the workers that have a directory."""
    try:
        return sorted(path.name for path in layout.workers.iterdir() if WORKER_ID.fullmatch(path.name))
    except FileNotFoundError:
        return []


def worker_segments(layout: Layout, worker: str) -> list[tuple[int, bytes]]:
    """Return (segment, bytes) of a worker's live journal; empty where it is gone."""
    found = []
    try:
        for path in layout.worker(worker).iterdir():
            segment = parse_journal(path.name)
            if segment is not None:
                found.append((segment, durable.read_bytes(path)))
    except FileNotFoundError:
        return []
    return sorted(found)


def edges(layout: Layout, worker: str) -> list[tuple[bytes, bytes]]:
    """Return the first and the last whole line of each segment of a live worker, unverified, in order."""
    found = []
    try:
        for path in layout.worker(worker).iterdir():
            segment = parse_journal(path.name)
            if segment is not None:
                found.append((segment, _edges(path)))
    except FileNotFoundError:
        return []
    return [lines for _, lines in sorted(found)]


def _edges(path: Path) -> tuple[bytes, bytes]:
    head = durable.read_bytes(path, 0, _EDGE)
    # It may have grown since: then the last line is an older one, as if this had been read earlier.
    tail = durable.read_bytes(path, max(0, path.stat().st_size - _EDGE)) if len(head) == _EDGE else head
    # What comes after the last newline is no whole line.
    first, *_ = head.split(b"\n", 1)
    *_, last, _ = (b"", *tail.split(b"\n"))
    return first, last


def verified(
    data: bytes, kinds: frozenset[bytes] | None = None, settled: bytes = b""
) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, line) of the lines of *data* that verify; others are passed over.

    *settled* has a byte a trial: lines of those where it is not 0 are passed over unverified.
    """
    names = b"" if kinds is None else b'(?:%b)"' % b"|".join(sorted(kinds))
    line = rb'(\{"k":"' + names + b".*)"
    # Scanning for a newline and what follows it is far quicker than looking at every line.
    for match in chain(filter(None, [re.match(line, data)]), re.finditer(b"\n" + line, data)):
        if settled and (trial := _TRIAL.match(match[1])) and any(settled[int(trial[1]) : int(trial[1]) + 1]):
            continue
        if codec.checksum(match[1]) is not None:
            yield match.start(1), match[1]


def lines(layout: Layout, kinds: frozenset[bytes] | None = None, settled: bytes = b"") -> Iterator[Line]:
    """Yield every verified line of every journal, each (worker, number) once, filtered by kind.

    *settled* has a byte a trial: lines of those where it is not 0 are left out.
    """
    segments: dict[str, list[int]] = {}
    for file in journal_files(layout):
        earlier = segments.setdefault(file.worker, [])
        repeats = _numbers(layout, file.worker, earlier, kinds) if earlier else frozenset[int]()
        earlier.append(file.segment)
        for offset, line in verified(file.data, kinds, settled):
            if not repeats or _number(line) not in repeats:
                yield Line(file.worker, file.segment, offset, line)


def _number(line: bytes) -> int:
    match = _NUMBER.match(line)
    return int(match[1]) if match else 0


def _numbers(
    layout: Layout, worker: str, segments: list[int], kinds: frozenset[bytes] | None
) -> frozenset[int]:
    """Return the numbers of the lines in *segments*; a worker with a second segment is rare."""
    live = dict(worker_segments(layout, worker))
    numbers: set[int] = set()
    for segment in segments:
        data = live.get(segment)
        if data is None:
            data = archived_file(layout, worker, layout.journal(worker, segment).name) or b""
        numbers.update(_number(line) for _, line in verified(data, kinds))
    return frozenset(numbers - {0})


def records(layout: Layout, worker: str, kinds: frozenset[bytes] | None = None) -> Iterator[codec.AnyRecord]:
    """Yield the records of one live worker, each number once, in order."""
    seen: set[int] = set()
    for _, data in worker_segments(layout, worker):
        for _, line in verified(data, kinds):
            record = codec.parse_line(line)
            if record is not None and (record.n == 0 or record.n not in seen):
                seen.add(record.n)
                yield record


def results(layout: Layout, settled: bytes = b"") -> dict[int, Result]:
    """Return the accepted end record of every finished trial but those that are *settled* (see `lines`).

    A seal outranks a mark in ledger/open, which outranks an accepted record, which outranks the lowest
    (attempt, worker) with a complete end record (design 5, Records). A failure that was taken back is none of
    these, nor is the seal that published it. A trial whose sealed end record is damaged has no result.
    """
    return results_of(layout, lines(layout, frozenset({b"end"}), settled))


def results_of(layout: Layout, found: Iterable[Line]) -> dict[int, Result]:
    """Return the accepted one of the end records *found*, which are all that a trial has, by trial."""
    final: dict[int, list[Result]] = {}
    known = retries.read(layout)
    for line in found:
        try:
            end = _END.decode(line.data)
        except msgspec.ValidationError:
            # A shape that this version does not know.
            continue
        if end.state in codec.FINAL and not known.retired(end.trial, end.attempt, end.state):
            result = Result(end, line.worker, line.data[-18:-2].decode())
            final.setdefault(end.trial, []).append(result)
    sealed = seals(layout)
    chosen = {
        trial: ends[0] for trial, ends in final.items() if sealed.get(trial) in (None, ends[0].checksum)
    }
    doubled = {trial: ends for trial, ends in final.items() if len(ends) > 1}
    for trial, one in _chosen(layout, doubled, sealed).items():
        if one is None:
            chosen.pop(trial, None)
        else:
            chosen[trial] = one
    return chosen


def _chosen(
    layout: Layout, doubled: dict[int, list[Result]], sealed: dict[int, str]
) -> dict[int, Result | None]:
    """Return the result of each trial with several complete end records; None where a seal's is damaged."""
    if not doubled:
        return {}
    accepted = _accepted(layout)
    marked = marks.accepted(layout, doubled.__contains__)
    return {
        trial: choose(
            found, sealed.get(trial), marked[trial].end if trial in marked else None, accepted[trial]
        )
        for trial, found in doubled.items()
    }


def _accepted(layout: Layout) -> defaultdict[int, set[str]]:
    """Return trial -> the checksums of end records that somebody accepted."""
    accepted: defaultdict[int, set[str]] = defaultdict(set)
    for line in lines(layout, frozenset({b"accepted"})):
        record = codec.parse_line(line.data)
        if isinstance(record, codec.Accepted):
            accepted[record.trial].add(record.end)
    return accepted


def choose(found: list[Result], sealed: str | None, marked: str | None, accepted: set[str]) -> Result | None:
    """Return which of the end records *found* of one trial is its result (see `results`)."""
    if sealed is not None:
        # What was published never changes: where it is damaged, nothing takes its place.
        return next((result for result in found if result.checksum == sealed), None)
    for wanted in ({marked}, accepted):
        candidates = [result for result in found if result.checksum in wanted]
        if candidates:
            return min(candidates, key=_order)
    return min(found, key=_order)


def _order(result: Result) -> tuple[int, str]:
    return result.end.attempt, result.worker


def seals(layout: Layout) -> dict[int, str]:
    """Return trial -> checksum of its end record, from every published seal.

    The first one wins that is not of a failure that was taken back.
    """
    sealed: dict[int, str] = {}
    known = retries.read(layout)
    try:
        paths = sorted(layout.seals.iterdir())
    except FileNotFoundError:
        return sealed
    for path in paths:
        if path.name.endswith(".jsonl"):
            for entry in seal.parse_seal(durable.read_bytes(path)):
                if not known.unsealed(entry.trial, entry.end):
                    sealed.setdefault(entry.trial, entry.end)
    return sealed


class Sealed:
    """`seals`, read again where one, or a retry, was published since."""

    def __init__(self, layout: Layout) -> None:
        """Read those of the run at *layout*, when they are asked for."""
        self._layout = layout
        self._names: tuple[list[str], list[int]] | None = None
        self._ends: dict[int, str] = {}

    def ends(self) -> dict[int, str]:
        """Return trial -> checksum of its end record."""
        names = sorted(listed(self._layout.seals)), retries.names(self._layout)
        if names != self._names:
            self._ends = seals(self._layout)
            self._names = names
        return self._ends


def log_bytes(layout: Layout, worker: str) -> bytes | None:
    """Return the log of *worker*, from its directory or the archive; None where it was dropped."""
    try:
        return durable.read_bytes(layout.log(worker))
    except FileNotFoundError:
        return archived_file(layout, worker, layout.log(worker).name)


def all_segments(layout: Layout, worker: str) -> list[tuple[int, bytes]]:
    """Return (segment, bytes) of the whole journal of *worker*, live and archived.

    One that was folded as gone, and wakes, goes on with another segment.
    """
    live = worker_segments(layout, worker)
    if live and live[0][0] == 1:
        return live
    return sorted((dict(archived_segments(layout, worker)) | dict(live)).items())


def archived_segments(layout: Layout, worker: str) -> list[tuple[int, bytes]]:
    """Return (segment, bytes) of the journal of a folded *worker*; empty where no archive has it."""
    found: dict[int, bytes] = {}
    for data in archives(layout):
        for section in archive.sections(data):
            segment = parse_journal(section.name)
            if section.worker == worker and segment is not None:
                found.setdefault(segment, section.content(data))
    return sorted(found.items())


def archived_file(layout: Layout, worker: str, name: str) -> bytes | None:
    """Return the bytes of a folded file of *worker*, None where no archive has it."""
    for data in archives(layout):
        for section in archive.sections(data):
            if (section.worker, section.name) == (worker, name):
                return section.content(data)
    return None
