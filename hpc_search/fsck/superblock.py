"""The names in one directory of ledger/open: each holds what belongs there, or is set aside.

What they say is made again from the journals: who claimed what is forgotten, nobody is at work then.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.journals import Facts
from hpc_search.layout import WORKER_ID
from hpc_search.ledger.superblocks import SUPERBLOCK, Accepted, parse_accepted, parse_paused
from hpc_search.records.seal import SealEntry

_CLAIM: Final = re.compile(r"([cp])(\d+)\.(\d+)")
_DONE: Final = re.compile(r"d(\d+)")
_NUMBER: Final = re.compile(r"[1-9]\d{0,2}")
_CHECKSUM: Final = re.compile(r"[0-9a-f]{16}")
#: A name that is no link is a small file; longer ones are none of ours.
_LONGEST: Final = 200


@dataclass(slots=True)
class Names:
    """What a directory holds: trials a block (0: unknown), results by trial, and what is wrong."""

    directory: Path
    size: int = 0
    results: dict[int, Accepted] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)


def read_names(disk: Disk, directory: Path, trials: range, facts: Facts) -> Names:
    """Return what stands in *directory*, whose superblock has the numbers *trials*."""
    found = Names(directory)
    there = {path.name: path for path in disk.listed(directory)}
    text = _content(disk, there["size"]) if "size" in there else ""
    if text is not None and _NUMBER.fullmatch(text) and int(text) <= SUPERBLOCK:
        found.size = int(text)
    elif "size" in there:
        _aside(found, disk, there["size"], text, f"a number of trials from 1 to {SUPERBLOCK}")
    for name, path in there.items():
        if claim := _CLAIM.fullmatch(name):
            _claim(found, disk, path, claim[1] == "p", len(trials))
        elif _DONE.fullmatch(name):
            _done(found, disk, path, trials, facts)
    return found


def _claim(found: Names, disk: Disk, path: Path, paused: bool, trials: int) -> None:
    block = int(path.name[1:].partition(".")[0])
    if not found.size:
        what = "it claims a block, and `size`, which says what a block is, cannot be used"
        found.cases.append(Case(Finding(path=disk.name(path), what=what, held="a claim"), "quarantine"))
        return
    text = _content(disk, path)
    if block * found.size >= trials:
        _aside(found, disk, path, text, "a block of the superblock")
    elif paused:
        if parse_paused(text) is None:
            _aside(found, disk, path, text, "the entry of a paused trial")
    elif text is None or WORKER_ID.fullmatch(text) is None:
        _aside(found, disk, path, text, "the id of a worker")


def _done(found: Names, disk: Disk, path: Path, trials: range, facts: Facts) -> None:
    trial, text = int(path.name[1:]), _content(disk, path)
    if trial not in trials:
        _aside(found, disk, path, text, f"a result of the trials {trials.start} to {trials.stop - 1}")
        return
    result = parse_accepted(text)
    if result is None or not (WORKER_ID.fullmatch(result.worker) and _CHECKSUM.fullmatch(result.end)):
        again = entry_at(trial, facts)
        content = f"{again.attempt}.{again.worker}.{again.end}".encode() if again is not None else b""
        _aside(found, disk, path, text, f"the result of trial {trial}", (trial,), content)
    else:
        found.results[trial] = result


def _aside(
    found: Names,
    disk: Disk,
    path: Path,
    text: str | None,
    expected: str,
    trials: tuple[int, ...] = (),
    content: bytes = b"",
) -> None:
    holds = "is no name with a content" if text is None else f"holds {text[:60]!r}"
    finding = Finding(path=disk.name(path), what=f"it {holds}, expected {expected}", trials=trials)
    found.cases.append(Case(finding, "quarantine", content))


def _content(disk: Disk, path: Path) -> str | None:
    """Return the content of a name: of a link its target, of a file what is in it; else None."""
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno != errno.EINVAL:
            return None
    data = disk.read(path, 0, _LONGEST)
    return data.decode(errors="replace") if data is not None else None


def entry_at(place: int, facts: Facts) -> SealEntry | None:
    """Return what ended at *place* by the journals: a result, or a failure that was taken back."""
    trial = facts.again.trial(place)
    for ended, one in facts.again.ended() if facts.again.place(trial) != place else ():
        if ended == place:
            return SealEntry(trial=place, attempt=one.attempt, worker=one.worker, end=one.end)
    entry = entry_of(trial, facts)
    return entry and SealEntry(trial=place, attempt=entry.attempt, worker=entry.worker, end=entry.end)


def entry_of(trial: int, facts: Facts) -> SealEntry | None:
    """Return the result of *trial* by the journals: an accepted one, else the lowest (attempt, worker)."""
    finals = facts.finals(trial)
    if not finals:
        return None
    accepted = facts.accepted.get(trial, {})
    order = {
        checksum: (checksum not in accepted, end.attempt, worker)
        for checksum, (end, worker) in finals.items()
    }
    checksum = min(order, key=lambda one: order[one])
    end, worker = finals[checksum]
    return SealEntry(trial=trial, attempt=end.attempt, worker=worker, end=checksum)
