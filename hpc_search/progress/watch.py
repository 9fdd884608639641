"""`status --watch`: the status again and again, in a terminal in place, else a line a change.

Only rows that changed are sent, so that a refresh is some hundred bytes over ssh. The alternate screen
keeps what the terminal showed before; the last state is left on the ordinary one.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TextIO

import msgspec

from hpc_search.progress import line
from hpc_search.status.text import Line, screen

if TYPE_CHECKING:
    from rich.console import Console

    from hpc_search.status import Status

#: Seconds between two looks: at least, and at most; and looks take at most this share of the time.
INTERVAL_S: Final = 2.0
_SLOWEST_S: Final = 30.0
_SHARE: Final = 0.1
_STYLES: Final = {"bold": "bold", "good": "green", "bad": "red", "warn": "yellow", "dim": "dim", "": ""}
_QUIT: Final = (b"q", b"Q", b"\x03", b"\x04")
_CLEAR: Final = "\x1b[2J"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGWINCH, signal.SIGTSTP)


def watch(look: Callable[[], Status], run: str, stream: TextIO | None = None) -> int:
    """Show what *look* returns until the search ends or somebody quits.

    Return 0, or the signal that ended it (not Ctrl-C, which is a way to quit). *run* is what the user
    types for the run.
    """
    stream = stream if stream is not None else sys.stdout
    if stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb"):
        return _Terminal(look, run, stream).run()
    return _lines(look, stream)


def pause_after(seconds: float) -> float:
    """Return how long to wait after a look that took *seconds*, its writing included."""
    return min(max(INTERVAL_S, seconds / _SHARE), _SLOWEST_S)


def _lines(look: Callable[[], Status], stream: TextIO) -> int:
    printed = ""
    try:
        while True:
            began = time.monotonic()
            status = look()
            text = line(status)
            if text != printed:
                printed = text
                print(text, file=stream, flush=True)
            if not status.left:
                return 0
            time.sleep(pause_after(time.monotonic() - began))
    except KeyboardInterrupt:
        return 0


class _Terminal:
    """A terminal that shows rows, and what its user and the system tell us meanwhile."""

    def __init__(self, look: Callable[[], Status], run: str, stream: TextIO) -> None:
        # rich costs 0.1 s of import: only a terminal needs it.
        from rich.console import Console

        self._look = look
        self._run = run
        self._stream = stream
        self._console: Console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._shown: list[str] = []
        self._signals: set[int] = set()
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else -1
        self._status: Status | None = None
        self._before: list[Any] | None = None

    def run(self) -> int:
        """Watch until the end; return the signal that ended it."""
        with self._caught() as woken, self._entered():
            while True:
                began = time.monotonic()
                self._status = self._look()
                self._draw()
                if not self._status.left:
                    break
                if self._wait(woken, pause_after(time.monotonic() - began)):
                    break
        self._leave_behind()
        return signal.SIGTERM if signal.SIGTERM in self._signals else 0

    def _wait(self, woken: int, seconds: float) -> bool:
        """Wait; return whether to quit. A new size is drawn at once."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select([fd for fd in (woken, self._keys) if fd >= 0], [], [], left)
            if self._keys in ready and not self._read_keys():
                return True
            if woken in ready:
                os.read(woken, 64)
            if self._signals & {signal.SIGTERM, signal.SIGINT}:
                return True
            if signal.SIGTSTP in self._signals:
                self._suspend()
                return False
            if signal.SIGWINCH in self._signals:
                self._signals.discard(signal.SIGWINCH)
                self._shown = []
                self._draw()
        return bool(self._signals & {signal.SIGTERM, signal.SIGINT})

    def _read_keys(self) -> bool:
        """Return whether to go on."""
        keys = os.read(self._keys, 64)
        if not keys:
            self._keys = -1
        return not any(key in keys for key in _QUIT)

    def _rows(self) -> list[Line]:
        status = self._status
        if status is None:
            return []
        width, height = self._console.size
        rows = screen(_watched(status), width, max(1, height - 1), self._run)
        rows += [Line("")] * (height - 1 - len(rows))
        return [*rows, Line(f"{time.strftime('%H:%M:%S')}  q quits", "dim")]

    def _draw(self) -> None:
        rows = [self._ansi(row) for row in self._rows()]
        if len(rows) != len(self._shown):
            self._shown = []
        text = changes(self._shown, rows)
        self._shown = rows
        self._stream.write(text)
        self._stream.flush()

    def _ansi(self, row: Line) -> str:
        from rich.text import Text

        text = Text(row.text, style=_STYLES[row.style], no_wrap=True)
        # Wide characters take two columns.
        text.truncate(self._console.width)
        with self._console.capture() as captured:
            self._console.print(text, end="", crop=True)
        return captured.get()

    # -- the terminal's state
    @contextmanager
    def _caught(self) -> Iterator[int]:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        previous_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        previous = {number: signal.signal(number, self._signalled) for number in _SIGNALS}
        try:
            yield reader
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous_fd)
            os.close(reader)
            os.close(writer)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        self._signals.add(number)

    @contextmanager
    def _entered(self) -> Iterator[None]:
        if self._keys >= 0:
            with suppress(termios.error):
                self._before = termios.tcgetattr(self._keys)
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        if self._before is not None:
            tty.setcbreak(self._keys)
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)
        self._shown = []

    def _leave(self) -> None:
        self._console.show_cursor(True)
        self._console.set_alt_screen(False)
        if self._before is not None and self._keys >= 0:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)

    def _suspend(self) -> None:
        """Stop as Ctrl-Z asks, the terminal as it was before; go on with a fresh screen."""
        self._signals.discard(signal.SIGTSTP)
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()

    def _leave_behind(self) -> None:
        """Print the last state where the shell goes on."""
        if self._status is not None:
            for row in screen(self._status, self._console.width, None, self._run):
                self._stream.write(self._ansi(row) + "\n")
            self._stream.flush()


def _watched(status: Status) -> Status:
    """Return *status* without the advice to watch."""
    return msgspec.structs.replace(status, next="") if status.next.endswith("--watch") else status


def changes(shown: Sequence[str], rows: Sequence[str]) -> str:
    """Return what makes a terminal that shows *shown* show *rows*: those that differ, each in its place."""
    if not shown:
        return _CLEAR + "".join(f"\x1b[{place};1H{row}" for place, row in enumerate(rows, 1) if row)
    differ = ((place, row) for place, (old, row) in enumerate(zip(shown, rows, strict=True), 1) if old != row)
    return "".join(f"\x1b[{place};1H{row}\x1b[K" for place, row in differ)
