"""End records that no worker wrote: changed, with a checksum that was made to fit. They are never believed.

Two things tell them: the result that is named for the trial (by a seal, a mark, the index or an `accepted`
line) is another record of the same worker; or the chain of the segment does not hold, and nothing names
the record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hpc_search.fsck import archives
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.index import Index, Named
from hpc_search.fsck.journals import Facts, Place
from hpc_search.fsck.segments import Segment
from hpc_search.records import journal as codec


class Doubt(NamedTuple):
    """An end record that is not believed, and why."""

    end: codec.End
    checksum: str
    what: str
    lost: str


Doubts = dict[tuple[str, int], list[Doubt]]


def doubtful(facts: Facts, names: Mapping[int, Named], known: Mapping[int, set[str]]) -> Doubts:
    """Return (worker, segment) -> its end records that are not believed.

    Args:
        facts: What the journals hold.
        names: Trial -> the result that is named for it.
        known: Trial -> the checksums of all end records that something names.
    """
    found: Doubts = defaultdict(list)
    for worker, pairs in facts.segments.items():
        for _, segment in pairs:
            for record, checksum in segment.records:
                if isinstance(record, codec.End) and record.state in codec.FINAL:
                    doubt = _doubt(facts, segment, record, checksum, names.get(record.trial), known)
                    found[worker, segment.number] += filter(None, (doubt,))
    return {key: doubts for key, doubts in found.items() if doubts}


def _doubt(
    facts: Facts,
    segment: Segment,
    end: codec.End,
    checksum: str,
    name: Named | None,
    known: Mapping[int, set[str]],
) -> Doubt | None:
    what = f"record {end.n} is not the end record of trial {end.trial} that"
    if name is not None and name.worker == segment.worker and name.checksum not in facts.finals(end.trial):
        return Doubt(end, checksum, f"{what} {name.by} names: {checksum}, expected {name.checksum}", "")
    if segment.broken and end.n >= segment.proven and checksum not in known.get(end.trial, ()):
        why = f"record {end.n} ends trial {end.trial} after lines that were changed, and nothing names it"
        return Doubt(end, checksum, why, f"the result of trial {end.trial}")
    return None


def named_checksums(
    index: Index, facts: Facts, sealed: Mapping[int, tuple[str, str]], marks: Mapping[int, tuple[str, str]]
) -> dict[int, set[str]]:
    """Return trial -> the checksums of end records that something names."""
    found: dict[int, set[str]] = defaultdict(set)
    for trial, lines in facts.accepted.items():
        found[trial].update(lines)
    for trial, entry in enumerate(index.entries):
        if entry is not None and entry.final:
            found[trial].add(f"{entry.end:016x}")
    for source in (sealed, marks):
        for trial, (checksum, _) in source.items():
            found[trial].add(checksum)
    return found


def drop(facts: Facts, doubts: Doubts) -> None:
    """Forget the end records that are not believed."""
    gone = {(one.end.trial, key[0], one.checksum) for key, found in doubts.items() for one in found}
    for trial in {trial for trial, _, _ in gone}:
        facts.ends[trial] = [
            (end, worker, checksum)
            for end, worker, checksum in facts.ends[trial]
            if (trial, worker, checksum) not in gone
        ]


def cases(disk: Disk, facts: Facts, doubts: Doubts) -> Iterator[Case]:
    """Yield a case for each record that is not believed; a note takes its place."""
    changed: dict[str, dict[tuple[str, int], bytes]] = defaultdict(dict)
    told: dict[str, list[Finding]] = defaultdict(list)
    for (worker, number), found in doubts.items():
        place, segment = _of(facts, worker, number)
        changed[place.path][worker, number] = _without(segment.whole, found)
        told[place.path] += [
            Finding(
                path=place.path,
                what=one.what,
                held=f"a result of trial {one.end.trial}",
                lost=one.lost,
                trials=(one.end.trial,),
            )
            for one in found
        ]
    for path, contents in changed.items():
        [content] = contents.values() if not _archived(path) else [_archive(disk, path, contents)]
        yield from (Case(finding, "write", content) for finding in told[path])


def _of(facts: Facts, worker: str, number: int) -> tuple[Place, Segment]:
    return next((place, one) for place, one in facts.segments[worker] if one.number == number)


def _archived(path: str) -> bool:
    return path.startswith("ledger/")


def _archive(disk: Disk, path: str, contents: Mapping[tuple[str, int], bytes]) -> bytes:
    data = disk.read(disk.layout.root / path) or b""
    return archives.replaced(data, contents)


def _without(data: bytes, doubts: list[Doubt]) -> bytes:
    """Return the journal *data* with a note, of the same size, in place of each record."""
    notes = {one.checksum.encode(): _note(one.end) for one in doubts}
    lines = data.split(b"\n")
    for place, line in enumerate(lines):
        encode = notes.get(line[-18:-2])
        if encode is not None and codec.kind(line) == b"end":
            lines[place] = _padded(encode, len(line))
    return b"\n".join(lines)


def _note(end: codec.End) -> codec.Note:
    text = "fsck did not believe the end record here; it is in quarantine/"
    return codec.Note(n=end.n, t=end.t, event="set aside", trial=end.trial, attempt=end.attempt, text=text)


def _padded(record: codec.Note, size: int) -> bytes:
    short = size - len(codec.encode_line(record).rstrip(b"\n"))
    padded = codec.Note(
        n=record.n,
        t=record.t,
        event=record.event,
        trial=record.trial,
        attempt=record.attempt,
        text=record.text + " " * max(0, short),
    )
    return codec.encode_line(padded).rstrip(b"\n")
