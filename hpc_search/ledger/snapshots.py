"""Sources that were taken again: ledger/snapshots/NNNN.json, published once each; the newest one counts."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records import checked
from hpc_search.records import journal as codec
from hpc_search.records.plan import Plan
from hpc_search.records.provenance import SnapshotRecord

#: Event of the note of a worker with the digest of its sources.
CODE: Final = "code"
_NOTE: Final = b'"event":"code"'
_NAME: Final = re.compile(r"(\d{4,})\.json")
_UNREADABLE: Final = "`hpc-search fsck RUN --repair` sets it aside; then `submit --resnapshot` again"


class Current(NamedTuple):
    """The sources of workers that start now: the archive, its digest ("" for none), and its record's number.

    ``any_packages``: whether installed packages may differ from those of the plan.
    """

    path: Path
    digest: str
    number: int = 0
    any_packages: bool = False


def current(layout: Layout, plan: Plan) -> Current:
    """Return which sources workers run that start now.

    Raises:
        DamagedError: The newest record does not verify.
    """
    numbers = numbers_of(layout)
    if not numbers:
        return Current(layout.code, plan.code_digest)
    record = load(layout, numbers[-1])
    return Current(layout.root / record.code, record.digest, record.number, record.packages == "any")


def numbers_of(layout: Layout) -> list[int]:
    """Return the numbers of the records, ascending."""
    try:
        names = os.listdir(layout.snapshots)
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match is not None)


def load(layout: Layout, number: int) -> SnapshotRecord:
    """Return record *number*.

    Raises:
        DamagedError: It does not verify.
    """
    path = layout.snapshot_record(number)
    return checked.decode(durable.read_bytes(path), SnapshotRecord, str(path), _UNREADABLE)


def code_of(data: bytes) -> str:
    """Return the digest of the sources that the worker of the journal *data* ran, "" where it says none."""
    at = data.find(_NOTE)
    if at < 0:
        return ""
    end = data.find(b"\n", at)
    record = codec.parse_line(data[data.rfind(b"\n", 0, at) + 1 : end if end >= 0 else len(data)])
    return record.text if isinstance(record, codec.Note) and record.event == CODE else ""


def code_of_worker(layout: Layout, worker: str) -> str:
    """Return the digest of the sources that *worker* ran, "" where no journal says it."""
    files = (file.data for file in history.journal_files(layout) if file.worker == worker)
    return next(filter(None, map(code_of, files)), "")


def publish(layout: Layout, record: SnapshotRecord) -> bool:
    """Publish *record*; return whether its number was free."""
    layout.snapshots.mkdir(mode=0o700, exist_ok=True)
    return durable.publish(layout.snapshot_record(record.number), checked.encode(record))
