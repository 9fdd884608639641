"""Which workers may still be at work; unknown means alive."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from hpc_search import durable
from hpc_search.fsck.journals import Facts
from hpc_search.layout import Layout
from hpc_search.ledger import gone, history, liveness
from hpc_search.records.journal import Open

#: token -> whether a scheduler, asked now, does not know any task of it.
Absent = Callable[[str], bool]


def maybe_live(layout: Layout, facts: Facts | None = None) -> dict[str, Open | None]:
    """Return the workers that did not exit and are not known to be gone, with their opening lines.

    *facts* has lines that are damaged on disk and could be put right.
    """
    me = liveness.this_process()
    departed = gone.reported(layout)
    found: dict[str, Open | None] = {}
    for worker in history.live_workers(layout):
        opening, exited = liveness.opening_of(layout, worker)
        if facts is not None:
            opening = opening or facts.openings.get(worker)
            exited = exited or worker in facts.exited
        if exited or worker in departed:
            continue
        if opening is None or not liveness.certainly_gone(opening, me):
            found[worker] = opening
    return found


def live_workers(layout: Layout, lease: float, absent: Absent, facts: Facts | None = None) -> dict[str, str]:
    """Return worker -> where it is, for those that may be live; for a repair, which writes.

    One whose heartbeat did not change for longer than its *lease*, by two times of the file server, or
    whose token no scheduler knows, is dead.
    """
    candidates = maybe_live(layout, facts)
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
