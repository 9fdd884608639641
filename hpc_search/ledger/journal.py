"""The journal of one worker: append-only segments with one writer."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.errors import TemporaryError
from hpc_search.layout import Layout
from hpc_search.records import journal as lines

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_CHAINED: Final = (lines.End, lines.Exit)
#: Lines kept for a repeat in the next segment; more are fsynced first.
_REPEAT_LIMIT: Final = 4096
#: A segment that cannot be opened or fsynced is tried again this often in a row.
_SEGMENT_TRIES: Final = 5
#: Bytes freed when the disk is full.
RESERVE_BYTES: Final = 64 << 10


class JournalUnwritableError(TemporaryError):
    """No segment could be written; the record is lost to this run unless the worker is started again."""


class Journal:
    """Appends records, numbered and checksummed; makes them durable on request.

    A write or fsync that fails, is short, or finds the file unlinked abandons the segment: the next
    one repeats every line since the last good fsync. Readers take each number once.
    """

    def __init__(self, layout: Layout, worker: str, opening: Callable[[int], lines.Open]) -> None:
        """Open segment 1 of *worker*; *opening* gives the first record of a segment."""
        self._layout = layout
        self._worker = worker
        self._opening = opening
        self._number = 0
        self._unsynced: list[bytes] = []
        self._fd = -1
        self.segment = 0
        self._next_segment()

    def append(self, record: lines.Record) -> str:
        """Write *record* (not yet durable) and return its checksum."""
        return self.append_all([record])[0]

    def append_all(self, records: Iterable[lines.Record]) -> list[str]:
        """Write *records* (not yet durable) by one call, and return their checksums.

        None but the first may be one that has the chain of the lines before it.
        """
        added = [self._line(record) for record in records]
        self._unsynced += added
        try:
            self._write(b"".join(added))
        except OSError as error:
            self._abandon(error)
        if len(self._unsynced) >= _REPEAT_LIMIT:
            self.sync()
        return [line[-19:-3].decode() for line in added]

    def _line(self, record: lines.Record) -> bytes:
        self._number += 1
        # The journal numbers a record when it writes it; nobody else has seen it yet.
        msgspec.structs.force_setattr(record, "n", self._number)
        msgspec.structs.force_setattr(record, "t", int(time.time() * 1000) / 1000)
        if isinstance(record, _CHAINED):
            msgspec.structs.force_setattr(record, "chain", self._chain.hexdigest())
        return lines.encode_line(record)

    def sync(self) -> None:
        """Make every record appended so far durable.

        Raises:
            JournalUnwritableError: Not even a new segment could be written.
        """
        try:
            os.fdatasync(self._fd)
            if os.fstat(self._fd).st_nlink == 0:
                raise FileNotFoundError
        except OSError as error:
            # Never retry a failed fsync: the kernel may have dropped the pages.
            self._abandon(error)
        self._unsynced.clear()

    def close(self) -> None:
        """Close the file; appended records stay as durable as they are."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, line: bytes) -> None:
        written = os.write(self._fd, line)
        if written != len(line):
            durable.write_all(self._fd, memoryview(line)[written:])
        self._chain.update(line)

    def _abandon(self, cause: OSError) -> None:
        if cause.errno in durable.NO_SPACE:
            with suppress(OSError):
                self._layout.reserve(self._worker).unlink()
        for attempt in range(_SEGMENT_TRIES):
            try:
                self._next_segment()
            except OSError as error:
                cause = error
                time.sleep(min(0.1 * 2**attempt, 2.0))
            else:
                return
        # The last segment has no opening line: a later record shall start another one.
        self.close()
        self._tell()
        message = f"{self._layout.worker(self._worker)}: the journal cannot be written ({cause.strerror})"
        hint = "free space, or repair the mount, then `submit` again: the trial resumes from its checkpoint"
        raise JournalUnwritableError(message, hint=hint) from cause

    def _tell(self) -> None:
        """Print the end records that no disk takes, so that at least the job's log has them."""
        for line in self._unsynced:
            if lines.kind(line) == b"end":
                sys.stderr.write(f"hpc_search: not written: {line.decode()}")

    def _next_segment(self) -> None:
        self.close()
        self.segment += 1
        path = self._layout.journal(self._worker, self.segment)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._fd = os.open(path, _FLAGS, 0o600)
        self._chain = hashlib.blake2b(digest_size=16)
        opening = self._opening(self.segment)
        msgspec.structs.force_setattr(opening, "t", round(time.time(), 3))
        msgspec.structs.force_setattr(opening, "repeats", len(self._unsynced))
        self._write(lines.encode_line(opening))
        for line in self._unsynced:
            self._write(line)
        os.fdatasync(self._fd)
        durable.fsync_dir(path.parent)
        self._unsynced.clear()
