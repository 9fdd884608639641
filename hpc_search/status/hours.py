"""Where the time of the workers went, from their journals; each byte is read once.

Hours are *slot* time: of one worker, from the opening of its journal to its exit, or to the last sign of
life where it was killed (its last line, or a later heartbeat). The start of the job before that, and what
SLURM takes to end it, are not in it. Times are differences on the worker's own clock; of a heartbeat, of
two times of the file server. Of that:

    busy         inside attempts that ended
    running      inside the attempts of live workers
    failed       work since the last checkpoint of attempts that ended by the trial's own fault; of one
                 that failed the trial for good, all of that attempt
    interrupted  work since the last checkpoint of attempts that were preempted, timed out or given back
    lost         the same of attempts without an end record, whose workers are gone
    superseded   complete attempts whose result was not taken, because another one had ended first
    idle         the rest: starting, importing, claiming, waiting

RUN/cache/hours.json keeps the sums by journal segment and how far each was read; it can be deleted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import msgspec

from hpc_search import durable
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.ledger import covered, history, mismatches
from hpc_search.ledger.covered import Covered
from hpc_search.ledger.history import JournalFile
from hpc_search.records import checked, journal

_OWN: Final = frozenset({"error", "oom", "timeout", "nonfinite", "noop"})
#: Events of notes that are counted.
COUNTED: Final = frozenset(
    {
        *("superseded", "requeue", mismatches.ELSEWHERE, mismatches.MISMATCH, mismatches.WARNED),
        *("late", "node failed", "broken", "checkpoint not saved"),
    }
)
#: Of an end record, by what follows: checkpoints have seconds, parameters and metrics may be called so.
_SECONDS: Final = re.compile(rb',"seconds":([0-9.e+-]+),(?:"started":[0-9.e+-]+,)?"node":"')
#: An end record without a result, or with one that is a failure. (A pattern that begins with one literal is
#: searched ten times faster than one with alternatives.)
_BAD_END: Final = re.compile(rb'"state":"(?!done|pruned)')
_A_NOTE: Final = re.compile(rb'\{"k":"note"')
_LAST: Final = re.compile(rb'\{"k":"[a-z]+","n":\d+,"t":([0-9.e+-]+)')
_NUMBERS: Final = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?", re.IGNORECASE)
_TEXT: Final = 300
#: Of RUN/cache/hours.json: what another version summed is summed again.
_VERSION: Final = 2
#: Ways to fail that are told apart, a segment.
_GROUPS: Final = 100


class Tail(msgspec.Struct, array_like=True):
    """The attempt at the end of a journal that has no end record yet."""

    trial: int
    attempt: int
    started: float
    #: When its last checkpoint was saved, else when it started.
    saved: float


class Group(msgspec.Struct, array_like=True, frozen=True):
    """One way to fail, by its first trial: the headline, and its bytes in the worker's log."""

    cause: str
    headline: str
    trial: int
    log: tuple[int, int] = (0, 0)
    node: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What is equal for two of one group: numbers and addresses do not count."""
        return self.cause, _NUMBERS.sub("#", self.headline)


class Row(msgspec.Struct, array_like=True):
    """What one segment says, up to byte ``read``; seconds, and times on its worker's own clock."""

    read: int = 0
    opened: float = 0.0
    last: float = 0.0
    token: str = ""
    seat: str = ""
    restart: int = 0
    device: str = ""
    node: str = ""
    busy: float = 0.0
    failed: float = 0.0
    interrupted: float = 0.0
    superseded: float = 0.0
    tail: Tail | None = None
    #: Attempts that ended without a result, by cause; events of notes; the last text of each event.
    causes: dict[str, int] = {}
    events: dict[str, int] = {}
    texts: dict[str, str] = {}
    exited: bool = False
    #: Lines that repeat an earlier segment.
    repeats: int = 0
    #: What made trials fail for good, and trial -> place in that list; -1 where the list is full.
    groups: list[Group] = []
    failures: dict[int, int] = {}


class Book(msgspec.Struct):
    """The rows by WORKER/SEGMENT, and the archives that were read."""

    run_id: str
    rows: dict[str, Row]
    archives: list[str] = []
    version: int = _VERSION


class _End(msgspec.Struct):
    t: float = 0.0
    trial: int = -1
    attempt: int = 0
    state: str = ""
    cause: str = ""
    seconds: float = 0.0
    detail: str = ""
    node: str = ""
    log: tuple[int, int] = (0, 0)


_DECODE_END: Final = msgspec.json.Decoder(_End)


def read(layout: Layout, run_id: str, book: Book | None = None, *, keep: bool) -> Book:
    """Return what the journals say, going on from *book*, else from what RUN/cache holds.

    With *keep* it is written to RUN/cache for the next time.
    """
    book = book or _kept(layout, run_id)
    before = {key: row.read for key, row in book.rows.items()}
    from_here = Covered(
        {(key.partition("/")[0], int(key.partition("/")[2])): size for key, size in before.items()},
        frozenset(book.archives),
    )
    archives = history.archive_paths(layout)
    for file in covered.beyond(layout, from_here):
        key = f"{file.worker}/{file.segment}"
        row = book.rows.setdefault(key, Row())
        # A segment that moves into the archive meanwhile may come twice.
        if row.read == before.get(key, 0):
            _scan(row, file)
    changed = archives != book.archives or before != {key: row.read for key, row in book.rows.items()}
    book.archives = archives
    if keep and changed:
        with suppress(OSError):
            durable.replace(layout.hours, checked.encode(book), sync=False)
    return book


def _kept(layout: Layout, run_id: str) -> Book:
    try:
        book = checked.decode(durable.read_bytes(layout.hours), Book, "RUN/cache/hours.json")
        if book.run_id == run_id and book.version == _VERSION:
            return book
    except (OSError, DamagedError):
        pass
    return Book(run_id, {})


def _scan(row: Row, file: JournalFile) -> None:
    """Add the whole lines of *file*, which begins where *row* ends, to *row*."""
    data = file.data
    hole = data.find(b"\0")
    # What is not written yet may still come.
    end = data.rfind(b"\n", 0, hole if hole >= 0 else len(data)) + 1
    # So that every line has a newline before it.
    data = b"\n" + data[:end]
    if not end:
        return
    if not row.read:
        _open(row, data[1 : data.find(b"\n", 1)])
    start = _skip(data, row.repeats + 1) if row.repeats and not row.read else 0
    row.read += end
    row.busy += sum(map(float, _SECONDS.findall(data, start)))
    # A parameter may be called state: a line counts once.
    for at in dict.fromkeys(_line(data, match.start())[0] for match in _BAD_END.finditer(data, start)):
        _end(row, data, at)
    for match in _A_NOTE.finditer(data, start):
        _note(row, data, match.start())
    _finish(row, data, start)


def _skip(data: bytes, lines: int) -> int:
    at = 0
    for _ in range(lines):
        at = max(at, data.find(b"\n", at + 1))
    return at


def _open(row: Row, line: bytes) -> None:
    record = journal.parse_line(line)
    if isinstance(record, journal.Open):
        row.opened = row.last = record.t
        row.token, row.seat, row.restart = record.token, record.seat, record.restart
        row.device, row.node, row.repeats = record.device, record.host, record.repeats


def _line(data: bytes, at: int) -> tuple[int, bytes]:
    """Return start and bytes of the line around *at*."""
    start = data.rfind(b"\n", 0, at) + 1
    stop = data.find(b"\n", at)
    return start, data[start : stop if stop >= 0 else len(data)]


def _end(row: Row, data: bytes, start: int) -> None:
    line = _line(data, start)[1]
    if journal.kind(line) != b"end" or journal.checksum(line) is None:
        return
    end = _DECODE_END.decode(line)
    if end.state not in ("pending", "failed") or not end.cause:
        return
    row.node = end.node or row.node
    row.causes[end.cause] = row.causes.get(end.cause, 0) + 1
    tail = _tail_before(row, data, start)
    saved = tail.saved if tail is not None and tail.trial == end.trial else end.t - end.seconds
    since = max(0.0, min(end.seconds, end.t - saved))
    if end.cause in _OWN:
        row.failed += end.seconds if end.state == "failed" else since
    elif end.state == "failed":
        row.interrupted += end.seconds
    else:
        row.interrupted += since
    if end.state == "failed":
        _group(row, end)


def _group(row: Row, end: _End) -> None:
    text = journal.headline(end.detail)[:_TEXT]
    group = Group(end.cause, text, end.trial, end.log, end.node)
    known = next((place for place, other in enumerate(row.groups) if other.key == group.key), -1)
    if known < 0 and len(row.groups) < _GROUPS:
        row.groups.append(group)
        known = len(row.groups) - 1
    row.failures[end.trial] = known


def _tail_before(row: Row, data: bytes, stop: int) -> Tail | None:
    """Return the attempt that runs at byte *stop* of *data*; the row's, where it began before."""
    start = data.rfind(b'\n{"k":"start"', 0, stop) + 1
    tail = row.tail if not start else _started(_line(data, start)[1])
    saved = data.rfind(b'\n{"k":"checkpoint"', start, stop) + 1
    if tail is not None and saved and (moment := _LAST.match(data, saved)):
        tail = Tail(tail.trial, tail.attempt, tail.started, float(moment[1]))
    return tail


def _started(line: bytes) -> Tail | None:
    record = journal.parse_line(line)
    if not isinstance(record, journal.Start):
        return None
    return Tail(record.trial, record.attempt, record.t, record.t)


def _note(row: Row, data: bytes, at: int) -> None:
    record = journal.parse_line(_line(data, at)[1])
    if not isinstance(record, journal.Note):
        return
    if record.event == mismatches.NODE:
        row.node = record.text or row.node
    if record.event in COUNTED:
        row.events[record.event] = row.events.get(record.event, 0) + 1
        row.texts[record.event] = record.text[:_TEXT]
    if record.event == "superseded" and record.trial is not None:
        wanted = b'"trial":%d,"attempt":%d,"state":"done"' % (record.trial, record.attempt or 0)
        found = data.rfind(wanted, 0, at)
        if found >= 0 and journal.checksum(line := _line(data, found)[1]) is not None:
            row.superseded += _DECODE_END.decode(line).seconds


def _finish(row: Row, data: bytes, start: int) -> None:
    """Note the last line's time, what runs at the end, and whether the worker exited."""
    begin = data.rfind(b"\n", 0, len(data) - 1) + 1
    last = data[begin:-1]
    if journal.checksum(last) is not None and (moment := _LAST.match(last)):
        row.last = max(row.last, float(moment[1]))
        row.exited = journal.kind(last) == b"exit"
    tail = _tail_before(row, data, len(data))
    ended = data.rfind(b'\n{"k":"end"', start)
    began = data.rfind(b'\n{"k":"start"', start)
    row.tail = None if ended > began or (ended >= 0 and began < 0) else tail


class Sums(msgspec.Struct):
    """Seconds of slot time; see the module."""

    spent: float = 0.0
    busy: float = 0.0
    running: float = 0.0
    failed: float = 0.0
    interrupted: float = 0.0
    lost: float = 0.0
    superseded: float = 0.0
    idle: float = 0.0

    @property
    def wasted(self) -> float:
        """What gave no result that was kept."""
        return self.failed + self.interrupted + self.lost + self.superseded + self.idle

    @property
    def inside(self) -> float:
        """What was inside attempts."""
        return self.busy + self.running + self.lost

    def scaled(self, factor: float) -> Sums:
        """Return these sums, each times *factor*."""
        return Sums(*(getattr(self, name) * factor for name in self.__struct_fields__))

    def add(self, other: Sums) -> None:
        """Add *other*."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def workers(book: Book) -> dict[str, Row]:
    """Return one row a worker: its segments joined, the newest one's tail."""
    found: dict[str, Row] = {}
    for key, row in sorted(book.rows.items(), key=_order):
        worker = key.partition("/")[0]
        found[worker] = _joined(found[worker], row) if worker in found else row
    return found


def _order(item: tuple[str, Any]) -> tuple[str, int]:
    worker, _, segment = item[0].partition("/")
    return worker, int(segment)


def _joined(first: Row, then: Row) -> Row:
    totals = {name: getattr(first, name) + getattr(then, name) for name in _SUMMED}
    counts = {name: dict(Counter(getattr(first, name)) + Counter(getattr(then, name))) for name in _COUNTS}
    later = {trial: at if at < 0 else at + len(first.groups) for trial, at in then.failures.items()}
    return msgspec.structs.replace(
        then,
        groups=first.groups + then.groups,
        failures=first.failures | later,
        opened=first.opened or then.opened,
        last=max(first.last, then.last),
        texts=first.texts | then.texts,
        exited=first.exited or then.exited,
        **totals,
        **counts,
    )


_SUMMED: Final = ("busy", "failed", "interrupted", "superseded")
_COUNTS: Final = ("causes", "events")


def sums(row: Row, seen: float, *, live: bool) -> Sums:
    """Return the hours of one worker that was last seen at *seen* on its own clock."""
    spent = max(0.0, max(row.last, seen) - row.opened)
    tail = row.tail
    inside = max(0.0, max(row.last, seen) - tail.started) if tail is not None else 0.0
    unsaved = max(0.0, max(row.last, seen) - tail.saved) if tail is not None and not live else 0.0
    return Sums(
        spent=spent,
        busy=row.busy,
        running=inside if live else 0.0,
        failed=row.failed,
        interrupted=row.interrupted,
        lost=unsaved,
        superseded=row.superseded,
        idle=max(0.0, spent - row.busy - inside),
    )


def total(parts: Iterable[Sums]) -> Sums:
    """Return the sum of *parts*."""
    found = Sums()
    for part in parts:
        found.add(part)
    return found
