"""audit.log and one log a fold: every line of every journal, and what else happened, in one order."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from hpc_search import durable
from hpc_search.collect.columns import json_text
from hpc_search.collect.happenings import Files, happenings
from hpc_search.collect.times import iso_time
from hpc_search.collect.writing import Logs
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.ledger.history import JournalFile
from hpc_search.ledger.names import listed
from hpc_search.planning.numbers import split_number
from hpc_search.records.plan import Block, Plan
from hpc_search.records.stages import Opened, point_words

#: Keys that have a place of their own in a line, or say nothing to a reader.
_SHOWN: Final = frozenset(
    {"k", "n", "t", "c", "chain", "trial", "attempt", "worker", "params", "block", "event", "log"}
    | {"point", "fold", "seed"}
)
#: What each kind of record says happened; others are called by their kind.
_EVENTS: Final = {
    "open": "worker started",
    "exit": "worker ended",
    "claim": "trial claimed",
    "propose": "point proposed",
    "start": "trial started",
    "report": "reported",
    "checkpoint": "checkpoint ready",
    "accepted": "result accepted",
}
_ENDS: Final = {"pending": "trial given back", "paused": "trial paused"}
#: Notes of a person's orders name their trials in words only.
_ORDERS: Final = frozenset({"retry", "skip"})


class Entry(NamedTuple):
    """One line of the logs, and what it is of: a worker's journal or another record, and its place in it."""

    time: float
    source: str
    number: int
    line: str
    #: The folds that it concerns; None: all.
    folds: frozenset[int] | None


def read_entries(layout: Layout, plan: Plan) -> list[Entry]:
    """Return the merge of everything by time, source and number: the same for the same run."""
    return merged(Files(layout, _content, listed), plan, history.journal_files(layout))


def _content(path: Path) -> bytes | None:
    with suppress(FileNotFoundError):
        return durable.read_bytes(path)
    return None


def merged(files: Files, plan: Plan, journals: Iterable[JournalFile]) -> list[Entry]:
    """Return the merge of *journals* and what *files* tell.

    A line is ``ISO time | event | what it is about | by whom | text``. Times are of everybody's own clock.
    """
    subjects = _Subjects(files, plan)
    ends: dict[str, float] = {}
    entries = list(_of_journals(journals, subjects, ends))
    for one in happenings(files, plan, ends, subjects.folds):
        line = f"{iso_time(one.time)} | {one.event} | {one.about} | {one.by} | {one.text}\n"
        entries.append(Entry(one.time, one.source, one.number, line, one.folds))
    entries.sort(key=lambda entry: entry[:3])
    return entries


def write_logs(layout: Layout, plan: Plan) -> Logs:
    """Write audit.log and the log of each fold."""
    entries = read_entries(layout, plan)
    contents = texts(layout, entries, plan)
    for name, content in contents.items():
        path = layout.root / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        durable.replace(path, content)
    return Logs(contents, heads(entries))


def texts(layout: Layout, entries: Iterable[Entry], plan: Plan) -> dict[str, bytes]:
    """Return the content of audit.log and of the log of each fold, by their paths in RUN."""
    lines: defaultdict[int | None, list[str]] = defaultdict(list)
    every = sorted({fold for block in plan.blocks for fold in block.folds})
    for entry in entries:
        lines[None].append(entry.line)
        for fold in every if entry.folds is None else entry.folds:
            lines[fold].append(entry.line)
    paths = {None: layout.audit} | {fold: layout.audit_fold(fold) for fold in every}
    return {
        path.relative_to(layout.root).as_posix(): "".join(lines[fold]).encode()
        for fold, path in paths.items()
    }


def heads(entries: Iterable[Entry]) -> dict[str, int]:
    """Return how far each source was merged: the number of its last line."""
    found: dict[str, int] = {}
    for entry in entries:
        found[entry.source] = max(entry.number, found.get(entry.source, 0))
    return found


def until(entries: Iterable[Entry], known: Mapping[str, int]) -> list[Entry]:
    """Return those of *entries* that were merged when the `heads` were *known*."""
    return [entry for entry in entries if entry.number <= known.get(entry.source, -1)]


_NONE: Final[frozenset[int]] = frozenset()


class _Subjects:
    """What trials are, in words, and the folds that they are of."""

    def __init__(self, files: Files, plan: Plan) -> None:
        self._blocks: tuple[Block, ...] = plan.blocks
        self._firsts = [block.first for block in plan.blocks]
        self._end = plan.trials
        self._known: dict[int, tuple[str, frozenset[int]]] = {}
        layout = files.layout
        refits = [place for place, block in enumerate(plan.blocks) if block.refit]
        opened = {place: files.record(layout.stage(place), Opened) for place in refits}
        self._searched = {place: one.point for place, one in opened.items() if one is not None}

    def __call__(self, trial: int) -> tuple[str, frozenset[int]]:
        found = self._known.get(trial)
        if found is None:
            found = self._known[trial] = self._look(trial)
        return found

    def folds(self, trial: int) -> frozenset[int]:
        return self(trial)[1]

    def _look(self, trial: int) -> tuple[str, frozenset[int]]:
        if not 0 <= trial < self._end:
            return "", _NONE
        place = bisect_right(self._firsts, trial) - 1
        block = self._blocks[place]
        local, fold, seed = split_number(block, trial)
        point = point_words(block.first_point + local, self._searched.get(place))
        words = f" {point}" + ("" if fold is None else f" fold {fold}")
        return f"{words} seed {seed}", _NONE if fold is None else frozenset({fold})


def _of_journals(
    journals: Iterable[JournalFile], subjects: _Subjects, ends: dict[str, float]
) -> Iterator[Entry]:
    """Yield an entry for every line that verifies, and add to *ends* when results ended."""
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    seen: defaultdict[str, set[int]] = defaultdict(set)
    for file in journals:
        numbers = seen[file.worker]
        for _, data in history.verified(file.data):
            record = decode(data)
            number = record.get("n", 0)
            # A segment repeats what the one before it could not make durable.
            if number and number in numbers:
                continue
            numbers.add(number)
            if record["k"] == "end":
                ends[record["c"]] = record.get("t", 0.0)
            yield _entry(file.worker, number, record, subjects)


def _entry(worker: str, number: int, record: dict[str, Any], subjects: _Subjects) -> Entry:
    about, folds = "-", None if _event(record) in _ORDERS else _NONE
    trial = record.get("trial")
    if trial is not None:
        words, folds = subjects(trial)
        attempt = f" attempt {record['attempt']}" if "attempt" in record else ""
        about = f"trial {trial}{attempt}{words}"
    text = " ".join(f"{key}={_value(value)}" for key, value in record.items() if key not in _SHOWN)
    time = record.get("t", 0.0)
    line = f"{iso_time(time)} | {_event(record)} | {about} | worker {worker} | {text}\n"
    return Entry(time, worker, number, line, folds)


def _event(record: Mapping[str, Any]) -> str:
    kind = record["k"]
    if kind == "note":
        return str(record["event"])
    if kind == "end":
        return _ENDS.get(record["state"], "trial finished")
    if kind == "verdict":
        return f"verdict {record['decision']}"
    return _EVENTS.get(kind, str(kind))


def _value(value: object) -> str:
    # JSON keeps a text with newlines or control characters on one line.
    plain = isinstance(value, str) and value.isprintable() and " " not in value and value
    return str(value) if plain else json_text(value)
