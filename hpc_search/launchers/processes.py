"""The worker processes of this user on this machine, known by their command lines."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hpc_search.ledger.liveness import start_time

_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A process whose arguments say ``--token TOKEN ... --seat SEAT``; ``start_time`` in clock ticks."""

    token: str
    seat: str
    pid: int
    start_time: int


def hostname() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def running(tokens: frozenset[str]) -> list[WorkerProcess]:
    """Return the live workers of *tokens*, one a seat (the oldest), ordered by token and seat."""
    found: dict[tuple[str, str], WorkerProcess] = {}
    for process in _workers():
        key = (process.token, process.seat)
        if process.token in tokens and (key not in found or process.start_time < found[key].start_time):
            found[key] = process
    return [found[key] for key in sorted(found)]


def devices() -> list[str]:
    """Return CUDA_VISIBLE_DEVICES of each live worker of this user, of whatever run."""
    found = []
    for process in _workers():
        with suppress(OSError):
            for variable in Path(_PROC, str(process.pid), "environ").read_bytes().split(b"\0"):
                name, _, value = variable.partition(b"=")
                if name == b"CUDA_VISIBLE_DEVICES":
                    found.append(os.fsdecode(value))
    return found


def shows_environment(pid: int) -> bool:
    """Return whether the kernel shows the environment of the program that *pid* has begun."""
    with suppress(OSError):
        return bool(Path(_PROC, str(pid), "environ").read_bytes())
    return True


def _workers() -> Iterator[WorkerProcess]:
    me = os.getuid()
    for entry in os.scandir(_PROC):
        # A process may end between any two of these calls.
        with suppress(OSError, IndexError, ValueError):
            if entry.name.isdigit() and entry.stat().st_uid == me:
                process = _parse(int(entry.name), Path(entry.path, "cmdline").read_bytes())
                if process is not None:
                    yield process


def _parse(pid: int, cmdline: bytes) -> WorkerProcess | None:
    """Return the worker with this command line (empty for a zombie), None for another process."""
    if b"\0--token\0" not in cmdline or b"\0--seat\0" not in cmdline:
        return None
    words = os.fsdecode(cmdline).split("\0")
    token = words[words.index("--token") + 1]
    seat = words[words.index("--seat") + 1]
    started = start_time(pid)
    return WorkerProcess(token, seat, pid, started) if started else None
