"""How a worker joins a run: its directory, and the first record of every segment of its journal."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger.journal import RESERVE_BYTES
from hpc_search.ledger.liveness import Identity
from hpc_search.records import journal as lines


def join(layout: Layout) -> str:
    """Make the directory of another worker and return its id."""
    while True:
        worker = secrets.token_hex(8)
        try:
            os.mkdir(layout.worker(worker), 0o700)
        except FileExistsError:
            continue
        durable.write_file(layout.reserve(worker), bytes(RESERVE_BYTES))
        return worker


def opening(me: Identity, run_id: str, worker: str, versions: Mapping[str, str], segment: int) -> lines.Open:
    """Return the first record of *segment* of the journal of *worker*."""
    return lines.Open(
        version=lines.VERSION,
        worker=worker,
        run_id=run_id,
        segment=segment,
        host=me.host,
        boot_id=me.boot_id,
        pid=me.pid,
        start_time=me.start_time,
        token=me.token,
        seat=me.seat,
        restart=me.restart,
        cluster=me.cluster,
        job_id=me.job_id,
        device=me.device,
        machine=me.machine,
        versions=dict(versions),
    )
