"""Goes into every process of a disturbed worker: says which phase it is in, and may die or stop in it.

The product knows nothing of it: PYTHONPATH names this directory, and Python imports it at the start. The
board (a file mapped into memory by all) has one slot a process, which outlives it: what stands there when
a process is dead is where it died. On entry into a phase, with the board's probability, a POSIX timer is
set that sends SIGKILL (or SIGSTOP) to the own process after a random part of the time that the phase takes.
"""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.machinery
import json
import mmap
import os
import random
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

PHASES: Final = ("elsewhere", "claim", "finish", "checkpoint", "training", "recover", "reconcile", "beat")
KINDS: Final = ("", "worker", "template", "trial")
#: One probability of a kill a phase, then one typical duration in seconds a phase.
HEADER: Final = struct.Struct(f"<{len(PHASES)}d")
DURATIONS: Final = 1024
SLOTS_AT: Final = 4096
SLOTS: Final = 4096
#: Pid, its start time, its parent's pid, kind, phase, whether the timer is set.
SLOT: Final = struct.Struct("<QQQBBB5x")
BOARD_BYTES: Final = SLOTS_AT + SLOTS * SLOT.size
_SIGEV_SIGNAL: Final = 0
_CLOCK_MONOTONIC: Final = 1
#: Methods of the product that are phases: module, class, method.
_WATCHED: Final = {
    "hpc_search.ledger.claims": (
        ("Ledger", "claim", "claim"),
        ("Ledger", "finish", "finish"),
        ("Ledger", "flush", "finish"),
        ("Ledger", "recover", "recover"),
        ("Ledger", "reconcile", "reconcile"),
        ("Ledger", "beat", "beat"),
    ),
    "hpc_search.checkpoint.slots": (("Slots", "write", "checkpoint"),),
}


def slot_at(pid: int) -> int:
    """Return where the slot of *pid* begins in the board."""
    return SLOTS_AT + pid % SLOTS * SLOT.size


def start_time(pid: int) -> int:
    """Return the start time of *pid* in clock ticks, 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return 0
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


class _Timer(ctypes.Structure):
    _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))


class _Event(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_byte * 48),
    )


class Victim:
    """This process on the board."""

    def __init__(self, board: str, seed: str, kind: int) -> None:
        with open(board, "r+b") as file:
            self._board = mmap.mmap(file.fileno(), BOARD_BYTES)
        self._kept = os.open(
            os.environ["CHAOS_KEPT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._seed = seed
        self._forked = 0
        self._enter(kind)
        os.register_at_fork(before=self._before_fork, after_in_child=self._in_child)

    def _enter(self, kind: int) -> None:
        self._kind, self._phase, self._armed = kind, 0, False
        self._pid = os.getpid()
        self._born = start_time(self._pid)
        self._random = random.Random(f"{self._seed}/{KINDS[kind]}/{self._forked}")
        self._timer: ctypes.c_void_p | None = None
        self._tell()

    def _before_fork(self) -> None:
        self._forked += 1

    def _in_child(self) -> None:
        # A supervisor forks only to exec something else; a template's children are trials.
        if KINDS[self._kind] == "template":
            self._enter(KINDS.index("trial"))

    def _tell(self) -> None:
        at, parent = slot_at(self._pid), os.getppid()
        SLOT.pack_into(self._board, at, self._pid, self._born, parent, self._kind, self._phase, self._armed)

    @contextmanager
    def inside(self, phase: int) -> Iterator[None]:
        """Be in *phase*, perhaps to die there."""
        before, armed_before = self._phase, self._armed
        self._phase = phase
        (typical,) = struct.unpack_from("<d", self._board, DURATIONS + 8 * phase)
        (chance,) = struct.unpack_from("<d", self._board, 8 * phase)
        draw, share = self._random.random(), self._random.random() ** 2
        self._armed = armed_before or draw < chance
        self._tell()
        if self._armed and not armed_before:
            self._set(max(1e-6, share * typical))
        started = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - started
            if self._armed and not armed_before:
                self._set(0.0)
            self._phase, self._armed = before, armed_before
            self._tell()
            struct.pack_into(
                "<d", self._board, DURATIONS + 8 * phase, took if not typical else 0.8 * typical + 0.2 * took
            )

    def keep(self, method: str, arguments: Sequence[Any], result: Any) -> None:
        """Write down what the product promised by returning from *method*: it must not be lost any more."""
        if method == "finish":
            end = arguments[1]
            promise = {"end": result, "trial": end.trial, "attempt": end.attempt, "state": end.state}
        elif method == "write":
            slots = vars(arguments[0])
            promise = {"step": result.step, "trial": slots["_number"], "attempt": slots["_attempt"]}
        else:
            return
        os.write(self._kept, json.dumps(promise).encode() + b"\n")

    def _set(self, seconds: float) -> None:
        if self._timer is None:
            number = signal.Signals[os.environ.get("CHAOS_SIGNAL", "SIGKILL")]
            event = _Event(signo=number, notify=_SIGEV_SIGNAL)
            timer = ctypes.c_void_p()
            if self._libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) != 0:
                raise OSError(ctypes.get_errno(), "timer_create")
            self._timer = timer
        value = _Timer()
        value.value[0], value.value[1] = int(seconds), int(seconds % 1 * 1e9)
        if self._libc.timer_settime(self._timer, 0, ctypes.byref(value), None) != 0:
            raise OSError(ctypes.get_errno(), "timer_settime")


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps the watched methods when their module is imported."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            for owner, method, phase in _WATCHED[fullname]:
                _wrap(getattr(module, owner), method, PHASES.index(phase), self._victim)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _wrap(owner: type, method: str, phase: int, victim: Victim) -> None:
    function: Callable[..., Any] = getattr(owner, method)

    def watched(*arguments: Any, **named: Any) -> Any:
        with victim.inside(phase):
            result = function(*arguments, **named)
            victim.keep(method, arguments, result)
            return result

    setattr(owner, method, watched)


def _victim() -> Victim | None:
    board, command = os.environ.get("CHAOS_BOARD"), sys.orig_argv
    if board is None:
        return None
    if "hpc_search.runners.template" in command:
        kind = KINDS.index("trial" if "fresh" in command else "template")
    elif "hpc_search" in command and "work" in command:
        kind = KINDS.index("worker")
    else:
        return None
    return Victim(board, os.environ["CHAOS_SEED"], kind)


_found = _victim()
if _found is not None:
    sys.meta_path.insert(0, _Finder(_found))

    def training() -> Any:
        """Return the phase of a step of the user's code."""
        assert _found is not None
        return _found.inside(PHASES.index("training"))
