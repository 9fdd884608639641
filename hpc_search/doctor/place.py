"""The directory itself: what it is, who may write, which mount; the temporary directory for the rest."""

from __future__ import annotations

import errno
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
    try:
        path = Path(os.path.abspath(request.name))
        place = look(path)
    except OSError as error:
        return Made(_unreadable(Path(request.name), error), "")
    if place.kind != "directory":
        return Made(place, "")
    temporary = durable.temporary_name(path / "doctor")
    try:
        os.mkdir(temporary, 0o700)
    except OSError as error:
        return Made(msgspec.structs.replace(place, errno=error.errno or 0), "")
    scene.made = scene.directory = temporary
    return Made(place, os.fspath(temporary))


def keep(scene: Scene, _: Request) -> int:
    """Open and fsync the directory, as is done for each name made in it; return the errno."""
    try:
        durable.fsync_dir(scene.directory.parent)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


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
        return _unreadable(path, error)
    kind = "directory" if stat.S_ISDIR(found.st_mode) else "file"
    real, mount, room = Path(os.path.realpath(path)), mount_of(path, _mounts()), os.statvfs(path)
    if kind == "directory" and (shown(path), shown(real)) != (str(path), str(real)):
        kind = "unnamable"
    return Place(
        path=shown(path),
        real=shown(real),
        kind=kind,
        mode=stat.S_IMODE(found.st_mode),
        owner=found.st_uid,
        user=os.geteuid(),
        umask=_umask(),
        open_parents=tuple(map(shown, _open_to_all(real))),
        links=tuple(shown(part) for part in (path, *path.parents) if os.path.islink(part)),
        # Not by Path: that raises where the directory may not be searched.
        is_run=os.path.exists(Layout(path).plan),
        fstype=mount.fstype,
        options=tuple(map(shown, mount.options)),
        mounted_at=shown(mount.point),
        source=shown(mount.source),
        known_good=trusted(mount.fstype, mount.options),
        free=room.f_bavail * room.f_frsize,
        # 0 of 0: the file system makes them as they are needed.
        inodes=room.f_favail if room.f_files else None,
    )


def _unreadable(path: Path, error: OSError) -> Place:
    kind = "missing" if isinstance(error, FileNotFoundError | NotADirectoryError) else "unreadable"
    return Place(path=shown(path), real="", kind=kind, errno=error.errno or 0)


def shown(path: Path | str) -> str:
    """Return *path* as it can be printed and stored: with escapes for bytes that are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _mounts() -> str:
    """Return the table of mounts, whatever bytes their names have; "" where /proc does not say."""
    try:
        return Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


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


OPERATIONS: Final[dict[str, Operation]] = {"make": make, "keep": keep}
