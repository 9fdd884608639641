"""What puts the index right, under its lock: a header that was left behind, failures that were taken back."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hpc_search.ledger.gates import Gates
from hpc_search.ledger.index import Image, Session
from hpc_search.ledger.retries import Known
from hpc_search.records import index as codec
from hpc_search.records.index import Entry
from hpc_search.records.retries import Retried


def recount(session: Session, gates: Gates) -> None:
    """Put the header right: a worker killed between a record and the header left it behind."""
    header = session.header
    states = bytes(entry.state for entry in session.read_range(0, header.trials))
    finals = sum(state >= codec.DONE for state in states)
    parts = gates.claimable_by_all(0, header.trials)
    places = (states.find(codec.PENDING, free.start, free.stop) for free in parts)
    cursor = next((place for place in places if place >= 0), min(header.trials, gates.end))
    session.header = header._replace(finals=finals, cursor=cursor)


def stray(image: Image, gates: Gates, cursor: int) -> int | None:
    """Return the lowest trial below *cursor* that can be claimed, None where there is none."""
    found = (image.states.find(codec.PENDING, free.start, free.stop) for free in gates.claimable(0, cursor))
    return next((place for place in found if place >= 0), None)


def still_failed(known: Known, image: Image) -> list[tuple[Retried, Entry]]:
    """Return the retries whose failure still stands in the index, as it stands there."""
    found = [(one, image.entry(one.trial)) for one in known.latest() if one.trial < len(image.states)]
    return [
        (one, entry)
        for one, entry in found
        if entry.state == codec.FAILED and entry.again < one.attempt and entry.attempt <= one.attempt
    ]


def reopen(session: Session, failed: Sequence[tuple[Retried, Entry]]) -> int:
    """Make the trials of *failed* pending, but those that another one has reopened; return how many."""
    count = 0
    for one, before in failed:
        if session.read(one.trial) == before:
            session.write(one.trial, one.entry._replace(changed=int(time.time())))
            cursor = min(session.header.cursor, one.trial)
            session.header = session.header._replace(finals=session.header.finals - 1, cursor=cursor)
            count += 1
    return count


def same_owner(before: Entry, now: Entry | None) -> bool:
    """Return whether a trial is still owned as it was *before*."""
    return now is not None and (now.owner, now.attempt, now.state) == (
        before.owner,
        before.attempt,
        before.state,
    )
