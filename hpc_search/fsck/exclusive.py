"""The names in ledger/open, of runs that claim by exclusively created names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.errors import DamagedError
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.journals import Facts
from hpc_search.fsck.seals import mended_lines
from hpc_search.fsck.superblock import entry_at, entry_of, read_names
from hpc_search.layout import Layout
from hpc_search.ledger import mode, names, retries
from hpc_search.ledger.superblocks import SUPERBLOCK
from hpc_search.records.plan import Plan
from hpc_search.records.seal import SealEntry, encode_seal, parse_seal

_SEALED: Final = re.compile(r"sealed\.(\d{8})-(\d{8})")


@dataclass(slots=True)
class Marks:
    """trial -> (checksum, worker) of the results named below ledger/open, and what is wrong there."""

    results: dict[int, tuple[str, str]] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)


def uses_names(layout: Layout, plan: Plan) -> bool:
    """Return whether the run claims by exclusively created names."""
    return plan.claiming == "exclusive" or mode.exclusive(layout)


def check_names(disk: Disk, plan: Plan, facts: Facts) -> Marks:
    """Return what the names say; a seal that is damaged is completed from the journals."""
    marks = Marks()
    covered: set[int] = set()
    known = [range(plan.first_trials), *facts.again.places]
    for path in disk.listed(disk.layout.open):
        match = _SEALED.fullmatch(path.name)
        if match is not None and disk.is_file(path):
            trials = range(int(match[1]), int(match[2]))
            if _plausible(trials, known):
                covered.update(trials)
                _seal(disk, path, trials, facts, marks)
            else:
                marks.cases.append(_beyond(disk, path, plan.trials))
        elif path.name.isdecimal() and os.path.isdir(path):
            trials = _places_of(int(path.name), known)
            if trials:
                covered.update(trials)
                _open(disk, path, trials, facts, marks)
            else:
                marks.cases.append(_beyond(disk, path, plan.trials))
    if plan.claiming == "exclusive":
        marks.cases += _unsealed(disk.layout, known, covered, facts)
    return marks


def _places_of(number: int, known: Sequence[range]) -> range:
    """Return the places of superblock *number*; none where the run has no such one."""
    first = number * SUPERBLOCK
    end = next((places.stop for places in known if first in places), first)
    return range(first, min(first + SUPERBLOCK, end))


def _plausible(sealed: range, known: Sequence[range]) -> bool:
    ends = {places.stop for places in known}
    whole = sealed.start % SUPERBLOCK == 0 and (sealed.stop % SUPERBLOCK == 0 or sealed.stop in ends)
    return whole and sealed.start < sealed.stop <= max(ends)


def _beyond(disk: Disk, path: Path, trials: int) -> Case:
    what = f"it covers no superblock of the plan, which has {trials} trials"
    return Case(Finding(path=disk.name(path), what=what), "quarantine")


def _open(disk: Disk, path: Path, trials: range, facts: Facts, marks: Marks) -> None:
    """Take in what stands in the directory of one superblock."""
    found = read_names(disk, path, trials, facts)
    marks.cases += found.cases
    for place, one in found.results.items():
        trial = facts.again.trial(place)
        if facts.again.place(trial) != place:
            # It failed there, which was taken back.
            continue
        marks.results.setdefault(trial, (one.end, one.worker))
        again = entry_of(trial, facts)
        if again is not None and one.end not in facts.finals(trial):
            # The result of trials without any other end record is told as lost; they run again.
            what = f"it names an end record of worker {one.worker} that no journal holds"
            finding = Finding(path=disk.name(path / f"d{place}"), what=what, trials=(trial,))
            content = f"{again.attempt}.{again.worker}.{again.end}".encode()
            marks.cases.append(Case(finding, "quarantine", content))


def _seal(disk: Disk, path: Path, trials: range, facts: Facts, marks: Marks) -> None:
    """Take in one seal; what is damaged of it is made again from the journals, else the trials run again."""
    name, data = disk.name(path), disk.read(path)
    if data is None:
        return
    whole, bad = mended_lines(data)
    try:
        entries = {entry.trial: entry for entry in parse_seal(whole) if entry.trial in trials}
    except (DamagedError, msgspec.DecodeError) as error:
        marks.cases.append(Case(Finding(path=name, what=str(error)), "quarantine"))
        return
    missing = [trial for trial in trials if trial not in entries]
    again = {place: entry_at(place, facts) for place in missing}
    entries |= {trial: entry for trial, entry in again.items() if entry is not None}
    named = {place: (entry.end, entry.worker) for place, entry in entries.items()}
    # Of these nobody knows what the result was; the seal says that there was one.
    named |= {place: ("", "") for place, entry in again.items() if entry is None}
    known = facts.again
    marks.results |= {
        trial: one for place, one in named.items() if known.place(trial := known.trial(place)) == place
    }
    content = whole if not bad and not missing else encode_seal(entries.values())
    if content == data:
        return
    what = f"{len(trials) - len(missing)} of {len(trials)} entries verify"
    if not missing:
        what = "it has a wrong byte, which the checksums give back"
    marks.cases.append(Case(Finding(path=name, what=what, held="which trials are final"), "write", content))


def _unsealed(layout: Layout, known: Sequence[range], covered: set[int], facts: Facts) -> Iterator[Case]:
    """Yield the superblocks that ended and of which there is neither a directory nor a seal."""
    for places in (
        range(first, min(first + SUPERBLOCK, one.stop)) for one in known for first in one[::SUPERBLOCK]
    ):
        found = [entry for place in places if (entry := entry_at(place, facts)) is not None]
        if places.start in covered or not found:
            continue
        path = layout.superblock_seal(places.start, places.stop).relative_to(layout.root).as_posix()
        finding = Finding(
            path=path, what="it is missing, and its trials have results", held="which are final"
        )
        if len(found) == len(places):
            yield Case(finding, "write", encode_seal(found))
        else:
            # Whoever opens it again takes the results from the journals.
            folder = layout.superblock(places.start // SUPERBLOCK).relative_to(layout.root).as_posix()
            what = "it is missing, and trials of it have results"
            yield Case(Finding(path=folder, what=what, held="claims"), "folder")


def reopen(layout: Layout, lost: Sequence[int]) -> None:
    """Take back that the trials *lost* are final, so that they run again; everything else stays accepted.

    A new directory is complete before the seal that covers its trials goes.
    """
    layout.open.mkdir(mode=0o700, exist_ok=True)
    known = retries.read(layout)
    lost = [known.place(trial) for trial in lost]
    for number in sorted({trial // SUPERBLOCK for trial in lost}):
        marks = layout.superblock(number)
        for trial in lost:
            (marks / f"d{trial}").unlink(missing_ok=True)
    found = (_SEALED.fullmatch(path.name) for path in sorted(layout.open.iterdir()))
    for match in filter(None, found):
        covered = range(int(match[1]), int(match[2]))
        if any(trial in covered for trial in lost):
            _split(layout, covered, set(lost))
            (layout.open / match[0]).unlink()
    durable.fsync_dir(layout.open)


def _split(layout: Layout, covered: range, lost: set[int]) -> None:
    """Publish the superblocks of a seal one by one, as seals or, where a trial is lost, as directories."""
    entries = {entry.trial: entry for entry in _entries(layout, covered)}
    for first in range(covered.start, covered.stop, SUPERBLOCK):
        end = min(first + SUPERBLOCK, covered.stop)
        mine = [entries[trial] for trial in range(first, end) if trial in entries and trial not in lost]
        path = layout.superblock_seal(first, end)
        if len(mine) == end - first and (first, end) != (covered.start, covered.stop):
            durable.publish(path, encode_seal(mine))
            continue
        folder = layout.superblock(first // SUPERBLOCK)
        folder.mkdir(mode=0o700, exist_ok=True)
        for entry in mine:
            names.create(folder / f"d{entry.trial}", f"{entry.attempt}.{entry.worker}.{entry.end}")
        names.create(folder / "size", "1")
        durable.fsync_dir(folder)


def _entries(layout: Layout, covered: range) -> list[SealEntry]:
    return parse_seal(layout.superblock_seal(covered.start, covered.stop).read_bytes())
