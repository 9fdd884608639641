"""The trial ledger: journals are the truth, the index arbitrates, locks only save work."""

from __future__ import annotations

from hpc_search.ledger.claims import Claimed, Ledger
from hpc_search.ledger.history import Line, Result, lines, results
from hpc_search.ledger.index import IndexDamagedError, new_index, read_entry, read_index
from hpc_search.ledger.liveness import Identity, this_process
from hpc_search.ledger.state import (
    USED_UP,
    finals,
    is_final,
    left,
    paused,
    read_state,
    read_trial,
    used_up,
)
from hpc_search.records.provenance import library_versions

__all__ = [
    "USED_UP",
    "Claimed",
    "Identity",
    "IndexDamagedError",
    "Ledger",
    "Line",
    "Result",
    "finals",
    "is_final",
    "left",
    "library_versions",
    "lines",
    "new_index",
    "paused",
    "read_entry",
    "read_index",
    "read_state",
    "read_trial",
    "results",
    "this_process",
    "used_up",
]
