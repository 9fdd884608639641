"""Reading a run that may hold anything: no name is believed to be a regular file, no error ends a check."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hpc_search.fsck.findings import Case, Finding
from hpc_search.layout import Layout

#: A FIFO would be waited for, a link would lead out of the run.
_SAFELY: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
#: Nothing is there, or something that is no file: `shapes` tells that.
_NO_FILE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR})
#: A name that another client replaces in a tight loop is stale nearly every time.
_STALE_TRIES: Final = 50


@dataclass(slots=True)
class Disk:
    """The files of the run at ``layout``; ``errors`` is RUN-relative path -> why it could not be read."""

    layout: Layout
    errors: dict[str, str] = field(default_factory=dict)

    def name(self, path: Path) -> str:
        """Return *path* relative to RUN."""
        return path.relative_to(self.layout.root).as_posix()

    def read(self, path: Path, start: int = 0, size: int = -1) -> bytes | None:
        """Return the bytes of the regular file *path*; None where there is none or it cannot be read."""
        for _ in range(_STALE_TRIES):
            try:
                return _read(path, start, size)
            except OSError as error:
                if error.errno == errno.ESTALE:
                    continue
                self.failed(path, error)
                return None
        return None

    def failed(self, path: Path, error: OSError) -> None:
        """Note that *path* is there and cannot be read."""
        if error.errno not in _NO_FILE:
            self.errors[self.name(path)] = error.strerror or str(error)

    def is_file(self, path: Path) -> bool:
        """Return whether *path* is a regular file, no link to one."""
        return self._is(path, stat.S_ISREG)

    def set_aside(self, path: Path) -> bool:
        """Return whether *path* is not there because a repair has put it into the quarantine."""
        place = self.layout.quarantine / path.parent.relative_to(self.layout.root)
        taken = any(one.name.startswith(path.name) for one in self.listed(place))
        return taken and not self.is_file(path)

    def size(self, path: Path) -> int | None:
        """Return the size of the regular file *path*, None where there is none."""
        try:
            status = os.lstat(path)
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def exists(self, path: Path) -> bool:
        """Return whether the name *path* is there, whatever it is."""
        return self._is(path, bool)

    @staticmethod
    def _is(path: Path, kind: Callable[[int], bool]) -> bool:
        try:
            return kind(os.lstat(path).st_mode)
        except OSError:
            return False

    def listed(self, directory: Path) -> list[Path]:
        """Return what is in *directory*, by name; nothing where it is no directory."""
        try:
            return sorted(directory / name for name in os.listdir(directory))
        except OSError as error:
            self.failed(directory, error)
            return []

    def below(self, directory: Path) -> Iterator[Path]:
        """Yield the regular files below *directory*."""
        for path in self.listed(directory):
            if self.is_file(path):
                yield path
            elif self._is(path, stat.S_ISDIR):
                yield from self.below(path)

    def cases(self) -> list[Case]:
        """Return a case for everything that could not be read."""
        hint = "make it readable and check again"
        return [
            Case(Finding(path=name, what=f"it cannot be read: {why}", next=hint))
            for name, why in sorted(self.errors.items())
        ]


def _read(path: Path, start: int, size: int) -> bytes | None:
    fd = os.open(path, _SAFELY)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    with os.fdopen(fd, "rb", buffering=0) as file:
        if start:
            file.seek(start)
        return file.read(size) if size >= 0 else file.readall()
