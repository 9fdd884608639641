"""How far the journals are known to be in the index: of many workers that start at once, one reads them.

RUN/cache/reconciled says how much of each journal was read, and which trials were final once everything in
it had its mark. That stays true: journals only grow, and no final state is taken back. It is believed only
where the index confirms it, so an index that lost something is reconciled with all journals.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, Literal, NamedTuple

import msgspec

from hpc_search import durable
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout, parse_journal
from hpc_search.ledger import history
from hpc_search.ledger.history import JournalFile, Line
from hpc_search.records import archive, checked
from hpc_search.records import index as codec
from hpc_search.records.journal import checksum

#: Bytes beyond what is covered from which they are worth to be covered too.
WORTH: Final = 8 << 20
_END: Final = frozenset({b"end"})
_CHAIN: Final = re.compile(rb'"chain":"([0-9a-f]{32})"')
#: Final states as 1, all others as 0.
_FINAL: Final = bytes(int(state >= codec.DONE) for state in range(256))


class _Record(msgspec.Struct, frozen=True):
    run_id: str
    #: Bytes read, by WORKER/SEGMENT.
    journals: dict[str, int]
    archives: list[str]
    #: One byte a trial, 1 where it was final; deflated, base64.
    finals: str
    format: Literal["hpc_search.reconciled"] = "hpc_search.reconciled"
    version: Literal[1] = 1


def final(states: bytes) -> bytes:
    """Return a byte a trial, 1 where its state is final."""
    return states.translate(_FINAL)


class Covered(NamedTuple):
    """What need not be read again: so many bytes of each live segment, and whole archives."""

    journals: dict[tuple[str, int], int]
    archives: frozenset[str]


def read(layout: Layout, run_id: str, states: bytes) -> Covered | None:
    """Return what is covered, where the *states* of the index confirm it; else None."""
    try:
        data = durable.read_bytes(layout.reconciled)
        record = checked.decode(data, _Record, "RUN/cache/reconciled")
        finals = zlib.decompress(base64.b64decode(record.finals), bufsize=len(states) + 1)
    except (OSError, DamagedError, ValueError, zlib.error):
        return None
    if record.run_id != run_id:
        return None
    now = final(states)[: len(finals)]
    before = int.from_bytes(finals, "little")
    if len(now) < len(finals) or before & int.from_bytes(now, "little") != before:
        return None
    journals = {}
    for name, size in record.journals.items():
        worker, _, segment = name.partition("/")
        journals[worker, int(segment)] = size
    return Covered(journals, frozenset(record.archives))


def version(layout: Layout) -> tuple[int, ...]:
    """Return what differs after every `Reading.publish`."""
    try:
        found = layout.reconciled.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


class Reading:
    """Yields the end records of all journals, and notes how far it has read."""

    def __init__(self, layout: Layout) -> None:
        """Read the journals of *layout*."""
        self._layout = layout
        # An archive that is published while the journals are read was not read whole.
        self._archives = history.archive_paths(layout)
        self._journals: dict[str, int] = {}

    def lines(self, settled: bytes) -> Iterator[Line]:
        """Yield every verified end record of trials that are not *settled* (see `history.lines`)."""
        for file in history.journal_files(self._layout):
            for offset, line in history.verified(file.data, _END, settled):
                yield Line(file.worker, file.segment, offset, line)
            if not file.archived:
                self._journals[f"{file.worker}/{file.segment}"] = _proven(file.data)

    def publish(self, run_id: str, states: bytes) -> None:
        """Write down how far this reading got; *states* are the index's, with every mark of it."""
        finals = base64.b64encode(zlib.compress(final(states), 1)).decode()
        record = _Record(run_id, self._journals, self._archives, finals)
        with suppress(OSError):
            self._layout.cache.mkdir(mode=0o700, exist_ok=True)
            durable.replace(self._layout.reconciled, checked.encode(record), sync=False)


def _proven(data: bytes) -> int:
    """Return the bytes up to the end of the last record whose chain proves all before it; else 0.

    A line before it that does not verify may be whole when it is read again.
    """
    start = max(data.rfind(b'\n{"k":"%b"' % kind) + 1 for kind in (b"end", b"exit"))
    end = data.find(b"\n", start) + 1
    line = data[start : end - 1]
    chain = _CHAIN.search(line)
    if not end or chain is None or checksum(line) is None:
        return 0
    return end if hashlib.blake2b(data[:start], digest_size=16).hexdigest().encode() == chain[1] else 0


def beyond(layout: Layout, covered: Covered) -> Iterator[JournalFile]:
    """Yield what is not covered; a segment that moves meanwhile may come twice, never be missed."""
    run_id = history.run_of(layout)
    for file in _beyond(layout, covered):
        if not history.stranger(file.data, run_id):
            yield file


def _beyond(layout: Layout, covered: Covered) -> Iterator[JournalFile]:
    for worker in history.live_workers(layout):
        with suppress(FileNotFoundError):
            for name in os.listdir(layout.worker(worker)):
                segment = parse_journal(name)
                if segment is not None:
                    start = covered.journals.get((worker, segment), 0)
                    data = durable.read_bytes(layout.worker(worker) / name, start)
                    yield JournalFile(worker, segment, data, archived=False)
    for data in history.archives(layout, covered.archives):
        for section in archive.sections(data):
            segment = parse_journal(section.name)
            if segment is not None:
                start = section.start + covered.journals.get((section.worker, segment), 0)
                yield JournalFile(section.worker, segment, data[start : section.end], archived=True)


def unmarked(files: Iterable[JournalFile], states: bytes) -> Iterator[Line]:
    """Yield the end records in *files* of trials that are not final by *states*."""
    settled = final(states)
    for file in files:
        for offset, line in history.verified(file.data, _END, settled):
            yield Line(file.worker, file.segment, offset, line)
