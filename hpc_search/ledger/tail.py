"""Reading on in all journals, live and archived: every verified line of every worker once, as it comes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from hpc_search import durable
from hpc_search.layout import WORKER_ID, Layout, parse_journal
from hpc_search.ledger import history
from hpc_search.ledger.names import listed
from hpc_search.records import archive
from hpc_search.records import journal as codec

_NUMBER: Final = re.compile(rb'\{"k":"[a-z]+","n":(\d+)')


class Fresh(NamedTuple):
    """A verified line that was not seen before, without its newline, and whose it is."""

    worker: str
    kind: bytes
    data: bytes


@dataclass(slots=True)
class _Segment:
    """How far a segment was read: everything before ``read`` but the ``holes``, which do not verify yet."""

    read: int = 0
    size: int = 0
    inode: int = 0
    holes: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class _Journal:
    """What was read of one worker's journal."""

    segments: dict[int, _Segment] = field(default_factory=dict)
    #: The directory's time of change when it was listed twice; one tick may hold two changes.
    listed: tuple[int, ...] = ()
    exited: bool = False
    #: Numbers of lines: the highest one seen, and those below it that were not.
    highest: int = 0
    missing: set[int] = field(default_factory=set)

    def is_new(self, number: int) -> bool:
        """Return whether line *number* comes for the first time."""
        if number > self.highest:
            self.missing.update(range(self.highest + 1, number))
            self.highest = number
            return True
        if number in self.missing:
            self.missing.remove(number)
            return True
        return number == 0


class Tail:
    """One reader of the journals of a run.

    Where nothing changed, a look costs two listings and one or two stats a live worker. A line that does
    not verify may be torn or not arrived yet: nothing is passed that no verified line follows, and what
    was passed so is looked at again every time.
    """

    def __init__(self, layout: Layout, run_id: str) -> None:
        """Begin at the start of every journal of run *run_id*."""
        self._layout = layout
        self._run_id = run_id.encode()
        self._journals: dict[str, _Journal] = {}
        self._archives: set[str] = set()
        self._strangers: set[tuple[str, int]] = set()

    def lines(self) -> Iterator[Fresh]:
        """Yield what is new."""
        # A journal that moves meanwhile is found in the archive, which is looked at after it.
        for worker in listed(self._layout.workers):
            if WORKER_ID.fullmatch(worker):
                yield from self._live(worker, self._journals.setdefault(worker, _Journal()))
        while names := [name for name in history.archive_paths(self._layout) if name not in self._archives]:
            for name in reversed(names):
                self._archives.add(name)
                with suppress(FileNotFoundError):
                    # One that is gone was merged into a newer one.
                    yield from self._archived(durable.read_bytes(self._layout.archive / name))

    # -- one worker
    def _live(self, worker: str, journal: _Journal) -> Iterator[Fresh]:
        grown = False
        for number, segment in list(journal.segments.items()):
            last = number == max(journal.segments)
            if (last and not journal.exited) or segment.holes:
                with suppress(FileNotFoundError):
                    grown = self._changed(worker, number, segment) or grown
                    yield from self._read(worker, number, segment)
        # A worker whose last segment does not grow may have begun another one.
        with suppress(FileNotFoundError):
            directory = self._layout.worker(worker)
            if not grown and (now := os.stat(directory).st_mtime_ns,) * 2 != journal.listed:
                journal.listed = (now,) * (1 + (journal.listed[:1] == (now,)))
                for number in sorted(filter(None, map(parse_journal, listed(directory)))):
                    if number not in journal.segments:
                        segment = journal.segments[number] = _Segment()
                        self._changed(worker, number, segment)
                        yield from self._read(worker, number, segment)

    def _changed(self, worker: str, number: int, segment: _Segment) -> bool:
        """Return whether the file changed; one that was put in its place is read from the start."""
        now = os.stat(self._layout.journal(worker, number))
        changed = (now.st_size, now.st_ino) != (segment.size, segment.inode)
        if now.st_size < segment.read or segment.inode not in (0, now.st_ino):
            segment.read = 0
            segment.holes.clear()
        segment.size, segment.inode = now.st_size, now.st_ino
        return changed

    def _read(self, worker: str, number: int, segment: _Segment) -> Iterator[Fresh]:
        path = self._layout.journal(worker, number)
        for hole in list(segment.holes):
            data = durable.read_bytes(path, hole[0], hole[1] - hole[0])
            if data.endswith(b"\n") and all(map(codec.checksum, data[:-1].split(b"\n"))):
                segment.holes.remove(hole)
                yield from self._take(worker, number, hole[0], data)
        if segment.size > segment.read:
            yield from self._take(worker, number, segment.read, durable.read_bytes(path, segment.read))

    def _archived(self, data: bytes) -> Iterator[Fresh]:
        for section in archive.sections(data):
            number = parse_journal(section.name)
            if number is None:
                continue
            journal = self._journals.setdefault(section.worker, _Journal())
            segment = journal.segments.setdefault(number, _Segment())
            content = section.content(data)
            # It is whole: what was torn, or not there yet, is there now or never.
            holes, segment.holes = segment.holes, []
            for start, end in holes:
                yield from self._take(section.worker, number, start, content[start:end])
            if len(content) > segment.read:
                yield from self._take(section.worker, number, segment.read, content[segment.read :])

    # -- lines
    def _take(self, worker: str, number: int, start: int, data: bytes) -> Iterator[Fresh]:
        """Yield the new lines of *data*, which stands at *start* of segment *number*."""
        journal = self._journals[worker]
        segment = journal.segments[number]
        if start == 0 and history.stranger(data, self._run_id):
            self._strangers.add((worker, number))
        if (worker, number) in self._strangers:
            segment.read = max(segment.read, start + len(data))
            return
        begin = hole = 0
        while (end := data.find(b"\n", begin) + 1) > 0:
            line = data[begin : end - 1]
            if codec.checksum(line) is not None:
                if hole < begin:
                    segment.holes.append((start + hole, start + begin))
                hole = end
                # Whoever reads may not come to the end of this.
                segment.read = max(segment.read, start + end)
                kind, match = codec.kind(line), _NUMBER.match(line)
                journal.exited = journal.exited or kind == b"exit"
                if journal.is_new(int(match[1]) if match else 0):
                    yield Fresh(worker, kind, line)
            begin = end
