"""The index from the journals: pure functions from records to entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from hpc_search.layout import Layout
from hpc_search.ledger import history, retries
from hpc_search.ledger.history import Result
from hpc_search.records import index as codec
from hpc_search.records import journal as lines
from hpc_search.records.index import Entry, Header

_UNTOUCHED: Final = Entry()


def end_entry(end: lines.End, checksum: str, worker: str, before: Entry) -> Entry:
    """Return the entry after *end* by *worker*, where *before* stood."""
    state = codec.STATES.index(end.state)
    progressed = end.step > before.step
    own = end.cause in ("error", "oom", "nonfinite", "noop")
    # Without a cause it was given back unstarted: that is no attempt.
    stalls = 0 if progressed or own else before.stalls + (end.cause != "" and not end.paused)
    return Entry(
        state=state,
        cause=codec.CAUSES.index(end.cause),
        rung=max(end.rung, before.rung),
        attempt=max(end.attempt, before.attempt),
        owner=int(worker, 16) if state >= codec.DONE else 0,
        value=end.value if end.value is not None else 0.0,
        end=int(checksum, 16) if state >= codec.DONE else 0,
        seconds=before.seconds + end.seconds,
        changed=int(end.t),
        step=max(end.step, before.step),
        errors=min(255, before.errors + (end.cause == "error")),
        ooms=min(255, before.ooms + (end.cause == "oom" and not end.host_memory)),
        stalls=min(255, stalls),
        flags=codec.FLAG_EFFECTIVE * bool(end.effective) | codec.FLAG_LEFT_OUT * end.left_out,
        batch=next((value for value in end.effective.values() if isinstance(value, int)), 0),
        kills=min(255, before.kills + end.host_memory),
        hangs=min(255, before.hangs + (end.cause == "timeout")),
        again=before.again,
    )


class State(NamedTuple):
    """What the journals say: results by trial, and entries of trials that were claimed and have none."""

    results: Mapping[int, Result]
    open: dict[int, Entry]


def state(layout: Layout, settled: bytes = b"") -> State:
    """Return what every journal, live and archived, says; not of *settled* trials (see `history.lines`)."""
    results = history.results(layout, settled)
    return State(results, _open_entries(layout, results, settled))


def entries(layout: Layout, trials: int) -> tuple[Header, list[Entry]]:
    """Return header and entries made from every journal.

    Final states come from the accepted end records; a trial with a claim and no end after it is shown
    as running by its last owner, so that the usual take-over decides what becomes of it.
    """
    return _entries(state(layout), trials)


def _entries(found: State, trials: int) -> tuple[Header, list[Entry]]:
    made = dict(found.open)
    for number, result in found.results.items():
        before = made.get(number, Entry())
        made[number] = end_entry(result.end, result.checksum, result.worker, before)
    untouched = Entry()
    listed = [made.get(number, untouched) for number in range(trials)]
    return Header(trials, sum(entry.final for entry in listed), _cursor(listed)), listed


def rebuild(layout: Layout, trials: int, generation: int) -> bytes:
    """Return the bytes of an index of *trials* trials, and of more where journals know of more.

    Workers with a newer plan may have begun trials that the one of this worker does not have.
    """
    found = state(layout)
    trials = max(trials, *(number + 1 for number in (*found.results, *found.open, 0)))
    header, listed = _entries(found, trials)
    data = bytearray(codec.index_bytes(trials))
    data[: codec.HEADER_BYTES] = codec.encode_header(header._replace(generation=generation))
    for number, entry in enumerate(listed):
        if entry != _UNTOUCHED:
            at = codec.entry_offset(number)
            data[at : at + codec.RECORD_BYTES] = codec.encode_entry(entry)
    return bytes(data)


Event = tuple[int, int, float, str, lines.Claim | lines.End, str]


def _open_entries(layout: Layout, finals: Mapping[int, Result], settled: bytes) -> dict[int, Entry]:
    found = history.lines(layout, frozenset({b"claim", b"end"}), settled)
    events = (event_of(line.worker, line.data) for line in found)
    again = retries.read(layout).entries
    return replay((event for event in events if event is not None), finals, again)


def event_of(worker: str, line: bytes) -> Event | None:
    """Return the claim or the end without a result that *line* holds, in a form that sorts; else None."""
    record = lines.parse_line(line)
    if not isinstance(record, lines.Claim | lines.End):
        return None
    if isinstance(record, lines.End) and record.state in lines.FINAL:
        return None
    order = int(isinstance(record, lines.End))
    return record.attempt, order, record.t, worker, record, line[-18:-2].decode()


def replay(
    events: Iterable[Event], finals: Mapping[int, Result], again: Mapping[int, Entry]
) -> dict[int, Entry]:
    """Return the entries after *events*, by attempt; trials in *finals* are shown without their claims.

    An attempt ends once: what a worker says later whose trial was taken over is not another one. Trials that
    run *again* begin with their entry there: attempts up to its own do not count any more.
    """
    made = dict(again)
    ended: set[tuple[int, int]] = set()
    for attempt, _, _, worker, record, checksum in sorted(events, key=lambda event: event[:4]):
        before = made.get(record.trial, Entry())
        if attempt <= before.again:
            continue
        if isinstance(record, lines.End):
            if (record.trial, attempt) not in ended:
                made[record.trial] = end_entry(record, checksum, worker, before)
            ended.add((record.trial, attempt))
        elif record.trial not in finals:
            made[record.trial] = before._replace(
                state=codec.RUNNING,
                attempt=attempt,
                owner=int(worker, 16),
                changed=int(record.t),
                flags=before.flags | codec.FLAG_ENDING * record.ending,
            )
    return made


def _cursor(listed: Sequence[Entry]) -> int:
    for number, entry in enumerate(listed):
        if entry.state == codec.PENDING:
            return number
    return len(listed)
