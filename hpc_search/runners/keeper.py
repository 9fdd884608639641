"""The keeper: starts a program, adopts what descends from it, and lets none of it outlive the supervisor.

``python -P -S keeper.py FD PARENT PROGRAM...`` runs PROGRAM (the keeper's pid is its last argument) until
it ends, the supervisor PARENT ends, or the other side of socket FD is closed; then all descendants end.
Only the standard library is imported: the file is run without the package.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
#: Signals that end a process; those who look after trials only note them.
_NOTED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)
#: Seconds between TERM and KILL of what a trial left behind: multiprocessing's trackers clean up meanwhile.
_GRACE: Final = 1.0
#: Seconds after KILL in which a process has to be gone; one that hangs in a driver is not waited for.
_KILLED: Final = 10.0
#: Seconds between two looks for processes that became ours without a signal.
_LOOK: Final = 0.05


def death_with(parent: int, number: int = signal.SIGKILL) -> Callable[[], None]:
    """Return what a new process calls to get *number* when *parent* dies; it lasts through exec.

    It ends the process at once where *parent* is dead already, so that no moment is left unguarded.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    arguments = (_PR_SET_PDEATHSIG, int(number), 0, 0, 0)

    def set_death_signal() -> None:
        prctl(*arguments)
        if os.getppid() != parent:
            os._exit(1)

    return set_death_signal


def _noted(*_: object) -> None:
    return


class Reaper:
    """Children of this process and the orphans below them: noticed when they end, ended on request."""

    def __init__(self) -> None:
        """Adopt the orphans of all descendants from now on."""
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        #: Can be read when a child ended or a signal came.
        self.fd, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.notice()

    def notice(self) -> None:
        """Notice signals; needed again after other people's code ran, which may have taken them.

        Handlers, not SIG_IGN: what is started by exec gets the default back.
        """
        for number in _NOTED:
            signal.signal(number, _noted)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def leave(self) -> None:
        """Be no part of a child that was just forked; its stop signals stay noted."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.close(self.fd)
        os.close(self._writer)

    def ended(self) -> list[tuple[int, int]]:
        """Reap; return (pid, wait status) of the children that ended, adopted ones too."""
        with suppress(BlockingIOError):
            while os.read(self.fd, 4096):
                pass
        found = []
        with suppress(ChildProcessError):
            while (one := os.waitpid(-1, os.WNOHANG))[0]:
                found.append(one)
        return found

    def end_children(self, spared: frozenset[int] = frozenset()) -> bool:
        """TERM, and a second later KILL, all children and what they leave behind, but for *spared*.

        Returns:
            Whether none is left; False where one could not be killed in 10 s.
        """
        for number, seconds in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, _KILLED)):
            until, told = time.monotonic() + seconds, set[int]()
            while True:
                self.ended()
                left = children() - spared
                if not left:
                    return True
                for pid in left - told:
                    with suppress(OSError):
                        os.kill(pid, number)
                told |= left
                now = time.monotonic()
                if now >= until:
                    break
                select.select([self.fd], [], [], min(_LOOK, until - now))
        return False


def children() -> set[int]:
    """Return the pids of this process's children, adopted ones too."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    me = os.getpid()
    try:
        with open(f"/proc/self/task/{me}/children") as file:
            return set(map(int, file.read().split()))
    except OSError:
        # A kernel without that file.
        return {int(name) for name in os.listdir("/proc") if name.isdecimal() and _parent(name) == me}


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return 0
    return int(stat[stat.rindex(b")") + 2 :].split()[1])


def _start(program: list[str], reaper: Reaper) -> int:
    me = os.getpid()
    die_with_keeper = death_with(me)
    pid = os.fork()
    if pid == 0:
        try:
            die_with_keeper()
            reaper.leave()
            os.execv(program[0], [*program, str(me)])  # noqa: S606 - a list, and ours
        finally:
            os._exit(127)
    return pid


def main(arguments: list[str]) -> None:
    """Keep the program; exit with its status."""
    fd, parent, program = int(arguments[0]), int(arguments[1]), arguments[2:]
    reaper = Reaper()
    death_with(parent, signal.SIGTERM)()
    child = _start(program, reaper)
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    poll.register(reaper.fd, select.POLLIN)
    status = None
    while status is None:
        found = dict(poll.poll())
        status = dict(reaper.ended()).get(child)
        if fd in found or os.getppid() != parent:
            break
    if status is None:
        # First of all nothing may go on as if it still had a supervisor.
        os.kill(child, signal.SIGKILL)
    reaper.end_children()
    os._exit(0 if status is None else abs(os.waitstatus_to_exitcode(status)) & 0xFF)


if __name__ == "__main__":
    main(sys.argv[1:])
