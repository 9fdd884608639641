"""Races for names, and readers beside a writer: what a partner does. The calls themselves are tried."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hpc_search import durable
from hpc_search.doctor.measured import Attempt, Content, Replaced, tally
from hpc_search.doctor.protocol import Operation, Request, Scene

#: The ways to take a name that the ledger uses.
KINDS: Final = ("create", "link", "symlink", "mkdir", "rename_dir")
_TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR})
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_CONTENT: Final = "content"
#: Copies of the generation in a file that is replaced; 4 KiB.
_COPIES: Final = 512
_PAUSE_S: Final = 0.005


def mark(rank: int, name: str) -> str:
    """Return what racer *rank* gives the name *name*."""
    return f"{rank}:{name}"


def _directory(scene: Scene) -> Path:
    return scene.own.with_name(f"{scene.own.name}.d")


def ready(scene: Scene, request: Request) -> None:
    """Make what this racer will give the name, and look the name up, so that its absence may be cached."""
    if request.kind == "link":
        scene.own.unlink(missing_ok=True)
        _write(scene.own, mark(scene.rank, request.name))
    elif request.kind == "rename_dir":
        shutil.rmtree(_directory(scene), ignore_errors=True)
        _directory(scene).mkdir()
        _write(_directory(scene) / _CONTENT, mark(scene.rank, request.name))
    os.path.lexists(scene.at(request.name))


def race(scene: Scene, request: Request) -> Attempt:
    """Try to take the name."""
    try:
        return _TAKE[request.kind](scene, scene.at(request.name), mark(scene.rank, request.name))
    except OSError as error:
        return Attempt(won=False, errno=0 if error.errno in _TAKEN else error.errno or errno.EIO)


def _write(path: Path, text: str) -> None:
    fd = os.open(path, _NEW, 0o600)
    try:
        durable.write_all(fd, text.encode())
    finally:
        os.close(fd)


def _create(_: Scene, path: Path, text: str) -> Attempt:
    _write(path, text)
    return Attempt(won=True)


def _link(scene: Scene, path: Path, _: str) -> Attempt:
    try:
        os.link(scene.own, path)
    except FileExistsError:
        # The reply to a link that was made may be lost; the count of links tells.
        return Attempt(won=os.stat(scene.own).st_nlink == 2)
    found, own = os.lstat(path), os.stat(scene.own)
    real = stat.S_ISREG(found.st_mode) and found.st_ino == own.st_ino and own.st_nlink == 2
    return Attempt(won=True, fake=not real)


def _symlink(_: Scene, path: Path, text: str) -> Attempt:
    os.symlink(text, path)
    return Attempt(won=True)


def _mkdir(_: Scene, path: Path, __: str) -> Attempt:
    os.mkdir(path, 0o700)
    return Attempt(won=True)


def _rename_dir(scene: Scene, path: Path, _: str) -> Attempt:
    os.rename(_directory(scene), path)
    return Attempt(won=True)


_TAKE: Final[dict[str, Callable[[Scene, Path, str], Attempt]]] = {
    "create": _create,
    "link": _link,
    "symlink": _symlink,
    "mkdir": _mkdir,
    "rename_dir": _rename_dir,
}


def read(scene: Scene, request: Request) -> Content:
    """Return what the name holds, waiting until it is *mark* for at most *seconds*."""
    started = time.monotonic()
    while True:
        found = _content(scene.at(request.name), request.kind)
        passed = time.monotonic() - started
        if found == request.mark or passed > request.seconds:
            return Content(found, passed)
        time.sleep(_PAUSE_S)


def _content(path: Path, kind: str) -> str | None:
    try:
        if kind == "symlink":
            return os.readlink(path)
        if kind == "mkdir":
            return "" if stat.S_ISDIR(os.stat(path).st_mode) else None
        return (path / _CONTENT if kind == "rename_dir" else path).read_text("ascii", "replace")
    except OSError:
        return None


def rewrite(scene: Scene, request: Request) -> Replaced:
    """Rename new content over the name for *seconds*."""
    until, generation = time.monotonic() + request.seconds, request.count
    while generation == request.count or time.monotonic() < until:
        generation += 1
        durable.replace(scene.at(request.name), b"%08d" % generation * _COPIES, sync=False)
    return Replaced(writes=generation - request.count)


def reread(scene: Scene, request: Request) -> Replaced:
    """Read the name again and again for *seconds*; it must be there and whole each time."""
    until = time.monotonic() + request.seconds
    reads = torn = missing = stale = 0
    others: list[int | None] = []
    while time.monotonic() < until:
        reads += 1
        try:
            torn += not _whole(scene.at(request.name).read_bytes())
        except FileNotFoundError:
            missing += 1
        except OSError as error:
            stale += error.errno == errno.ESTALE
            others += [error.errno] if error.errno != errno.ESTALE else []
    return Replaced(reads=reads, missing=missing, torn=torn, stale_handles=stale, errors=tally(others))


def _whole(data: bytes) -> bool:
    return len(data) == 8 * _COPIES and data == data[:8] * _COPIES


OPERATIONS: Final[dict[str, Operation]] = {
    "ready": ready,
    "race": race,
    "read": read,
    "rewrite": rewrite,
    "reread": reread,
}
