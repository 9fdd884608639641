"""The journals of all workers, in their directories and in the archives, and what they say together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from hpc_search.fsck import numbers as ranges
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding, note
from hpc_search.fsck.segments import Segment, read_segment
from hpc_search.layout import WORKER_ID, parse_journal
from hpc_search.ledger.retries import Known
from hpc_search.records import journal as codec


@dataclass(frozen=True, slots=True)
class Place:
    """Where a segment stands: its file, or the archive that holds it."""

    path: str
    archive: str = ""


@dataclass(slots=True)
class Facts:
    """What the journals hold, with everything mended that can be.

    ``ends`` is trial -> (end record, worker, checksum); ``accepted`` is trial -> {checksum: worker};
    ``saves`` is trial -> the last saves; ``claims`` trial -> highest attempt. ``mendable`` are checksums of
    end records that stand in a damaged line and could be put right.
    """

    segments: dict[str, list[tuple[Place, Segment]]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[int, list[tuple[codec.End, str, str]]] = field(default_factory=lambda: defaultdict(list))
    accepted: dict[int, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    claims: dict[int, int] = field(default_factory=dict)
    #: Entry of the log of proposed points -> a record of it, and whose journal has it.
    proposed: dict[int, tuple[codec.Propose, str]] = field(default_factory=dict)
    saves: dict[int, dict[tuple[int, str, int], int]] = field(default_factory=lambda: defaultdict(dict))
    #: Decisions at rungs, and where they stand.
    verdicts: list[tuple[str, codec.Verdict]] = field(default_factory=list)
    openings: dict[str, codec.Open] = field(default_factory=dict)
    exited: set[str] = field(default_factory=set)
    #: Failures that were taken back are no results.
    again: Known = field(default_factory=Known)

    def add(self, place: Place, segment: Segment) -> None:
        """Take in one segment; a record that a later segment repeats counts once."""
        known = {n for _, other in self.segments[segment.worker] for n in other.numbers}
        self.segments[segment.worker].append((place, segment))
        for record, checksum in segment.records:
            if not record.n or record.n not in known:
                self._take(segment.worker, record, checksum)
                if isinstance(record, codec.Verdict):
                    self.verdicts.append((place.archive or place.path, record))

    def _take(self, worker: str, record: codec.AnyRecord, checksum: str) -> None:
        match record:
            case codec.Open():
                self.openings[worker] = record
            case codec.Exit():
                self.exited.add(worker)
            case codec.End():
                self.ends[record.trial].append((record, worker, checksum))
            case codec.Accepted():
                self.accepted[record.trial][record.end] = record.worker or worker
            case codec.Propose():
                self.proposed.setdefault(record.entry, (record, worker))
            case codec.Claim():
                self.claims[record.trial] = max(record.attempt, self.claims.get(record.trial, 0))
            case codec.Checkpoint():
                self.saves[record.trial][record.attempt, worker, record.slot] = record.step

    def finals(self, trial: int) -> dict[str, tuple[codec.End, str]]:
        """Return checksum -> (end record, worker) of the results that *trial* has in the journals."""
        found = self.ends.get(trial, ())
        return {
            checksum: (end, worker)
            for end, worker, checksum in found
            if end.state in codec.FINAL and not self.again.retired(trial, end.attempt, end.state)
        }

    def taken_back(self, trial: int, checksum: str) -> bool:
        """Return whether the end record of *trial* with this *checksum* is a failure that was taken back."""
        return self.again.unsealed(trial, checksum) or any(
            checksum == other and self.again.retired(trial, end.attempt, end.state)
            for end, _, other in self.ends.get(trial, ())
        )

    @property
    def workers(self) -> set[str]:
        """Workers of which there is a journal."""
        return set(self.segments)

    @property
    def mended(self) -> bool:
        """Whether a line was put right in memory that is still damaged on disk."""
        pairs = (pair for pairs in self.segments.values() for pair in pairs)
        return any(damage.mended is not None for _, segment in pairs for damage in segment.damages)


def live_segments(disk: Disk) -> Iterator[tuple[Place, Segment]]:
    """Yield every segment that has a file."""
    for folder in disk.listed(disk.layout.workers):
        if WORKER_ID.fullmatch(folder.name):
            numbers = (parse_journal(path.name) for path in disk.listed(folder))
            for number in sorted(number for number in numbers if number is not None):
                path = disk.layout.journal(folder.name, number)
                data = disk.read(path)
                if data is not None:
                    yield Place(disk.name(path)), read_segment(folder.name, number, data)


def segment_cases(place: Place, segment: Segment, *, ended: bool) -> Iterator[Case]:
    """Yield what is wrong with one segment; *ended* where its worker writes no more."""
    for damage in segment.damages:
        where = f"bytes {damage.start}-{damage.end}"
        evidence = _evidence(segment, f"{damage.start}", damage.data)
        if damage.mended is not None:
            what = f"{where} have one wrong byte, which the checksums give back"
            finding = Finding(path=place.path, what=what, held=damage.held, trials=damage.trials)
            yield Case(finding, "accept" if place.archive else "write", segment.whole, evidence)
        elif damage.torn or (not ended and damage.end == len(segment.data)):
            yield note(place.path, f"{where} are the unfinished write of a worker that was killed")
        else:
            finding = Finding(
                path=place.path,
                what=f"{where} do not verify",
                held=damage.held,
                lost=damage.held,
                trials=damage.trials,
            )
            yield Case(finding, "accept", b"", evidence)
    if segment.broken:
        finding = Finding(path=place.path, what=segment.broken, lost="the proof that no line was removed")
        yield Case(finding, "accept", b"", _evidence(segment, "chain", segment.broken.encode()))
    yield from _opening(place, segment)


def _opening(place: Place, segment: Segment) -> Iterator[Case]:
    first = next((record for record, _ in segment.records if isinstance(record, codec.Open)), None)
    if first is None:
        if segment.data and not segment.damages:
            yield note(place.path, "it has no opening line")
        elif not segment.data:
            yield note(place.path, "it is empty: its worker was killed before its first line")
        return
    if (first.worker, first.segment) != (segment.worker, segment.number):
        what = f"it is segment {first.segment} of worker {first.worker}"
        yield Case(Finding(path=place.path, what=what), "accept", b"", _evidence(segment, "owner", b""))


def gaps(facts: Facts) -> Iterator[Case]:
    """Yield the workers whose numbers have gaps that no damaged line explains."""
    for worker, found in facts.segments.items():
        missing = list(ranges.gaps({number for _, segment in found for number in segment.numbers}))
        explained = any(not damage.torn for _, segment in found for damage in segment.damages)
        if missing and not explained:
            count = sum(map(len, missing))
            text = _ranges(missing[0].start, missing[-1].stop - 1, count)
            what = f"records {text} of worker {worker} are missing"
            finding = Finding(path=found[0][0].path, what=what, lost=f"{count} records")
            yield Case(finding, "accept", b"", f"gap/{worker}/{text}")


def _evidence(segment: Segment, place: str, data: bytes) -> str:
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    return f"{segment.worker}/{segment.number}/{place}/{digest}"


def _ranges(first: int, last: int, count: int) -> str:
    if count == 1:
        return str(first)
    return f"{first}-{last}" if last - first + 1 == count else f"{first}-{last} ({count} of them)"
