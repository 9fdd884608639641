"""The journals of all workers, in their directories and in the archives, and what they say together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from hpc_search.fsck.findings import Case, Finding, note
from hpc_search.fsck.segments import Segment, read_segment
from hpc_search.layout import Layout
from hpc_search.ledger import history
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
    saves: dict[int, dict[tuple[int, str, int], int]] = field(default_factory=lambda: defaultdict(dict))
    openings: dict[str, codec.Open] = field(default_factory=dict)
    exited: set[str] = field(default_factory=set)

    def add(self, place: Place, segment: Segment) -> None:
        """Take in one segment; a record that a later segment repeats counts once."""
        known = {n for _, other in self.segments[segment.worker] for n in other.numbers}
        self.segments[segment.worker].append((place, segment))
        for record, checksum in segment.records:
            if not record.n or record.n not in known:
                self._take(segment.worker, record, checksum)

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
            case codec.Claim():
                self.claims[record.trial] = max(record.attempt, self.claims.get(record.trial, 0))
            case codec.Checkpoint():
                self.saves[record.trial][record.attempt, worker, record.slot] = record.step

    def finals(self, trial: int) -> dict[str, tuple[codec.End, str]]:
        """Return checksum -> (end record, worker) of the results that *trial* has in the journals."""
        found = self.ends.get(trial, ())
        return {checksum: (end, worker) for end, worker, checksum in found if end.state in codec.FINAL}

    @property
    def workers(self) -> set[str]:
        """Workers of which there is a journal."""
        return set(self.segments)

    @property
    def mended(self) -> bool:
        """Whether a line was put right in memory that is still damaged on disk."""
        pairs = (pair for pairs in self.segments.values() for pair in pairs)
        return any(damage.mended is not None for _, segment in pairs for damage in segment.damages)


def live_segments(layout: Layout) -> Iterator[tuple[Place, Segment]]:
    """Yield every segment that has a file."""
    for worker in history.live_workers(layout):
        for number, data in history.worker_segments(layout, worker):
            path = layout.journal(worker, number).relative_to(layout.root).as_posix()
            yield Place(path), read_segment(worker, number, data)


def segment_cases(place: Place, segment: Segment, run_id: str, *, ended: bool) -> Iterator[Case]:
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
    yield from _foreign(place, segment, run_id)


def _foreign(place: Place, segment: Segment, run_id: str) -> Iterator[Case]:
    first = next((record for record, _ in segment.records if isinstance(record, codec.Open)), None)
    if first is None:
        if segment.data and not segment.damages:
            yield note(place.path, "it has no opening line")
        elif not segment.data:
            yield note(place.path, "it is empty: its worker was killed before its first line")
        return
    if run_id and (first.worker, first.segment, first.run_id) != (segment.worker, segment.number, run_id):
        what = f"it is segment {first.segment} of worker {first.worker} of run {first.run_id}"
        yield Case(Finding(path=place.path, what=what), "accept", b"", _evidence(segment, "owner", b""))


def gaps(facts: Facts) -> Iterator[Case]:
    """Yield the workers whose numbers have gaps that no damaged line explains."""
    for worker, found in facts.segments.items():
        numbers = {number for _, segment in found for number in segment.numbers}
        missing = sorted(set(range(1, max(numbers, default=0) + 1)) - numbers)
        explained = any(not damage.torn for _, segment in found for damage in segment.damages)
        if missing and not explained:
            what = f"records {_ranges(missing)} of worker {worker} are missing"
            finding = Finding(path=found[0][0].path, what=what, lost=f"{len(missing)} records")
            yield Case(finding, "accept", b"", f"gap/{worker}/{_ranges(missing)}")


def _evidence(segment: Segment, place: str, data: bytes) -> str:
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    return f"{segment.worker}/{segment.number}/{place}/{digest}"


def _ranges(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    return (
        f"{numbers[0]}-{numbers[-1]}"
        if numbers[-1] - numbers[0] + 1 == len(numbers)
        else (f"{numbers[0]}-{numbers[-1]} ({len(numbers)} of them)")
    )
