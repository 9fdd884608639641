"""What a worker takes for itself in the index, under its lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from hpc_search.ledger.gates import Gates
from hpc_search.ledger.index import Session
from hpc_search.records import index as codec
from hpc_search.records.index import Entry

#: Entries looked at for pending trials in the first read and in every later one. Behind the cursor the
#: next entry is pending, unless trials were given back.
_SCAN: Final = (16, 8192)


def pick(
    session: Session, owner: int, limit: int, gates: Gates, first: int
) -> tuple[list[tuple[int, Entry]], int]:
    """Own up to *limit* pending trials from *first* on, lowest numbers first.

    Returns:
        What they were, and the number from which to look next: below it nothing of these *gates* is pending.
    """
    header = session.header
    taken: list[tuple[int, Entry]] = []
    size = max(limit, _SCAN[0])
    for free in gates.claimable(first, header.trials):
        at = free.start
        while at < free.stop and len(taken) < limit:
            end = min(at + size, free.stop)
            taken += session.pending(at, end, limit - len(taken))
            at, size = end, _SCAN[1]
    for place, (number, entry) in enumerate(taken):
        _own(session, owner, number, entry, codec.CLAIMED if place else codec.RUNNING)
    # Everything up to the last one taken was looked at in order.
    nothing = max(first, min(header.trials, gates.end)) if limit else first
    return taken, taken[-1][0] + 1 if taken else nothing


def take(
    session: Session,
    owner: int,
    numbers: Sequence[int],
    wanted: Callable[[Entry], bool],
    *,
    to_end: bool = False,
) -> list[tuple[int, Entry]]:
    """Own those of the trials *numbers* whose entries are *wanted*, to run or only *to_end* them.

    Returns what they were.
    """
    found = [(number, session.read(number)) for number in numbers]
    taken = [(number, ending(entry) if to_end else entry) for number, entry in found if wanted(entry)]
    for number, entry in taken:
        _own(session, owner, number, entry, codec.RUNNING)
    return taken


def ending(entry: Entry) -> Entry:
    """Return *entry* as whoever only ends the trial has it: if that fails, a paused one is paused again."""
    return entry._replace(flags=entry.flags | codec.FLAG_ENDING) if is_paused(entry) else entry


def is_paused(entry: Entry) -> bool:
    """Return whether the trial waits at a rung."""
    return entry.state == codec.PAUSED


def _own(session: Session, owner: int, number: int, entry: Entry, state: int) -> None:
    attempt = entry.attempt + 1
    session.write(number, entry._replace(state=state, attempt=attempt, owner=owner, changed=int(time.time())))
