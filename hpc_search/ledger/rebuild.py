"""The index from the journals: pure functions from records to entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.ledger.history import Result
from hpc_search.records import index as codec
from hpc_search.records import journal as lines
from hpc_search.records.index import Entry, Header


def end_entry(end: lines.End, checksum: str, worker: str, before: Entry) -> Entry:
    """Return the entry after *end* by *worker*, where *before* stood."""
    state = codec.STATES.index(end.state)
    progressed = end.step > before.step
    own = end.cause in ("error", "oom", "nonfinite", "noop")
    # Without a cause it was given back unstarted: that is no attempt.
    stalls = 0 if progressed or own else before.stalls + (end.cause != "")
    return Entry(
        state=state,
        cause=codec.CAUSES.index(end.cause),
        rung=end.rung,
        attempt=max(end.attempt, before.attempt),
        owner=int(worker, 16) if state >= codec.DONE else 0,
        value=end.value if end.value is not None else 0.0,
        end=int(checksum, 16) if state >= codec.DONE else 0,
        seconds=before.seconds + end.seconds,
        changed=int(end.t),
        step=max(end.step, before.step),
        errors=min(255, before.errors + (end.cause == "error")),
        ooms=min(255, before.ooms + (end.cause == "oom")),
        stalls=min(255, stalls),
        flags=codec.FLAG_EFFECTIVE if end.effective else 0,
        batch=next((value for value in end.effective.values() if isinstance(value, int)), 0),
    )


def rebuild(layout: Layout, trials: int, generation: int) -> bytes:
    """Return a whole index made from every journal.

    Final states come from the accepted end records; a trial with a claim and no end after it is shown
    as running by its last owner, so that the usual take-over decides what becomes of it.
    """
    finals = history.results(layout)
    entries = _open_entries(layout, finals)
    for number, result in finals.items():
        before = entries.get(number, Entry())
        entries[number] = end_entry(result.end, result.checksum, result.worker, before)
    header = Header(trials, len(finals), _cursor(entries, trials), generation)
    data = bytearray(codec.index_bytes(trials))
    data[: codec.HEADER_BYTES] = codec.encode_header(header)
    for number, entry in entries.items():
        at = codec.entry_offset(number)
        data[at : at + codec.RECORD_BYTES] = codec.encode_entry(entry)
    return bytes(data)


def _open_entries(layout: Layout, finals: Mapping[int, Result]) -> dict[int, Entry]:
    events: list[tuple[int, int, float, str, lines.Claim | lines.End, str]] = []
    for line in history.lines(layout, frozenset({b"claim", b"end"})):
        record = lines.parse_line(line.data)
        if isinstance(record, lines.End) and record.state in lines.FINAL:
            continue
        if isinstance(record, lines.Claim | lines.End):
            order = int(isinstance(record, lines.End))
            checksum = line.data[-18:-2].decode()
            events.append((record.attempt, order, record.t, line.worker, record, checksum))
    events.sort(key=lambda event: event[:4])
    return _replay(events, finals)


def _replay(
    events: Iterable[tuple[int, int, float, str, lines.Claim | lines.End, str]], finals: Mapping[int, Result]
) -> dict[int, Entry]:
    entries: dict[int, Entry] = {}
    for attempt, _, _, worker, record, checksum in events:
        before = entries.get(record.trial, Entry())
        if isinstance(record, lines.End):
            entries[record.trial] = end_entry(record, checksum, worker, before)
        elif record.trial not in finals:
            state = codec.RUNNING
            entries[record.trial] = before._replace(
                state=state, attempt=attempt, owner=int(worker, 16), changed=int(record.t)
            )
    return entries


def _cursor(entries: Mapping[int, Entry], trials: int) -> int:
    for number in range(trials):
        entry = entries.get(number)
        if entry is None or entry.state == codec.PENDING:
            return number
    return trials
