"""The lists of failures that were taken back: what of them verifies is believed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec

from hpc_search.errors import DamagedError
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.mend import mend_lines
from hpc_search.fsck.numbers import gaps, stray
from hpc_search.layout import parse_journal
from hpc_search.ledger import history
from hpc_search.ledger.placing import COPY
from hpc_search.ledger.retries import Known
from hpc_search.records import archive, checked, journal
from hpc_search.records.retries import Retries, parse_retries

_NAME: Final = re.compile(r"(\d{4,})\.json")
_HELD: Final = "which failures do not count any more"
_LOST: Final = "that trials were to run again: their failures count, `retry` takes them back again"
_COPY: Final = "the journal of the command has a copy"


@dataclass(slots=True)
class Found:
    """The retries that verify, and what is wrong with the others."""

    known: Known = field(default_factory=Known)
    cases: list[Case] = field(default_factory=list)


def read_retries(disk: Disk, run_id: str) -> Found:
    """Check ledger/retries of run *run_id*, "" where that is not known."""
    found = Found()
    copies = _copies(disk, run_id)
    good = {number: one for number, (one, _) in copies.items()}
    there: set[int] = set()
    for path in disk.listed(disk.layout.retries):
        match = _NAME.fullmatch(path.name)
        data = disk.read(path) if match is not None else None
        if match is None or data is None:
            continue
        there.add(int(match[1]))
        whole = data if checked.verifies(data) else mend_lines(data)
        try:
            good[int(match[1])] = parse_retries(whole or b"", disk.name(path))
        except (DamagedError, msgspec.DecodeError) as error:
            why = _words(error).removeprefix(f"{disk.name(path)} ")
            if int(match[1]) in copies:
                content, what = copies[int(match[1])][1], f"it {why}; {_COPY}"
                found.cases.append(
                    Case(Finding(path=disk.name(path), what=what, held=_HELD), "write", content)
                )
                continue
            finding = Finding(path=disk.name(path), what=f"it {why}", held=_HELD, lost=_LOST)
            found.cases.append(Case(finding, "quarantine"))
            # The index, which may show some of them as pending, has to agree with the journals.
            found.cases.append(Case(msgspec.structs.replace(finding, path="ledger/claims.bin"), "rebuild"))
            continue
        if whole is not None and whole != data:
            what = "it has one wrong byte, which its checksum gives back"
            found.cases.append(Case(Finding(path=disk.name(path), what=what, held=_HELD), "write", whole))
    for number in sorted(copies.keys() - there):
        finding = Finding(
            path=disk.name(disk.layout.retry(number)), what=f"it is missing; {_COPY}", held=_HELD
        )
        found.cases.append(Case(finding, "write", copies[number][1]))
    there |= copies.keys()
    found.cases += _missing(disk, there - stray(there))
    numbers = tuple(sorted(good))
    found.known = Known(tuple(good[number] for number in numbers), numbers)
    return found


def _copies(disk: Disk, run_id: str) -> dict[int, tuple[Retries, bytes]]:
    """Return number -> (list, content) of the lists that the journals of run *run_id* hold, too."""
    found: dict[int, tuple[Retries, bytes]] = {}
    for data in _journals(disk):
        if history.stranger(data, run_id.encode()):
            continue
        for _, line in history.verified(data, frozenset({b"note"})):
            record = journal.parse_line(line)
            if isinstance(record, journal.Note) and record.event == COPY:
                number, _, text = record.text.partition(" ")
                content = text.encode() + b"\n"
                with suppress(ValueError, DamagedError):
                    found[int(number)] = parse_retries(content, COPY), content
    return found


def _journals(disk: Disk) -> Iterator[bytes]:
    """Yield what every segment holds, live and archived."""
    for folder in disk.listed(disk.layout.workers):
        for path in disk.listed(folder):
            if parse_journal(path.name) is not None:
                yield disk.read(path) or b""
    for path in disk.listed(disk.layout.archive):
        data = disk.read(path) or b""
        yield from (section.content(data) for section in archive.sections(data))


def _words(error: Exception) -> str:
    return error.message if isinstance(error, DamagedError) else str(error)


def _missing(disk: Disk, numbers: set[int]) -> Iterator[Case]:
    for number in (number for missing in gaps(numbers) for number in missing):
        finding = Finding(path=disk.name(disk.layout.retry(number)), what="it is missing", lost=_LOST)
        yield Case(finding, "accept", b"", f"retry/{number}")
