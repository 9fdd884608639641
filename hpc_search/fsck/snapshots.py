"""Sources that were taken again: every record, and the archive that it names."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Final

from hpc_search.errors import DamagedError, HpcSearchError
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Case, Finding
from hpc_search.fsck.mend import mend_lines
from hpc_search.planning import archive
from hpc_search.records import checked
from hpc_search.records.plan import Plan
from hpc_search.records.provenance import SnapshotRecord

_RECORD: Final = re.compile(r"(\d{4,})\.json")
_AGAIN: Final = "`hpc-search submit RUN --resnapshot` takes the sources again"


def check_snapshots(disk: Disk, plan: Plan) -> Iterator[Case]:
    """Yield what is wrong with the records of ledger/snapshots and with the archives that they name."""
    checked_archives = {(disk.layout.code.name, plan.code_digest)}
    for path in disk.listed(disk.layout.snapshots):
        match = _RECORD.fullmatch(path.name)
        data = disk.read(path) if match is not None else None
        if match is None or data is None:
            continue
        name = disk.name(path)
        record = yield from _record(name, data, int(match[1]))
        if record is None or (record.code, record.digest) in checked_archives:
            continue
        checked_archives.add((record.code, record.digest))
        try:
            if record.digest:
                archive.read(disk.layout.root / record.code, record.digest)
        except HpcSearchError as error:
            what = error.message.removeprefix(f"{disk.layout.root / record.code} ")
            yield Case(
                Finding(path=record.code, what=what, held="the user's sources as taken again", next=_AGAIN)
            )


def _record(name: str, data: bytes, number: int) -> Generator[Case, None, SnapshotRecord | None]:
    """Yield the case of a record that does not verify; return what it holds, None for nothing."""
    if not checked.verifies(data):
        mended = mend_lines(data)
        finding = Finding(path=name, what="it does not verify", held="which sources workers run", next=_AGAIN)
        if mended is None or not checked.verifies(mended):
            yield Case(finding, "quarantine")
            return None
        what = "it has one wrong byte, which its checksum gives back"
        yield Case(Finding(path=name, what=what), "write", mended)
        data = mended
    try:
        record = checked.decode(data, SnapshotRecord, name)
    except DamagedError:
        record = None
    if record is None or record.number != number:
        yield Case(Finding(path=name, what=f"it is not record {number} of a snapshot"), "quarantine")
        return None
    return record
