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
from hpc_search.ledger import liveness, marks, mode
from hpc_search.ledger.index import IndexDamagedError, read_image
from hpc_search.records import checked
from hpc_search.records import index as codec


class _Record(msgspec.Struct, frozen=True):
    gone: tuple[str, ...] = ()


def owners(layout: Layout, tokens: Collection[str]) -> tuple[str, ...]:
    """Return the workers of *tokens* that own trials now, sorted; none where that cannot be read."""
    return tuple(worker for worker in sorted(_owners(layout)) if _of(layout, worker, tokens))


def _owners(layout: Layout) -> set[str]:
    if mode.exclusive(layout):
        return marks.holders(layout)
    try:
        image = read_image(layout)
    except IndexDamagedError:
        return set()
    held = image.numbers(codec.CLAIMED, codec.RUNNING)
    return {f"{image.entry(number).owner:016x}" for number in held}


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
            data = (layout.submits / name).read_bytes()
            if checked.verifies(data):
                found.update(msgspec.json.decode(data, type=_Record).gone)
    return frozenset(found)
