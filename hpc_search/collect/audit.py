"""audit.log: every line of every journal in one order, to read."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import msgspec

from hpc_search.collect.columns import json_text
from hpc_search.collect.times import iso_time
from hpc_search.layout import Layout
from hpc_search.ledger import history

#: Keys that have a place of their own in a line, or say nothing to a reader.
_SHOWN = frozenset(
    {"k", "n", "t", "c", "chain", "trial", "attempt", "worker", "params", "block", "event", "log"}
)


def fewer_lines(layout: Layout, most: int) -> bool:
    """Return whether the journals have fewer than *most* lines, reading no more than it takes to know."""
    counts = (file.data.count(b"\n") for file in history.journal_files(layout))
    return all(total < most for total in accumulate(counts))


def audit_text(layout: Layout) -> bytes:
    """Return the merge of the journals by time, worker and sequence: the same for the same journals.

    A line is ``ISO time | worker | event | trial attempt | text``. Times are of the workers' own clocks.
    """
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    records = []
    for line in history.lines(layout):
        record = decode(line.data)
        records.append((record.get("t", 0.0), line.worker, record.get("n", 0), record))
    records.sort(key=lambda item: item[:3])
    return "".join(_line(worker, record) for _, worker, _, record in records).encode()


def _line(worker: str, record: dict[str, Any]) -> str:
    when = iso_time(record.get("t", 0.0))
    event = record["event"] if record["k"] == "note" else record["k"]
    trial = (
        f"{record['trial']} {record.get('attempt', '')}".strip() if record.get("trial") is not None else "-"
    )
    text = " ".join(f"{key}={_value(value)}" for key, value in record.items() if key not in _SHOWN)
    return f"{when} | {worker} | {event} | {trial} | {text}\n"


def _value(value: object) -> str:
    # JSON keeps a text with newlines or control characters on one line.
    plain = isinstance(value, str) and value.isprintable() and " " not in value and value
    return str(value) if plain else json_text(value)
