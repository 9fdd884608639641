"""The seals: which results were published, and how far the journals went when they were."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import xxhash

from hpc_search.errors import DamagedError
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.journals import Facts
from hpc_search.fsck.mend import mend_lines
from hpc_search.layout import Layout
from hpc_search.records import seal
from hpc_search.records.journal import checksum

_NAME: Final = re.compile(r"(\d{4,})\.jsonl")
_AGAIN: Final = "the results in the journals are sealed again"


@dataclass(slots=True)
class Seals:
    """What the seals name: trial -> (checksum, worker); the heads of the journals; what is wrong."""

    results: dict[int, tuple[str, str]] = field(default_factory=dict)
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)


def read_seals(layout: Layout, last: int = 0) -> Seals:
    """Return what the seals of a run say; *last* is the number of one that is known to have been there."""
    found = Seals()
    numbers = []
    for path in sorted(layout.seals.iterdir()) if layout.seals.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match is not None and path.is_file():
            numbers.append(int(match[1]))
            _take(found, path.relative_to(layout.root).as_posix(), path.read_bytes())
    for number in sorted(set(range(1, max([last, *numbers]) + 1)) - set(numbers)):
        what = "it is missing: a collect published it"
        name = layout.seal(number).relative_to(layout.root).as_posix()
        finding = Finding(path=name, what=what, held="which results were published", next=_AGAIN)
        # An empty one in its place; what it named is sealed again by the next collect.
        found.cases.append(Case(finding, "write", seal.encode_seal([])))
    return found


def _take(found: Seals, path: str, data: bytes) -> None:
    whole, bad = mended_lines(data)
    head = seal.parse_heads(whole)
    try:
        entries = seal.parse_seal(whole)
    except DamagedError as error:
        found.cases.append(Case(Finding(path=path, what=error.message), "none"))
        return
    for entry in entries:
        found.results.setdefault(entry.trial, (entry.end, entry.worker))
    if head is not None:
        for name, (size, digest) in head[1].items():
            if size >= found.heads.get(name, (0, ""))[0]:
                found.heads[name] = size, digest
    complete = not bad and head is not None and head[0] == len(entries) and whole.endswith(b"\n")
    if complete and whole == data:
        return
    if complete:
        what = "it has one wrong byte, which the checksums give back"
        found.cases.append(Case(Finding(path=path, what=what), "write", whole))
        return
    expected = f" of {head[0]}" if head is not None else ""
    what = f"{len(entries)}{expected} entries verify"
    finding = Finding(path=path, what=what, held="which results were published", next=_AGAIN)
    found.cases.append(Case(finding, "write", seal.encode_seal(entries, head[1] if head else None)))


def mended_lines(data: bytes) -> tuple[bytes, int]:
    """Return *data*, lines with checksums, with single wrong bytes put right, and how many lines stay bad."""
    lines = data.split(b"\n")
    bad = [number for number, line in enumerate(lines) if line and checksum(line) is None]
    if not bad:
        return data, 0
    first, last = bad[0], bad[-1]
    piece = b"\n".join(lines[first : last + 1]) + (b"\n" if last + 1 < len(lines) else b"")
    mended = mend_lines(piece)
    if mended is None:
        return data, len(bad)
    before = b"".join(line + b"\n" for line in lines[:first])
    after = b"\n".join(lines[last + 1 :])
    return before + mended + after, 0


def check_heads(seals: Seals, facts: Facts, archived: Mapping[tuple[str, str], bytes]) -> Iterator[Case]:
    """Yield the journals that lack what they held when a seal was published."""
    bytes_of = {
        f"{worker}.{segment.number}": segment.whole
        for worker, pairs in facts.segments.items()
        for _, segment in pairs
    }
    bytes_of |= {
        f"{worker}.{name.split('.')[1]}": data
        for (worker, name), data in archived.items()
        if name.startswith("journal.") and f"{worker}.{name.split('.')[1]}" not in bytes_of
    }
    for name, (size, digest) in sorted(seals.heads.items()):
        data = bytes_of.get(name)
        worker, _, number = name.partition(".")
        path = f"workers/{worker}/journal.{number}.jsonl"
        if data is None:
            what, lost = f"it is missing; a seal saw {size} bytes of it", f"{size} bytes of journal"
        elif len(data) < size:
            what, lost = (
                f"it has {len(data)} bytes; a seal saw {size}",
                f"{size - len(data)} bytes of journal",
            )
        elif xxhash.xxh3_64_hexdigest(data[:size]) != digest:
            what, lost = f"its first {size} bytes are not the ones that a seal saw", ""
            if any(damage.mended is None for _, s in facts.segments[worker] for damage in s.damages):
                # The damaged lines are named already.
                continue
        else:
            continue
        yield Case(Finding(path=path, what=what, lost=lost), "accept", b"", f"head/{name}/{digest}")
