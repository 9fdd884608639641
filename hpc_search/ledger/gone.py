"""Workers whose jobs the scheduler no longer knew when `submit` asked it; workers do not ask for this.

The ids stand in the records of later submissions. Ids, not tokens: a job that is requeued by hand after
its end gives a new worker under the old token.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress

import msgspec

from hpc_search.layout import Layout
from hpc_search.ledger import liveness
from hpc_search.ledger.index import IndexDamagedError, read_index
from hpc_search.records import index as codec


class _Record(msgspec.Struct, frozen=True):
    gone: tuple[str, ...] = ()


def owners(layout: Layout, tokens: Collection[str]) -> tuple[str, ...]:
    """Return the workers of *tokens* that own trials by the index, sorted; none where it cannot be read."""
    try:
        _, entries = read_index(layout)
    except IndexDamagedError:
        return ()
    held = {entry.owner for entry in entries if entry.state in (codec.CLAIMED, codec.RUNNING)}
    return tuple(
        worker for worker in (f"{owner:016x}" for owner in sorted(held)) if _of(layout, worker, tokens)
    )


def _of(layout: Layout, worker: str, tokens: Collection[str]) -> bool:
    opening, _ = liveness.opening_of(layout, worker)
    return opening is not None and opening.token in tokens


def reported(layout: Layout) -> frozenset[str]:
    """Return all workers that a submission found gone; a record that cannot be read says nothing."""
    found: set[str] = set()
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(layout.submits)
    for name in names:
        with suppress(OSError, msgspec.DecodeError):
            found.update(msgspec.json.decode((layout.submits / name).read_bytes(), type=_Record).gone)
    return frozenset(found)
