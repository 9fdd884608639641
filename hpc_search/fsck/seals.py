"""The seals: which results were published, and how far the journals went when they were."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import xxhash

from hpc_search.errors import DamagedError
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding, Remedy
from hpc_search.fsck.journals import Facts
from hpc_search.fsck.mend import mend_lines
from hpc_search.fsck.numbers import gaps, stray
from hpc_search.ledger.retries import Known
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


def read_seals(disk: Disk, last: int = 0, again: Known | None = None) -> Seals:
    """Return what the seals of a run say; *last* is the number of one that is known to have been there.

    A result that was taken back *again* is published no more.
    """
    found = Seals()
    numbers = []
    for path in disk.listed(disk.layout.seals):
        match = _NAME.fullmatch(path.name)
        data = disk.read(path) if match is not None else None
        if match is not None and (data is not None or disk.is_file(path)):
            numbers.append(int(match[1]))
        if data is not None and not _take(found, disk.name(path), data, again or Known()):
            numbers.pop()
    far = stray(numbers, last)
    for number in sorted(far):
        what = "its number is far from those of the other seals; what it names is sealed again"
        found.cases.append(Case(Finding(path=disk.name(disk.layout.seal(number)), what=what), "quarantine"))
    _missing(found, disk, set(numbers) - far, last)
    return found


def _missing(found: Seals, disk: Disk, numbers: set[int], last: int) -> None:
    """Note the seals that are not there; one finding a range of them."""
    for missing in gaps(numbers, end=last + 1 if last else 0):
        names = [disk.name(disk.layout.seal(number)) for number in missing]
        to = f", and so are all up to {names[-1]}" if len(names) > 1 else ""
        what = f"it is missing{to}: a collect published it"
        finding = Finding(path=names[0], what=what, held="which results were published", next=_AGAIN)
        # Empty ones in their place; what they named is sealed again by the next collect.
        found.cases.append(Case(finding, "write", seal.encode_seal([]), more=tuple(names[1:])))


def _take(found: Seals, path: str, data: bytes, again: Known) -> bool:
    """Take in one seal; return whether it is one."""
    whole, bad = mended_lines(data)
    try:
        head = seal.parse_heads(whole)
        entries = seal.parse_seal(whole)
    except (DamagedError, msgspec.DecodeError) as error:
        remedy: Remedy = "none" if isinstance(error, DamagedError) else "quarantine"
        found.cases.append(Case(Finding(path=path, what=str(error)), remedy))
        return remedy == "none"
    if head is None and not entries:
        what = "nothing in it verifies as a seal"
        held = "which results were published"
        found.cases.append(Case(Finding(path=path, what=what, held=held, next=_AGAIN), "quarantine"))
        return False
    for entry in entries:
        if not again.unsealed(entry.trial, entry.end):
            found.results.setdefault(entry.trial, (entry.end, entry.worker))
    _heads(found, head)
    complete = not bad and head is not None and head[0] == len(entries) and whole.endswith(b"\n")
    if complete and whole == data:
        return True
    if complete:
        what = "it has one wrong byte, which the checksums give back"
        found.cases.append(Case(Finding(path=path, what=what), "write", whole))
        return True
    expected = f" of {head[0]}" if head is not None else ""
    what = f"{len(entries)}{expected} entries verify"
    finding = Finding(path=path, what=what, held="which results were published", next=_AGAIN)
    found.cases.append(Case(finding, "write", seal.encode_seal(entries, head[1] if head else None)))
    return True


def _heads(found: Seals, head: tuple[int, dict[str, tuple[int, str]]] | None) -> None:
    for name, (size, digest) in head[1].items() if head is not None else ():
        if size >= found.heads.get(name, (0, ""))[0]:
            found.heads[name] = size, digest


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
