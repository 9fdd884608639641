"""The directory itself: what it is, who may write, which mount; the temporary directory for the rest."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.doctor.measured import Place
from hpc_search.doctor.protocol import Operation, Request, Scene
from hpc_search.layout import Layout
from hpc_search.mounts import mount_of, trusted

#: Seconds for which the removal is tried: a racer that is being killed may still make a name.
_REMOVAL_S: Final = 10.0
_PAUSE_S: Final = 0.02


class Made(msgspec.Struct, frozen=True):
    """What the directory is, and the temporary directory made in it ("" where that failed)."""

    place: Place
    temporary: str


def make(scene: Scene, request: Request) -> Made:
    """Look at the directory *name* and make a temporary directory in it, which this partner will remove."""
    path = Path(os.path.abspath(request.name))
    place = look(path)
    if place.kind != "directory":
        return Made(place, "")
    temporary = durable.temporary_name(path / "doctor")
    try:
        os.mkdir(temporary, 0o700)
    except OSError as error:
        return Made(msgspec.structs.replace(place, errno=error.errno or 0), "")
    scene.made = scene.directory = temporary
    return Made(place, os.fspath(temporary))


def remove(scene: Scene) -> bool:
    """Remove what `make` made; return whether that is gone."""
    until = time.monotonic() + _REMOVAL_S
    while scene.made is not None and os.path.lexists(scene.made):
        if time.monotonic() > until:
            return False
        shutil.rmtree(scene.made, ignore_errors=True)
        time.sleep(_PAUSE_S)
    return True


def look(path: Path) -> Place:
    """Return what *path* is, from the outside."""
    try:
        found = os.stat(path)
    except OSError as error:
        kind = "missing" if isinstance(error, FileNotFoundError | NotADirectoryError) else "unreadable"
        return Place(path=str(path), real="", kind=kind, errno=error.errno or 0)
    kind = "directory" if stat.S_ISDIR(found.st_mode) else "file"
    real, mount, room = Path(os.path.realpath(path)), mount_of(path), os.statvfs(path)
    return Place(
        path=str(path),
        real=str(real),
        kind=kind,
        mode=stat.S_IMODE(found.st_mode),
        owner=found.st_uid,
        user=os.geteuid(),
        umask=_umask(),
        open_parents=tuple(map(str, _open_to_all(real))),
        links=tuple(str(part) for part in (path, *path.parents) if part.is_symlink()),
        is_run=Layout(path).plan.exists(),
        fstype=mount.fstype,
        options=mount.options,
        mounted_at=mount.point,
        source=mount.source,
        known_good=trusted(mount.fstype, mount.options),
        free=room.f_bavail * room.f_frsize,
        # 0 of 0: the file system makes them as they are needed.
        inodes=room.f_favail if room.f_files else None,
    )


def _umask() -> int | None:
    """Return the umask of what started `doctor`, which sets its own; None where /proc does not say."""
    try:
        doctor = os.getppid()
        shell = _status(doctor)["PPid"]
        return int(_status(int(shell))["Umask"], 8)
    except (OSError, KeyError, ValueError):
        return None


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _open_to_all(path: Path) -> Iterator[Path]:
    """Give *path* and its parents in which anybody may rename what others own."""
    for part in (path, *path.parents):
        with suppress(OSError):
            mode = os.stat(part).st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                yield part


OPERATIONS: Final[dict[str, Operation]] = {"make": make}
