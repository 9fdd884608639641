"""Room, fsync, clocks, quota, HDF5: what a partner does."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Final

from hpc_search import durable
from hpc_search.doctor.measured import Clock, Hdf5, Partner, Quota, Room, Synced, errno_name
from hpc_search.doctor.protocol import Operation, Request, Scene

_BLOCK: Final = 256 * 1024
_FILES: Final = 16
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_PAGE: Final = bytes(4096)
_SYNCS: Final = 7
#: Seconds after which a slow fsync is not timed once more.
_SYNC_S: Final = 1.0
#: HDF5 puts the errno into its message only.
_ERRNO: Final = re.compile(r"errno = (\d+)")


def hello(scene: Scene, request: Request) -> Partner:
    """Wait until the directory is seen here, at most *seconds*; say who this is.

    Raises:
        FileNotFoundError: It is not.
    """
    until = time.monotonic() + request.seconds
    while not os.path.isdir(scene.directory):
        if time.monotonic() > until:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(scene.directory))
        time.sleep(0.05)
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    return Partner(node, os.getpid(), os.fspath(scene.directory))


def room(scene: Scene, _: Request) -> Room:
    """Write a file, make some empty ones; take them away."""
    wrote = _error_of(lambda: durable.write_file(scene.at("room"), bytes(_BLOCK)))
    made = _error_of(lambda: _make_files(scene))
    for name in ("room", *(f"room-{n}" for n in range(_FILES))):
        scene.at(name).unlink(missing_ok=True)
    return Room(bytes=_BLOCK, files=_FILES, write_error=wrote, file_error=made)


def _make_files(scene: Scene) -> None:
    scene.progress()
    for number in range(_FILES):
        # Not synced one by one: inodes are what is asked for.
        os.close(os.open(scene.at(f"room-{number}"), _NEW, 0o600))
        scene.progress()


def _error_of(call: Callable[[], object]) -> str:
    try:
        call()
    except OSError as error:
        return errno_name(error.errno)
    return ""


def sync(scene: Scene, _: Request) -> Synced:
    """Time fsync of a file and of the directory."""
    errors: dict[str, str] = {}
    file = directory = None
    try:
        file = _file_sync(scene)
    except OSError as error:
        errors["file"] = errno_name(error.errno)
    try:
        directory = _directory_sync(scene)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            errors["directory"] = errno_name(error.errno)
    return Synced(file=file or 0.0, directory=directory, errors=errors)


def _file_sync(scene: Scene) -> float:
    fd = os.open(scene.at("sync"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return _timed(scene, fd, lambda _: durable.write_all(fd, _PAGE))
    finally:
        os.close(fd)


def _directory_sync(scene: Scene) -> float:
    fd = os.open(scene.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _timed(scene, fd, lambda number: scene.at(f"sync-{number}").mkdir())
    finally:
        os.close(fd)


def _timed(scene: Scene, fd: int, change: Callable[[int], None]) -> float:
    """Return the median seconds of fsync of *fd* after *change*."""
    seconds: list[float] = []
    while len(seconds) < _SYNCS and sum(seconds) < _SYNC_S:
        change(len(seconds))
        started = time.monotonic()
        os.fsync(fd)
        seconds.append(time.monotonic() - started)
        scene.progress()
    return statistics.median(seconds)


def clock(scene: Scene, request: Request) -> Clock:
    """Write for *seconds* and compare mtime with this machine's clock and with itself."""
    path, until = scene.at("clock"), time.monotonic() + request.seconds
    times, skews = set[int](), list[float]()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not times or time.monotonic() < until:
            before = time.time()
            durable.write_all(fd, b"x")
            os.fsync(fd)
            after = time.time()
            found = os.stat(path).st_mtime_ns
            times.add(found)
            skews.append(found / 1e9 - (before + after) / 2)
            # The finest clock is that of the kernel's tick: 1 to 10 ms.
            time.sleep(0.001)
    finally:
        os.close(fd)
    ordered = sorted(times)
    steps = [later - earlier for earlier, later in itertools.pairwise(ordered)]
    whole = all(one % 1_000_000_000 == 0 for one in ordered)
    return Clock(1.0 if whole else min(steps, default=0) / 1e9, statistics.median(skews))


def quota(_: Scene, request: Request) -> Quota:
    """Ask `quota`, where there is one, within *seconds*."""
    program = shutil.which("quota")
    if program is None:
        return Quota(asked=False)
    try:
        done = subprocess.run(
            [program, "-w"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=request.seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return Quota(asked=True, words="no answer")
    lines = done.stdout.decode(errors="replace").splitlines()
    # A limit that was passed has a star behind the number.
    over = tuple(" ".join(line.split()) for line in lines if re.search(r"\d\*", line))
    return Quota(asked=True, over=over, words=" ".join((lines or ["none"])[0].split()))


def hdf5(scene: Scene, _: Request) -> Hdf5:
    """Write and open an HDF5 file as h5py does by default, and without its locking."""
    os.environ.pop("HDF5_USE_FILE_LOCKING", None)
    import h5py

    def opened(name: str, **options: object) -> str:
        path = scene.at(name)
        try:
            with h5py.File(path, "w", **options) as file:
                file["x"] = 1
            with h5py.File(path, "r", **options) as file:
                return "" if file["x"][()] == 1 else "another value was read"
        except (OSError, RuntimeError) as error:
            # h5py says by a RuntimeError that a close failed.
            number = _ERRNO.search(str(error))
            return errno_name(int(number[1])) if number else str(error)

    return Hdf5(opened("default.h5"), opened("unlocked.h5", locking=False), h5py.version.hdf5_version)


OPERATIONS: Final[dict[str, Operation]] = {
    "hello": hello,
    "room": room,
    "sync": sync,
    "clock": clock,
    "quota": quota,
    "hdf5": hdf5,
}
