"""Locks between processes: what a partner does. Every wait ends at a deadline."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import struct
import time
from pathlib import Path
from typing import Final

from hpc_search import durable
from hpc_search.doctor.measured import Count, Lock, RunLock, tally
from hpc_search.doctor.protocol import Operation, Request, Scene

KINDS: Final = ("flock", "fcntl")
#: Bytes between the records of a counter file: the common one, then one a process.
_RECORD: Final = 64
_NUMBER: Final = struct.Struct("<q")
_HELD: Final = frozenset({errno.EAGAIN, errno.EACCES})
#: What a cache that was not refreshed says of a file that is there.
_UNSEEN: Final = frozenset({errno.ENOENT, errno.ESTALE})
#: Seconds between two tries at a held lock, from the first to the last value; as in `hpc_search.locks`.
_BACKOFF: Final = (0.0002, 0.005)
#: Seconds that one turn may wait for the lock.
TURN_S: Final = 3.0


def _lock(kind: str, fd: int) -> None:
    flags = fcntl.LOCK_EX | fcntl.LOCK_NB
    if kind == "flock":
        fcntl.flock(fd, flags)
    else:
        fcntl.lockf(fd, flags)


def _unlock(kind: str, fd: int) -> int:
    """Give the lock back; return the errno."""
    try:
        if kind == "flock":
            fcntl.flock(fd, fcntl.LOCK_UN)
        else:
            fcntl.lockf(fd, fcntl.LOCK_UN)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _try(kind: str, fd: int, seconds: float) -> Lock:
    """Take the lock within *seconds*; one try where that is 0."""
    started, pause = time.monotonic(), _BACKOFF[0]
    while True:
        try:
            _lock(kind, fd)
        except OSError as error:
            passed = time.monotonic() - started
            if error.errno not in (*_HELD, errno.EINTR) or passed >= seconds:
                return Lock(taken=False, errno=error.errno or errno.EIO, seconds=passed)
        else:
            return Lock(taken=True, seconds=time.monotonic() - started)
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(2 * pause, _BACKOFF[1])


def _descriptor(scene: Scene, name: str) -> int:
    if name not in scene.held:
        scene.held[name] = os.open(scene.at(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return scene.held[name]


def take(scene: Scene, request: Request) -> Lock:
    """Take lock *name* within *seconds* and keep it; a lock that another one holds has errno 0."""
    found = _try(request.kind, _descriptor(scene, request.name), request.seconds)
    return Lock(found.taken, 0 if found.errno in _HELD else found.errno, found.seconds)


def drop(scene: Scene, request: Request) -> Lock:
    """Give lock *name* back; the descriptor stays open."""
    return Lock(taken=False, errno=_unlock(request.kind, _descriptor(scene, request.name)))


def lay(scene: Scene, request: Request) -> None:
    """Make the counter of lock *name* for *count* processes, all zero."""
    path = _counter(scene, request)
    temporary = durable.temporary_name(path)
    durable.write_file(temporary, bytes(_RECORD * (request.count + 1)))
    scene.progress()
    durable.replace_file(temporary, path)


def _counter(scene: Scene, request: Request) -> Path:
    return scene.at(f"{request.name}.count")


def turns(scene: Scene, request: Request) -> Count:
    """Take the lock and raise the counter, *count* times or for *seconds*, or until it cannot be had."""
    until = time.monotonic() + request.seconds
    fd, done, value, longest = _descriptor(scene, request.name), 0, -1, 0.0
    while done < request.count and (not done or time.monotonic() < until):
        lock = _try(request.kind, fd, TURN_S)
        longest = max(longest, lock.seconds)
        if not lock.taken:
            return Count(done, value, longest, tally([] if lock.errno in _HELD else [lock.errno]))
        try:
            value = _raise(_counter(scene, request), scene.rank, done + 1)
        finally:
            refused = _unlock(request.kind, fd)
        done += 1
        if refused:
            return Count(done, value, longest, tally([refused]))
        # The others shall have their turn in between.
        time.sleep(random.uniform(0, _BACKOFF[1] / 5))
    return Count(done, value, longest)


def _raise(path: Path, rank: int, turn: int) -> int:
    """Add one to the counter and note the own *turn*; return what was read, -1 for what is not seen."""
    # Opened after the lock and closed before its release, as the index is.
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _UNSEEN:
            return -1
        raise
    try:
        value = _number(os.pread(fd, _NUMBER.size, 0))
        os.pwrite(fd, _NUMBER.pack(value + 1), 0)
        os.pwrite(fd, _NUMBER.pack(turn), _RECORD * (rank + 1))
        os.fsync(fd)
    finally:
        os.close(fd)
    return value


def _number(data: bytes) -> int:
    return int(_NUMBER.unpack(data)[0]) if len(data) == _NUMBER.size else -1


def total(scene: Scene, request: Request) -> list[int]:
    """Return the counter and the last turn of each of *count* processes, read under the lock."""
    fd = _descriptor(scene, request.name)
    lock = _try(request.kind, fd, request.seconds)
    try:
        data = _counter(scene, request).read_bytes()
    finally:
        if lock.taken:
            _unlock(request.kind, fd)
    return [_number(data[at : at + _NUMBER.size]) for at in range(0, _RECORD * (request.count + 1), _RECORD)]


def run_lock(_: Scene, request: Request) -> RunLock:
    """Return whether the lock at path *name* becomes free within *seconds*."""
    try:
        fd = os.open(request.name, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return RunLock(exists=False, free=True)
    try:
        found = _try("flock", fd, request.seconds)
        holders = () if found.taken else _holders(os.fstat(fd))
    finally:
        os.close(fd)
    number = 0 if found.errno in _HELD else found.errno
    return RunLock(True, found.taken, number, found.seconds, holders)


def _holders(file: os.stat_result) -> tuple[int, ...]:
    """Return the processes of this machine that hold a lock on *file*."""
    wanted = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    found = set()
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return ()
    for line in lines:
        # 1: FLOCK  ADVISORY  WRITE 4711 fd:01:1234 0 EOF; a waiting one has "->" after its number.
        fields = line.split()
        if len(fields) > 5 and fields[1] != "->" and fields[5] == wanted and fields[4].isdecimal():
            found.add(int(fields[4]))
    return tuple(sorted(found))


OPERATIONS: Final[dict[str, Operation]] = {
    "take": take,
    "drop": drop,
    "lay": lay,
    "turns": turns,
    "total": total,
    "run_lock": run_lock,
}
