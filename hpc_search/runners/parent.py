"""The parent of trials: takes requests with descriptors from the supervisor, reaps, tells of the ends."""

from __future__ import annotations

import os
import selectors
import socket
from contextlib import suppress
from typing import Any

from hpc_search.runners import messages, processes
from hpc_search.runners.keeper import Reaper, children

#: Descriptors that come with a request at most.
_MOST_FDS = 2


class Parent:
    """The loop of a process whose children are trials, one at a time."""

    def __init__(self, sock: socket.socket) -> None:
        """Talk to the supervisor over *sock*."""
        self._socket = sock
        sock.set_inheritable(False)
        self._inbox = messages.Inbox()
        self._reaper = Reaper()
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)
        self._selector.register(self._reaper.fd, selectors.EVENT_READ)
        self._fds: list[int] = []
        self._trial = 0
        #: Children that the user's code started when it was imported: they stay.
        self._spared: frozenset[int] = frozenset()

    def serve(self) -> None:
        """Answer requests and tell of ended trials until the supervisor is gone."""
        while True:
            for key, _ in self._selector.select():
                if key.fd == self._reaper.fd:
                    self._reap()
                elif not self._receive():
                    return

    def take(self, message: dict[str, Any], fds: list[int]) -> None:
        """Do what *message* asks; *fds* came with it and are this process's to close."""
        raise NotImplementedError

    def send(self, kind: str, **content: Any) -> None:
        """Tell the supervisor."""
        with suppress(OSError):
            self._socket.sendall(messages.encode(kind, content))

    def started(self, pid: int, number: int) -> None:
        """Tell that trial *number* runs as process *pid*."""
        self._trial = pid
        self.send("spawned", pid=pid, number=number)

    def keep_children(self) -> None:
        """Leave the children that there are now alone, and notice signals again."""
        self._reaper.notice()
        self._spared = frozenset(children())

    def leave(self) -> None:
        """Be no part of a child that was just forked."""
        self._reaper.leave()
        self._selector.close()
        self._socket.close()

    def _receive(self) -> bool:
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, 1 << 20, _MOST_FDS)
        except OSError:
            return False
        if not data:
            return False
        for fd in fds:
            # What a trial starts by exec has no line to the supervisor.
            os.set_inheritable(fd, False)
        self._fds.extend(fds)
        for message in self._inbox.feed(data):
            fds, self._fds = self._fds, []
            self.take(message, fds)
        return True

    def _reap(self) -> None:
        for pid, status in self._reaper.ended():
            if pid == self._trial:
                self._trial = 0
                # Whatever the trial left behind ends with it, before the next one starts.
                self._reaper.end_children(self._spared)
                processes.kill_group(pid)
                self.send("exited", pid=pid, status=os.waitstatus_to_exitcode(status))


def request(sock: socket.socket, kind: str, content: dict[str, Any], fds: list[int]) -> None:
    """Send a request of the supervisor with the descriptors that it needs.

    Raises:
        OSError: The other side is gone.
    """
    frame = messages.encode(kind, content)
    sent = socket.send_fds(sock, [frame], fds)
    if sent < len(frame):
        sock.sendall(frame[sent:])
