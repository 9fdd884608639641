"""Locks on the shared file system. They save work; nothing that must be true depends on them."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hpc_search.errors import TemporaryError

#: Seconds between two tries at a held lock: from the first to the last value, doubled and jittered.
_BACKOFF: Final = (0.0002, 0.005)


class LockUnavailableError(TemporaryError):
    """The mount has no working locks, or one was not released before the deadline."""


class LockRefusedError(LockUnavailableError):
    """The file system refuses to lock: waiting would not help."""


class IndexLock:
    """An exclusive flock on its own file, taken by polling with a short jittered back-off.

    The descriptor is opened once, never inherited by another program, and must be closed in a forked
    child (`close`), because a child that keeps it keeps the lock after the holder's death.
    """

    def __init__(self, path: Path, timeout: float = 60.0) -> None:
        """Lock *path*, which is created; give up after *timeout* seconds."""
        self._path = path
        self._timeout = timeout
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            LockRefusedError: The mount refuses locks.
            LockUnavailableError: The deadline passed.
        """
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self._try():
            return
        deadline = time.monotonic() + self._timeout
        pause = _BACKOFF[0]
        while time.monotonic() < deadline:
            time.sleep(pause * random.uniform(0.5, 1.5))
            if self._try():
                return
            pause = min(pause * 2, _BACKOFF[1])
        message = f"{self._path}: still locked by another process after {self._timeout:.0f} s"
        raise LockUnavailableError(message, hint="try again; `lsof` on the holder's node shows who has it")

    def _try(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Only EAGAIN says "somebody has it"; EACCES, ENOLCK, EIO, ENOSYS say "no locks here".
            if error.errno == errno.EAGAIN:
                return False
            if error.errno == errno.EINTR:
                return False
            message = f"{self._path}: the file system refuses locks ({os.strerror(error.errno or 0)})"
            raise LockRefusedError(message, hint="`doctor RUN` says what works there") from error
        return True

    def release(self) -> None:
        """Give the lock back."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the descriptor, and with it any lock held."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@contextmanager
def tried_lock(path: Path) -> Iterator[bool]:
    """Try the lock of *path* once; yield whether nobody else has it.

    For what only saves work: where the file system refuses locks, everybody does it. (filelock takes
    longer to import than a worker to find out that nothing is left to do.)
    """
    lock = IndexLock(path, timeout=0.0)
    try:
        lock.acquire()
        free = True
    except LockRefusedError:
        free = True
    except LockUnavailableError:
        free = False
    try:
        yield free
    finally:
        lock.close()


@contextmanager
def coarse_lock(path: Path, timeout: float = 30.0) -> Iterator[bool]:
    """Keep two commands of one kind apart; yield whether the lock is held.

    Where the mount has no locks the command goes on without (False): what it publishes is published
    no-replace anyway.

    Raises:
        LockUnavailableError: Another command holds it for longer than *timeout* seconds.
    """
    import filelock

    lock = filelock.FileLock(path, timeout=timeout, fallback_to_soft=False, mode=0o600)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        message = f"{path}: another command has held this lock for {timeout:.0f} s"
        raise LockUnavailableError(
            message, hint="wait for the other command, then repeat this one"
        ) from error
    except (OSError, NotImplementedError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
