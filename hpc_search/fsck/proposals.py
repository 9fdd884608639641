"""The log of proposed points: every entry against its checksum and the one behind it, and the journals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from hpc_search.errors import DamagedError
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.journals import Facts
from hpc_search.fsck.mend import mend_lines
from hpc_search.records import checked
from hpc_search.records.plan import Plan
from hpc_search.records.proposals import Entry, encode_entries, family_of

_ENTRY: Final = re.compile(r"\d{7}")
_PACKED: Final = re.compile(r"packed\.(\d{7})-(\d{7})\.jsonl")
_HELD: Final = "which point was proposed"


@dataclass(slots=True)
class _Log:
    """The entries that verify, by number; where each stands; what is damaged there, in words."""

    entries: dict[int, Entry] = field(default_factory=dict)
    places: dict[int, Path] = field(default_factory=dict)
    wrong: dict[int, str] = field(default_factory=dict)


def check_proposals(disk: Disk, facts: Facts, plan: Plan) -> Iterator[Case]:
    """Yield the entries that are damaged or missing, with the bytes that the journals give back.

    One that no journal knows was run by nobody: an entry that stands for nothing takes its place.
    """
    log = _read(disk)
    count = max([*log.places, *facts.proposed], default=-1) + 1
    whole: list[Entry] = []
    for number in range(count):
        behind = log.entries.get(number + 1)
        after = whole[-1].mark if whole else ""
        whole.append(log.entries.get(number) or _again(number, after, behind, facts, plan))
        if number not in log.entries and number not in log.wrong:
            log.wrong[number] = f"entry {number} is missing"
    for path, numbers in _by_path(disk, log, count).items():
        first, end = min(numbers), max(numbers) + 1
        yield from _cases(disk, path, {n: log.wrong[n] for n in numbers if n in log.wrong}, whole[first:end])


def _read(disk: Disk) -> _Log:
    log = _Log()
    paths = disk.listed(disk.layout.proposals)
    # A name beside its pack is left of a worker that was killed while it packed, and counts for nothing.
    for path in sorted(paths, key=lambda path: _PACKED.fullmatch(path.name) is None):
        packed = _PACKED.fullmatch(path.name)
        if packed is not None:
            _take(disk, log, path, range(int(packed[1]), int(packed[2])))
        elif _ENTRY.fullmatch(path.name) is not None and int(path.name) not in log.places:
            _take(disk, log, path, range(int(path.name), int(path.name) + 1))
    return log


def _take(disk: Disk, log: _Log, path: Path, numbers: range) -> None:
    log.places.update(dict.fromkeys(numbers, path))
    lines = (disk.read(path) or b"").splitlines(keepends=True)
    for place, number in enumerate(numbers):
        line = lines[place] if place < len(lines) else b""
        entry = _entry(line, number)
        mended = mend_lines(line) if entry is None and line else None
        if entry is None:
            log.wrong[number] = f"entry {number} does not verify"
            entry = _entry(mended or b"", number)
        if entry is not None:
            log.entries[number] = entry


def _entry(line: bytes, number: int) -> Entry | None:
    try:
        entry = checked.decode(line, Entry, "")
    except (DamagedError, msgspec.DecodeError):
        return None
    return entry if entry.entry == number else None


def _again(number: int, after: str, behind: Entry | None, facts: Facts, plan: Plan) -> Entry:
    """Return entry *number* as the journals have it; where they do not, one that counts for nothing."""
    record, worker = facts.proposed.get(number, (None, ""))
    if record is not None:
        made = Entry(
            entry=number,
            point=record.point,
            params=record.params,
            family=_family(plan, record.point),
            worker=worker,
            history=record.history,
            seen=record.seen,
            after=after,
        )
        if behind is None or behind.after == made.mark:
            return made
    return Entry(entry=number, point=-1, params={}, after=after, lost=behind.after if behind else "")


def _family(plan: Plan, point: int) -> str:
    blocks = (block for block in plan.blocks if block.first_point <= point < block.first_point + block.points)
    return next(map(family_of, blocks), "")


def _by_path(disk: Disk, log: _Log, count: int) -> dict[Path, list[int]]:
    """Return the numbers of the entries of every file that is there or should be."""
    found: dict[Path, list[int]] = {}
    for number in range(count):
        found.setdefault(log.places.get(number, disk.layout.proposal(number)), []).append(number)
    return found


def _cases(disk: Disk, path: Path, wrong: Mapping[int, str], entries: list[Entry]) -> Iterator[Case]:
    content = encode_entries(entries)
    for number, what in wrong.items():
        entry = entries[number - entries[0].entry]
        lost = "" if entry.point >= 0 else "what its worker proposed before it was killed: nobody ran it"
        yield Case(Finding(path=disk.name(path), what=what, held=_HELD, lost=lost), "write", content)
    if not wrong and len((disk.read(path) or b"").splitlines()) > len(entries):
        what = f"it holds more than the entries {entries[0].entry} to {entries[-1].entry}"
        yield Case(Finding(path=disk.name(path), what=what), "write", content)
