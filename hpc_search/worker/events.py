"""One selector for signals, the template, the running trial's messages, output and end."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from hpc_search.runners import messages

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Running(Protocol):
    """The trial that runs now, as far as the event loop needs it."""

    def stop(self, reason: str) -> None:
        """Ask it to stop at its next step."""

    def kill(self) -> None:
        """Kill its process group."""

    def template_message(self, message: dict[str, Any]) -> None:
        """Take what the template says of it."""

    def template_died(self) -> None:
        """The template is gone, and the trial with it."""


class Events:
    """Waits; calls back for each thing that happened. Single-threaded."""

    def __init__(self) -> None:
        """Catch stop signals from now on."""
        self._selector = selectors.DefaultSelector()
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        self._previous_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._signalled: Callable[[int], None] = lambda _: None
        self._woke: Callable[[], None] = lambda: None
        self.running: Running | None = None
        self.watch(self._reader, self._read_signals)

    def on_signal(self, callback: Callable[[int], None]) -> None:
        """Call *callback* with the number of each stop signal."""
        self._signalled = callback

    def on_wake(self, callback: Callable[[], None]) -> None:
        """Call *callback* after every wait, before what happened is handled."""
        self._woke = callback

    def watch(self, fd: int | socket.socket, callback: Callable[[], None]) -> None:
        """Call *callback* when *fd* can be read."""
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def forget(self, fd: int | socket.socket) -> None:
        """Stop watching *fd*."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    def wait(self, seconds: float) -> None:
        """Wait for events, at most *seconds*, and call back."""
        found = self._selector.select(seconds)
        self._woke()
        for key, _ in found:
            if key.fd in self._selector.get_map():
                key.data()

    def _read_signals(self) -> None:
        with suppress(BlockingIOError):
            for number in os.read(self._reader, 64):
                if number in _SIGNALS:
                    self._signalled(number)

    def stop_running(self, reason: str) -> None:
        """Ask the running trial to stop."""
        if self.running is not None:
            self.running.stop(reason)

    def kill_running(self) -> None:
        """Kill the running trial."""
        if self.running is not None:
            self.running.kill()

    def first_message(
        self,
        sock: socket.socket,
        inbox: messages.Inbox,
        tick: Callable[[], float],
        stopping: Callable[[], str],
        seconds: float,
    ) -> dict[str, Any] | None:
        """Wait for one message on *sock*; None where the other side went away or the worker has to stop.

        Raises:
            TimeoutError: There was none within *seconds*.
        """
        until = time.monotonic() + seconds
        found: list[dict[str, Any] | None] = []

        def receive() -> None:
            try:
                data = sock.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                found.append(None)
            found.extend(inbox.feed(data))

        self.watch(sock, receive)
        try:
            while not found and not stopping():
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self.wait(min(tick(), left))
        finally:
            self.forget(sock)
        return found[0] if found else None

    def settle(self, stopping: Callable[[], str], seconds: float) -> None:
        """Wait *seconds* for a stop signal that may be on its way."""
        until = time.monotonic() + seconds
        while not stopping() and (left := until - time.monotonic()) > 0:
            self.wait(left)

    def watch_template(self, sock: socket.socket, inbox: messages.Inbox) -> None:
        """Pass what the template says on to the running trial."""

        def receive() -> None:
            try:
                data = sock.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                self.forget(sock)
                if self.running is not None:
                    self.running.template_died()
                return
            for message in inbox.feed(data):
                if self.running is not None:
                    self.running.template_message(message)

        self.watch(sock, receive)

    def close(self) -> None:
        """Give the signals back."""
        signal.set_wakeup_fd(self._previous_fd)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._selector.close()
        os.close(self._reader)
        os.close(self._writer)
