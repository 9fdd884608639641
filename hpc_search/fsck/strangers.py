"""Journals of another run, copied into this one: their numbers mean other trials, nothing of them counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from hpc_search.fsck import archives
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.journals import Place
from hpc_search.fsck.segments import Segment
from hpc_search.records import journal as codec

Pair = tuple[Place, Segment]


def run_of(segment: Segment) -> str:
    """Return the run that the opening line of *segment* names, "" where there is none."""
    return next((record.run_id for record, _ in segment.records if isinstance(record, codec.Open)), "")


def set_apart(disk: Disk, pairs: Iterable[Pair], run_id: str) -> tuple[list[Pair], list[Case]]:
    """Return the segments of this run (*run_id*, "" where nobody knows), and a case for each other one."""
    own: list[Pair] = []
    strange: list[Pair] = []
    for pair in pairs:
        found = run_of(pair[1])
        (strange if run_id and found and found != run_id else own).append(pair)
    here = {segment.worker for place, segment in own if not place.archive}
    cases = [_live(disk, place, one, run_id, here) for place, one in strange if not place.archive]
    return own, [*cases, *_archived(disk, strange, run_id)]


def _what(segment: Segment, run_id: str) -> str:
    return f"it is a journal of run {run_of(segment)}, this is run {run_id}: nothing in it counts"


def _live(disk: Disk, place: Place, segment: Segment, run_id: str, here: set[str]) -> Case:
    # Of a worker that never was of this run the rest goes too, its heartbeat first of all.
    whole = disk.name(disk.layout.worker(segment.worker))
    path = place.path if segment.worker in here else whole
    return Case(Finding(path=path, what=_what(segment, run_id)), "quarantine")


def _archived(disk: Disk, strange: Iterable[Pair], run_id: str) -> Iterator[Case]:
    found: dict[str, list[Segment]] = defaultdict(list)
    for place, segment in strange:
        if place.archive:
            found[place.archive].append(segment)
    for path, segments in found.items():
        data = disk.read(disk.layout.root / path) or b""
        content = archives.replaced(data, {(one.worker, one.number): None for one in segments})
        for segment in segments:
            finding = Finding(path=path, what=f"{_what(segment, run_id)} (worker {segment.worker})")
            yield Case(finding, "write", content) if content else Case(finding, "quarantine")
