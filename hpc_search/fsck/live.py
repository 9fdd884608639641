"""Which workers may still be at work; unknown means alive."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.journals import Facts
from hpc_search.layout import WORKER_ID, Layout, parse_journal
from hpc_search.ledger import liveness
from hpc_search.records import checked
from hpc_search.records import journal as codec
from hpc_search.records.journal import Open

#: An opening record and an exit record are shorter than this.
_EDGE: Final = 16 << 10
#: token -> whether a scheduler, asked now, does not know any task of it.
Absent = Callable[[str], bool]


class _Record(msgspec.Struct, frozen=True):
    gone: tuple[str, ...] = ()


def maybe_live(disk: Disk, facts: Facts | None = None, run_id: str = "") -> dict[str, Open | None]:
    """Return the workers that did not exit and are not known to be gone, with their opening lines.

    *facts* has lines that are damaged on disk and could be put right; of workers of a run other than *run_id*
    nothing is said.
    """
    me = liveness.this_process()
    departed = _departed(disk)
    found: dict[str, Open | None] = {}
    for folder in disk.listed(disk.layout.workers):
        worker = folder.name
        if WORKER_ID.fullmatch(worker) is None or not os.path.isdir(folder):
            continue
        opening, exited = _edges(disk, folder)
        if facts is not None:
            opening = opening or facts.openings.get(worker)
            exited = exited or worker in facts.exited
        other = opening is not None and run_id and opening.run_id != run_id
        if exited or worker in departed or other:
            continue
        if opening is None or not liveness.certainly_gone(opening, me):
            found[worker] = opening
    return found


def _edges(disk: Disk, folder: Path) -> tuple[Open | None, bool]:
    """Return the newest opening record of a worker and whether its journal says that it exited."""
    opening: Open | None = None
    exited = False
    numbers = (parse_journal(path.name) for path in disk.listed(folder))
    for number in sorted(number for number in numbers if number is not None):
        path = disk.layout.journal(folder.name, number)
        size = disk.size(path) or 0
        head, tail = disk.read(path, 0, _EDGE) or b"", disk.read(path, max(0, size - _EDGE)) or b""
        record = codec.parse_line(head.partition(b"\n")[0])
        opening = record if isinstance(record, Open) else opening
        last = codec.parse_line(tail.rpartition(b"\n")[0].rpartition(b"\n")[2])
        exited = exited or isinstance(last, codec.Exit)
    return opening, exited


def _departed(disk: Disk) -> set[str]:
    """Return the workers that a submission found gone; a record that cannot be read says nothing."""
    found: set[str] = set()
    for path in disk.listed(disk.layout.submits):
        data = disk.read(path) or b""
        if checked.verifies(data):
            with suppress(msgspec.DecodeError):
                found.update(msgspec.json.decode(data, type=_Record).gone)
    return found


def live_workers(
    disk: Disk, lease: float, absent: Absent, facts: Facts | None = None, run_id: str = ""
) -> dict[str, str]:
    """Return worker -> where it is, for those that may be live; for a repair, which writes.

    One whose heartbeat did not change for longer than its *lease*, by two times of the file server, or
    whose token no scheduler knows, is dead.
    """
    layout = disk.layout
    candidates = maybe_live(disk, facts, run_id)
    if not candidates:
        return {}
    now = server_time(layout)
    found = {}
    for worker, opening in candidates.items():
        silent = now - _last_sign(layout, worker) > lease
        if not silent and not (opening is not None and opening.token and absent(opening.token)):
            found[worker] = (
                f"{opening.host} (pid {opening.pid})" if opening is not None else "an unknown host"
            )
    return found


def server_time(layout: Layout) -> float:
    """Return the file server's time: that of a file written now."""
    path = durable.temporary_name(layout.root / "now")
    durable.write_file(path, b"")
    try:
        return path.stat().st_mtime
    finally:
        path.unlink(missing_ok=True)


def _last_sign(layout: Layout, worker: str) -> float:
    times = [0.0]
    with suppress(OSError):
        times += [entry.stat().st_mtime for entry in os.scandir(layout.worker(worker))]
    return max(times)
