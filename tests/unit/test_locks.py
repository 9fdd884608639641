"""The lock of the index and the coarse locks: what frees them, what refuses, what waits."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc_search.errors import TemporaryError
from hpc_search.locks import IndexLock, LockUnavailableError, coarse_lock

HOLDER = """
import sys, time
from pathlib import Path
from hpc_search.locks import IndexLock
lock = IndexLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "claims.lock"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_holder_killed_by_sigkill_frees_the_lock(path: Path, holder: subprocess.Popen[str]) -> None:
    lock = IndexLock(path, timeout=0.01)
    with pytest.raises(LockUnavailableError):
        lock.acquire()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lock.acquire()
    lock.close()


def test_two_holders_exclude_each_other_and_the_deadline_is_kept(path: Path) -> None:
    first, second = IndexLock(path), IndexLock(path, timeout=0.02)
    first.acquire()
    with pytest.raises(LockUnavailableError, match="still locked by another process"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    first.close()
    second.close()


def test_a_held_lock_is_waited_for(path: Path) -> None:
    first, second = IndexLock(path), IndexLock(path, timeout=30)
    first.acquire()
    waiting = threading.Thread(target=second.acquire)
    waiting.start()
    first.release()
    waiting.join(30)
    assert not waiting.is_alive()
    with pytest.raises(LockUnavailableError):
        IndexLock(path, timeout=0.01).acquire()
    first.close()
    second.close()


def test_eagain_waits_and_does_not_say_that_locks_are_missing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [errno.EAGAIN, errno.EINTR, errno.EAGAIN, 0]

    def flock(*_: object) -> None:
        number = answers.pop(0)
        if number:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = IndexLock(path)
    lock.acquire()
    assert answers == []
    lock.close()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EIO, errno.EACCES, errno.EOPNOTSUPP])
def test_a_mount_without_locks_is_named_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse(monkeypatch, number)
    lock = IndexLock(path, timeout=60)
    with pytest.raises(LockUnavailableError, match=os.strerror(number)) as caught:
        lock.acquire()
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, TemporaryError)
    lock.close()


def test_closing_frees_the_lock_and_it_can_be_taken_again(path: Path) -> None:
    first, second = IndexLock(path), IndexLock(path, timeout=0.01)
    first.acquire()
    first.close()
    first.close()
    second.acquire()
    second.close()
    first.acquire()
    first.close()


def test_the_descriptor_is_not_inherited_by_programs(path: Path) -> None:
    lock = IndexLock(path)
    lock.acquire()
    assert not os.get_inheritable(lock._fd)
    lock.close()


def test_a_coarse_lock_excludes_and_names_the_other_command(path: Path) -> None:
    with coarse_lock(path) as held:
        assert held
        with pytest.raises(LockUnavailableError, match="another command"), coarse_lock(path, timeout=0.05):
            pass
    with coarse_lock(path, timeout=0.05) as held:
        assert held


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EIO])
def test_a_command_goes_on_without_a_coarse_lock_where_there_is_none(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse(monkeypatch, number)
    with coarse_lock(path, timeout=5) as held:
        assert not held


def test_an_error_under_a_coarse_lock_is_not_taken_for_a_missing_lock(path: Path) -> None:
    with pytest.raises(PermissionError), coarse_lock(path):
        raise PermissionError
    with coarse_lock(path, timeout=0.05) as held:
        assert held
