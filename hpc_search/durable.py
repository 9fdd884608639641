"""The only place that makes bytes durable and publishes names.

A name appears complete or not at all: write a temporary file in the same directory, fsync it, rename
or link it, fsync the directory. Errors are OSErrors; the callers know what they mean.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

#: errno values that mean "no room here": free the reserve, then try again later.
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
#: A name that another client replaces in a tight loop is stale nearly every time.
_STALE_TRIES: Final = 50
#: Prefix of temporary names; `fsck` removes leftovers.
TEMPORARY: Final = ".t-"


def temporary_name(path: Path) -> Path:
    """Return an unpredictable name beside *path*."""
    return path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")


def remove_left(temporary: Path, kind: str, seconds: float) -> None:
    """Remove the directories ``.t-KIND-*`` beside *temporary* that are *seconds* older than it.

    The age is a difference of the file server's own times.
    """
    now = temporary.stat().st_mtime
    for path in temporary.parent.glob(f"{TEMPORARY}{kind}-*"):
        with suppress(OSError):
            if now - path.stat().st_mtime > seconds:
                shutil.rmtree(path, ignore_errors=True)


def read_bytes(path: Path, start: int = 0, size: int = -1) -> bytes:
    """Return the content of *path* from *start*, at most *size* bytes of it.

    A stale handle (another client replaced the name) is opened again.

    Raises:
        FileNotFoundError: There is none, or its directory went meanwhile.
        OSError: It cannot be read.
    """
    for _ in range(_STALE_TRIES):
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(start)
                return file.read(size)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))


def now(directory: Path) -> float:
    """Return the time of the server of *directory* (st_mtime of a file made there, and removed again).

    Raises:
        OSError: Nothing can be made there.
    """
    path = temporary_name(directory / "now")
    fd = os.open(path, _NEW, 0o600)
    try:
        return os.fstat(fd).st_mtime
    finally:
        os.close(fd)
        os.unlink(path)


def fsync_dir(path: Path) -> None:
    """Make the names in directory *path* durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some file systems cannot fsync a directory and say so; there it is not needed.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of *data* to *fd*.

    Raises:
        OSError: The write failed; ``ENOSPC`` also where it was short.
    """
    view = memoryview(data)
    while view:
        written = os.write(fd, view)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[written:]


def write_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Create *path* (which must not exist) with *data* and fsync it."""
    fd = os.open(path, _NEW, mode)
    try:
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        # A failed write names no file, and the name is a temporary one.
        error.filename = error.filename or os.fspath(path.parent)
        with suppress(OSError):
            path.unlink()
        raise


def replace(path: Path, data: bytes, *, mode: int = 0o600, sync: bool = True) -> None:
    """Put *data* at *path*, over what is there. Only for names with one writer.

    With ``sync=False`` the file is still whole or absent for readers, but not durable.
    """
    temporary = temporary_name(path)
    try:
        if sync:
            write_file(temporary, data, mode=mode)
        else:
            fd = os.open(temporary, _NEW, mode)
            try:
                write_all(fd, data)
            finally:
                os.close(fd)
        os.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    if sync:
        fsync_dir(path.parent)


def replace_file(temporary: Path, path: Path) -> None:
    """Rename *temporary*, already fsynced, over *path* and make the name durable."""
    os.rename(temporary, path)
    fsync_dir(path.parent)


def publish(path: Path, data: bytes, *, mode: int = 0o600) -> bool:
    """Put *data* at *path* unless the name is taken; return whether this call did it.

    A lost reply of the server is recognised by the link count of the own temporary file.
    """
    temporary = temporary_name(path)
    write_file(temporary, data, mode=mode)
    try:
        try:
            os.link(temporary, path)
            won = True
        except FileExistsError:
            won = os.stat(temporary).st_nlink == 2
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            won = _publish_without_links(path, data, mode)
    finally:
        with suppress(OSError):
            temporary.unlink()
    fsync_dir(path.parent)
    return won


def _publish_without_links(path: Path, data: bytes, mode: int) -> bool:
    # No hard links here: a directory that holds the content is renamed to a guard's name, which fails
    # where the guard exists; anybody can then give *path* the guard's content, also after a crash.
    if path.exists():
        return False
    guard, own = path.with_name(path.name + ".guard"), temporary_name(path)
    os.mkdir(own, 0o700)
    write_file(own / "content", data, mode=mode)
    fsync_dir(own)
    won = publish_dir(own, guard)
    if not won:
        shutil.rmtree(own, ignore_errors=True)
    if not path.exists():
        replace(path, (guard / "content").read_bytes(), mode=mode)
    return won


def publish_dir(temporary: Path, path: Path) -> bool:
    """Rename directory *temporary* to *path* unless a non-empty *path* exists; return whether it did."""
    try:
        os.rename(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    fsync_dir(path.parent)
    return True


def take_away(path: Path) -> None:
    """Remove directory *path*: its name first, so that a late writer finds nothing; then what is in it.

    Of a symbolic link the link goes, and what it points to stays.
    """
    with suppress(OSError):
        os.rmdir(path)
        return
    aside = temporary_name(path)
    with suppress(OSError):
        os.rename(path, aside)
        if aside.is_symlink():
            aside.unlink()
            return
        shutil.rmtree(aside, ignore_errors=True)
