"""The worker's log: the output of its trials, capped an attempt."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Bytes of the last output of an attempt that are looked at for its cause.
_TAIL: Final = 64 << 10


class Log:
    """Appends what trials print; the journal holds the byte range of each attempt."""

    def __init__(self, path: Path, cap: int) -> None:
        """Open *path* for appending; keep at most *cap* bytes an attempt."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.fd = os.open(path, flags, 0o600)
        self._cap = cap
        self._room = cap
        self._cut = False
        self.start = 0
        self._last = b""

    @property
    def tail(self) -> bytes:
        """The last output of the attempt, also where the file took no more of it."""
        return self._last

    def begin(self) -> int:
        """Start an attempt; return the byte at which its output begins."""
        self._room, self._cut, self._last = self._cap, False, b""
        self.start = self.size()
        return self.start

    def size(self) -> int:
        """Return the bytes in the file."""
        return os.fstat(self.fd).st_size

    def write(self, data: bytes) -> None:
        """Append *data*, or what fits; a log that cannot be written never harms a trial."""
        self._last = (self._last + data)[-_TAIL:]
        kept = data[: self._room]
        self._room -= len(kept)
        with suppress(OSError):
            if kept:
                os.write(self.fd, kept)
            if len(kept) < len(data) and not self._cut:
                self._cut = True
                os.write(self.fd, f"\n[hpc_search: output after {self._cap} bytes is dropped]\n".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)
