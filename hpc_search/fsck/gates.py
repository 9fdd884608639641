"""What was decided of blocks and searches of a plan: ledger/stages and ledger/stopped."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final, TypeVar

from hpc_search.errors import DamagedError
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding, note
from hpc_search.fsck.mend import mend_lines
from hpc_search.records import checked
from hpc_search.records.plan import Plan
from hpc_search.records.search import Struct
from hpc_search.records.stages import Opened, StoppedPart

_RECORD: Final = re.compile(r"(\d{2,})\.json")
_AGAIN: Final = "the next worker, or `submit`, makes it again from the same results"
_T = TypeVar("_T", bound=Struct)


def check_gates(disk: Disk, plan: Plan) -> Iterator[Case]:
    """Yield what is wrong with what was decided, and which searches stopped by themselves."""
    layout, parts = disk.layout, plan.search.parts
    for number, path in _numbered(disk, layout.stages):
        opened = yield from _record(disk, path, Opened, _AGAIN)
        if opened is not None and not opened.block == number < len(plan.blocks):
            what = f"it is of block {opened.block}, expected block {number} of a plan with {len(plan.blocks)}"
            yield Case(Finding(path=disk.name(path), what=what, next=_AGAIN), "quarantine")
    for number, path in _numbered(disk, layout.stopped_parts):
        claims = "workers claim from that search again"
        stopped = yield from _record(disk, path, StoppedPart, claims)
        if stopped is not None and not stopped.part == number < len(parts):
            what = f"it is of search {stopped.part}, expected search {number} of a plan with {len(parts)}"
            yield Case(Finding(path=disk.name(path), what=what, next=claims), "quarantine")
        elif stopped is not None:
            yield note(disk.name(path), f"search {parts[number].name!r} stopped: {stopped.why}")


def _numbered(disk: Disk, directory: Path) -> Iterator[tuple[int, Path]]:
    for path in disk.listed(directory):
        match = _RECORD.fullmatch(path.name)
        if match is not None:
            yield int(match[1]), path


def _record(disk: Disk, path: Path, kind: type[_T], after: str) -> Generator[Case, None, _T | None]:
    """Yield the case of a record that does not verify; return what it holds, None for nothing."""
    name, data = disk.name(path), disk.read(path)
    if data is None:
        return None
    if not checked.verifies(data):
        mended = mend_lines(data)
        if mended is not None and checked.verifies(mended):
            what = "it has one wrong byte, which its checksum gives back"
            yield Case(Finding(path=name, what=what), "write", mended)
            data = mended
    try:
        return checked.decode(data, kind, name)
    except DamagedError:
        yield Case(
            Finding(path=name, what="it does not verify", held="what was decided", next=after), "quarantine"
        )
        return None
