"""The names in ledger/open, of runs that claim by exclusively created names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from hpc_search import durable
from hpc_search.errors import DamagedError
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.journals import Facts
from hpc_search.fsck.seals import mended_lines
from hpc_search.layout import Layout
from hpc_search.ledger import mode, names, superblocks
from hpc_search.ledger.superblocks import SUPERBLOCK
from hpc_search.records.plan import Plan
from hpc_search.records.seal import SealEntry, encode_seal, parse_seal

_SEALED: Final = re.compile(r"sealed\.(\d{8})-(\d{8})")


class Marks(NamedTuple):
    """trial -> (checksum, worker) of the results named below ledger/open, and what is wrong there."""

    results: dict[int, tuple[str, str]]
    cases: list[Case]


def uses_names(layout: Layout) -> bool:
    """Return whether the run claims by exclusively created names."""
    return mode.exclusive(layout)


def check_names(layout: Layout, plan: Plan, facts: Facts) -> Marks:
    """Return what the names say; a seal that is damaged is completed from the journals."""
    named = {trial: (one.end, one.worker) for trial, one in superblocks.accepted(layout).items()}
    cases: list[Case] = []
    covered: set[int] = set()
    for path in sorted(layout.open.iterdir()) if layout.open.is_dir() else ():
        match = _SEALED.fullmatch(path.name)
        if match is not None:
            trials = range(int(match[1]), int(match[2]))
            covered.update(trials)
            name = path.relative_to(layout.root).as_posix()
            cases += _seal(name, path.read_bytes(), trials, facts, named)
        elif path.name.isdecimal():
            first = int(path.name) * SUPERBLOCK
            covered.update(range(first, first + SUPERBLOCK))
    if plan.claiming == "exclusive":
        cases += _unsealed(layout, plan.trials, covered, facts)
    return Marks(named, cases)


def _seal(
    name: str, data: bytes, trials: Sequence[int], facts: Facts, named: dict[int, tuple[str, str]]
) -> Iterator[Case]:
    whole, bad = mended_lines(data)
    try:
        entries = {entry.trial: entry for entry in parse_seal(whole)}
    except DamagedError as error:
        yield Case(Finding(path=name, what=error.message))
        return
    missing = [trial for trial in trials if trial not in entries]
    if not bad and not missing and whole == data and whole.endswith(b"\n"):
        return
    for trial in missing:
        found = _entry(trial, facts)
        if found is not None:
            entries[trial] = found
    named.update({trial: (entry.end, entry.worker) for trial, entry in entries.items()})
    content = whole if not bad and not missing else encode_seal(entries.values())
    what = f"{len(trials) - len(missing)} of {len(trials)} entries verify"
    if not missing:
        what = "it has a wrong byte, which the checksums give back"
    yield Case(Finding(path=name, what=what, held="which trials are final"), "write", content)


def _entry(trial: int, facts: Facts) -> SealEntry | None:
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


def _unsealed(layout: Layout, trials: int, covered: set[int], facts: Facts) -> Iterator[Case]:
    """Yield the superblocks that ended and of which there is neither a directory nor a seal."""
    for first in range(0, trials, SUPERBLOCK):
        end = min(first + SUPERBLOCK, trials)
        if first in covered or not any(facts.finals(trial) for trial in range(first, end)):
            continue
        entries = [_entry(trial, facts) for trial in range(first, end)]
        known = [entry for entry in entries if entry is not None]
        path = layout.superblock_seal(first, end).relative_to(layout.root).as_posix()
        finding = Finding(
            path=path, what="it is missing, and its trials have results", held="which are final"
        )
        if len(known) == end - first:
            yield Case(finding, "write", encode_seal(known))
        else:
            # Whoever opens it again takes the results from the journals.
            folder = layout.superblock(first // SUPERBLOCK).relative_to(layout.root).as_posix()
            what = "it is missing, and trials of it have results"
            yield Case(Finding(path=folder, what=what, held="claims"), "folder")


def reopen(layout: Layout, lost: Sequence[int]) -> None:
    """Take back that the trials *lost* are final, so that they run again; everything else stays accepted.

    A new directory is complete before the seal that covers its trials goes.
    """
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
