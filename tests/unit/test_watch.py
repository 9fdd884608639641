"""`status --watch` in a real pseudo-terminal, by keys, signals and a changed size; and without one."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from hpc_search.progress.watch import changes, pause_after
from hpc_search.records import index
from tests.run_builder import RunBuilder
from tests.waiting import wait_until

_CONTROL = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\n|\r|[^\x1b\n\r]+")
ALTERNATE, BACK, HIDE, SHOW = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """A command in a pseudo-terminal, and what its screen shows."""

    def __init__(self, run: RunBuilder, columns: int = 80, rows: int = 24) -> None:
        self.columns, self.rows, self.text = columns, rows, ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            environ = {**os.environ, "TERM": "xterm-256color"}
            for name in ("COLUMNS", "LINES", "NO_COLOR"):
                environ.pop(name, None)
            argv = [sys.executable, "-m", "hpc_search", "status", str(run.layout.root), "--watch"]
            # The size is known before anything is drawn.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execve(argv[0], argv, environ)

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self) -> str:
        """Return all that was sent so far."""
        with suppress(OSError):
            while select.select([self.fd], [], [], 0)[0] and (data := os.read(self.fd, 65536)):
                self.text += data.decode()
        return self.text

    def screen(self) -> list[str]:
        """Return the rows that the terminal shows on its alternate screen."""
        shown: dict[int, str] = {}
        row = 1
        for match in _CONTROL.finditer(self.read().rpartition(ALTERNATE)[2].partition(BACK)[0]):
            if match[2] == "J":
                shown = {}
            elif match[2] == "H":
                row = int(match[1].partition(";")[0] or 1)
                shown[row] = ""
            elif match[2] is None:
                shown[row] = shown.get(row, "") + match[0]
        return [shown.get(row, "") for row in range(1, self.rows + 1)]

    def wait(self, words: str) -> list[str]:
        """Wait until the screen shows *words*; return it."""
        wait_until(lambda: words in "\n".join(self.screen()), on_timeout=self.read)
        return self.screen()

    def end(self) -> int:
        """Wait for the command to end; return its exit code."""
        statuses: list[int] = []

        def over() -> bool:
            # Who does not read keeps the other side from ending.
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            statuses.extend([status] if pid else [])
            return bool(pid)

        wait_until(over, on_timeout=self.read)
        self.read()
        return os.waitstatus_to_exitcode(statuses[0])


@pytest.fixture
def run(tmp_path: Path) -> RunBuilder:
    made = RunBuilder(tmp_path / "run", points=50)
    for trial in range(12):
        made.end(trial, trial / 10, worker=1)
    made.end(12, state="failed", cause="error", detail="\x1b[2Jhostile", worker=1)
    made.write()
    return made


def more(run: RunBuilder, trial: int) -> None:
    """End one more trial."""
    run.end(trial, 0.9, worker=1)
    run.write()


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40)])
def test_the_live_view_fits_its_terminal_and_follows_the_run(
    run: RunBuilder, columns: int, rows: int
) -> None:
    terminal = Terminal(run, columns, rows)
    first = terminal.wait("13 of 100 trials")
    sent = len(terminal.text)
    more(run, 13)
    second = terminal.wait("14 of 100 trials")
    refresh = len(terminal.text) - sent
    os.write(terminal.fd, b"q")

    assert terminal.end() == 0
    assert first[0].startswith("example")
    assert "q quits" in first[rows - 1]
    assert max(map(len, [*first, *second])) <= columns
    # Only what changed is sent: for slow lines.
    assert refresh < 700
    assert sent < 2500


def test_quitting_gives_the_terminal_back_with_the_last_state_on_it(run: RunBuilder) -> None:
    terminal = Terminal(run)
    before = termios.tcgetattr(terminal.fd)
    terminal.wait("13 of 100 trials")
    os.write(terminal.fd, b"q")

    assert terminal.end() == 0
    assert terminal.text.startswith(ALTERNATE)
    assert terminal.text.count(HIDE) == terminal.text.count(SHOW) == 1
    left = terminal.text.rpartition(BACK)[2]
    assert "13 of 100 trials" in left
    assert "q quits" not in left
    assert termios.tcgetattr(terminal.fd)[3] == before[3]


@pytest.mark.parametrize(("key", "code"), [(b"\x03", 0), (b"", 128 + signal.SIGTERM)])
def test_ctrl_c_and_sigterm_end_it_cleanly(run: RunBuilder, key: bytes, code: int) -> None:
    terminal = Terminal(run)
    terminal.wait("13 of 100 trials")
    if key:
        os.write(terminal.fd, key)
    else:
        os.kill(terminal.pid, signal.SIGTERM)

    assert terminal.end() == code
    assert BACK in terminal.text
    assert SHOW in terminal.text
    assert "Traceback" not in terminal.text


def test_a_new_size_is_drawn_at_once(run: RunBuilder) -> None:
    terminal = Terminal(run)
    terminal.wait("13 of 100 trials")
    terminal.resize(120, 40)
    wait_until(lambda: "q quits" in terminal.screen()[39], on_timeout=terminal.read)
    os.write(terminal.fd, b"q")

    assert terminal.end() == 0


def test_suspended_and_continued_it_draws_all_of_it_again(run: RunBuilder) -> None:
    terminal = Terminal(run)
    terminal.wait("13 of 100 trials")
    os.kill(terminal.pid, signal.SIGTSTP)
    wait_until(lambda: BACK in terminal.read(), on_timeout=terminal.read)
    wait_until(lambda: Path(f"/proc/{terminal.pid}/stat").read_text().split(") ")[1][0] == "T")
    os.kill(terminal.pid, signal.SIGCONT)
    wait_until(lambda: terminal.read().count(ALTERNATE) == 2, on_timeout=terminal.read)
    terminal.wait("13 of 100 trials")
    os.write(terminal.fd, b"q")

    assert terminal.end() == 0


def test_hostile_words_do_not_reach_the_terminal(run: RunBuilder) -> None:
    terminal = Terminal(run)
    shown = terminal.wait("?[2Jhostile")
    os.write(terminal.fd, b"q")

    assert terminal.end() == 0
    assert any("error" in row for row in shown)


def test_it_ends_with_the_search(run: RunBuilder) -> None:
    terminal = Terminal(run)
    terminal.wait("13 of 100 trials")
    for trial in range(13, 100):
        run.mark(trial, state=index.DONE, attempt=1, owner=1, value=0.5, end=1, seconds=1.0, changed=1100)
    run.write()

    assert terminal.end() == 0
    assert "finished" in terminal.text.rpartition(BACK)[2]


def test_without_a_terminal_a_line_is_printed_whenever_something_changed(run: RunBuilder) -> None:
    argv = [sys.executable, "-m", "hpc_search", "status", str(run.layout.root), "--watch"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as watching:
        assert watching.stdout is not None
        first = watching.stdout.readline()
        more(run, 13)
        second = watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        rest = watching.stdout.read()

    assert first.startswith("13/100 trials")
    assert second.startswith("14/100 trials")
    assert "\x1b" not in first + second + rest
    assert watching.returncode == 0


def test_only_rows_that_differ_are_sent() -> None:
    assert changes(["a", "b", "c"], ["a", "B", "c"]) == "\x1b[2;1HB\x1b[K"
    assert changes(["a"], ["a"]) == ""
    assert changes([], ["a", ""]) == "\x1b[2J\x1b[1;1Ha"


def test_a_large_or_slow_run_is_looked_at_less_often() -> None:
    assert pause_after(0.1) == 2.0
    assert pause_after(0.5) == 5.0
    assert pause_after(10.0) == 30.0
