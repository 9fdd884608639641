"""The run's sources on this node: one directory for all its workers, verified, gone with the last of them.

Sources run from files, not from the archive: C extensions are loaded, data are opened beside ``__file__``.
The directory is named by its content. Who uses it holds a shared lock of it, which also keeps
systemd-tmpfiles away; who leaves, or finds others, removes what nobody holds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hpc_search import durable
from hpc_search.errors import HpcSearchError, TemporaryError
from hpc_search.planning import archive

#: Tries to get hold of a directory that others make and remove, and seconds between two.
_TRIES: Final = 200
_PAUSE: Final = 0.01
#: Seconds after which what a killed worker was unpacking is removed.
_LEFT: Final = 3600.0

Marks = dict[str, tuple[int, int] | None]


@dataclass(frozen=True, slots=True)
class Code:
    """Where trials find their sources: ``roots`` to import from, ``programs``: arguments that are files here.

    ``digest`` is "" where they run what is in its own place.
    """

    roots: tuple[str, ...] = ()
    digest: str = ""
    folder: str = ""
    programs: frozenset[str] = frozenset()
    #: Whether the command runs a module: Python would look for it in its working directory first.
    module: bool = False
    #: The directory of the search file: arguments may be absolute paths below it.
    base: str = ""

    def argument(self, part: str) -> str:
        """Return *part* of a command, the kept copy's path where it is a file of the user's."""
        name = archive.name_below(part, self.base) if self.programs else ""
        return os.path.join(self.folder, name) if name in self.programs else part

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return what programs get in their environment, so that they import from here first."""
        if not self.digest:
            return {}
        before = [base["PYTHONPATH"]] if base.get("PYTHONPATH") else []
        paths = {"PYTHONPATH": os.pathsep.join([*self.roots, *before]), "HPC_SEARCH_CODE": self.folder}
        return paths | ({"PYTHONSAFEPATH": "1"} if self.module else {})


@dataclass(slots=True)
class Unpacked:
    """The directory, held until `close`."""

    code: Code
    _folder: Path
    _fd: int
    _marks: Marks

    def mended(self, read: Callable[[], Mapping[str, bytes]]) -> str:
        """Return in words that files were changed or removed since the last look, and put them right.

        *read* gives the contents. It was somebody who cleans up here, or another worker that mended it.
        """
        now = _marks(self._folder, self._marks)
        # What was gone before it was first looked at is missing all the same.
        if not (count := sum(now[name] is None or now[name] != mark for name, mark in self._marks.items())):
            return ""
        try:
            contents = read()
            if not _same(self._folder, self._fd):
                fd = _hold(self._folder, contents)
                os.close(self._fd)
                self._fd = fd
            _put_right(self._folder, contents)
        except (OSError, HpcSearchError) as error:
            return f"{count} files of the run's sources are changed in {self._folder}, and stay so: {error}"
        self._marks = _marks(self._folder, self._marks)
        return f"{count} files of the run's sources were changed or removed in {self._folder}"

    def close(self) -> None:
        """Let go of it; remove it where nobody else holds it."""
        if self._fd >= 0:
            _remove_unheld(self._folder, self._fd)
            os.close(self._fd)
            self._fd = -1


def unpack(contents: Mapping[str, bytes], digest: str, boot_id: str) -> Unpacked:
    """Return the directory with *contents*, made where it is missing and put right where it differs.

    Raises:
        TemporaryError: This node has no room for it.
    """
    why = "no temporary directory"
    for place in _places():
        try:
            parent = _own_folder(place)
            if parent is None:
                continue
            folder = parent / f"{digest}-{boot_id[:8]}"
            fd = _hold(folder, contents)
            _put_right(folder, contents)
            _clean(parent, folder, boot_id[:8])
        except OSError as error:
            why = f"{error.filename or place}: {error.strerror}"
            continue
        return Unpacked(_code(folder, contents, digest), folder, fd, _marks(folder, contents))
    message = f"the sources of the run cannot be unpacked on this node ({why})"
    raise TemporaryError(
        message, hint="free space there, or set TMPDIR to a directory of this node with room"
    )


def _marks(folder: Path, names: Iterable[str]) -> Marks:
    """Return by name what changes with a file, None where it is missing."""
    found: Marks = dict.fromkeys(names)
    for name in found:
        with suppress(OSError):
            status = os.lstat(folder / name)
            found[name] = (status.st_ino, status.st_ctime_ns)
    return found


def _code(folder: Path, contents: Mapping[str, bytes], digest: str) -> Code:
    manifest = archive.manifest_of(contents)
    roots = tuple(str(folder / root) for root in manifest.roots)
    return Code(roots, digest, str(folder), frozenset(manifest.programs), manifest.module)


def _places() -> Iterator[Path]:
    """Yield directories of this node; first of all those that programs can be run from."""
    found = dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"))  # noqa: S108 - checked below
    later = []
    for name in found:
        try:
            runs = not os.statvfs(name).f_flag & os.ST_NOEXEC
        except OSError:
            continue
        if runs:
            yield Path(name)
        else:
            later.append(Path(name))
    yield from later


def _own_folder(place: Path) -> Path | None:
    """Return our directory in *place*, None where somebody else has made something of that name."""
    folder = place / f"hpc_search-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = os.lstat(folder)
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if ours else None


def _hold(folder: Path, contents: Mapping[str, bytes]) -> int:
    """Return a descriptor of *folder* with a shared lock; it is made where it is missing.

    Raises:
        OSError: It can be neither made nor opened.
    """
    for _ in range(_TRIES):
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            _make(folder, contents)
            continue
        if _locked(fd, fcntl.LOCK_SH) and _same(folder, fd):
            return fd
        os.close(fd)
        time.sleep(_PAUSE)
    raise TimeoutError(None, "others make and remove it again and again", str(folder))


def _locked(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # No locks here: nothing is removed then, either.
        return kind == fcntl.LOCK_SH
    return True


def _same(folder: Path, fd: int) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.stat(folder), os.fstat(fd))
    return False


def _make(folder: Path, contents: Mapping[str, bytes]) -> None:
    temporary = durable.temporary_name(folder)
    temporary.mkdir(mode=0o700)
    try:
        _put_right(temporary, contents)
        durable.publish_dir(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_right(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Make every file below *folder* what *contents* says; each is whole at any moment."""
    executable = frozenset(archive.manifest_of(contents).executable)
    made: set[Path] = set()
    for name, content in contents.items():
        path = folder / name
        if _holds(path, content):
            continue
        if path.parent not in made:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made.add(path.parent)
        # Read-only: what a trial writes beside its sources by mistake would be another's code.
        durable.replace(path, content, mode=0o500 if name in executable else 0o400, sync=False)


def _holds(path: Path, content: bytes) -> bool:
    with suppress(OSError):
        return path.read_bytes() == content
    return False


def _clean(parent: Path, own: Path, boot: str) -> None:
    """Remove what no worker of this boot holds any more, and what was never finished."""
    now = time.time()
    for path in parent.iterdir():
        with suppress(OSError):
            if path.name.startswith(durable.TEMPORARY):
                if now - path.stat().st_mtime > _LEFT:
                    shutil.rmtree(path, ignore_errors=True)
            elif path != own and path.name.endswith(f"-{boot}"):
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    _remove_unheld(path, fd)
                finally:
                    os.close(fd)


def _remove_unheld(folder: Path, fd: int) -> None:
    with suppress(OSError):
        if _locked(fd, fcntl.LOCK_EX) and _same(folder, fd):
            durable.take_away(folder)
