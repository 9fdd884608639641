"""System calls of one process, seen and broken by strace, which attaches while the process is stopped."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hpc_search.errors import UsageError

#: Calls that name a file or use a descriptor, and what they give to programs.
TRACE: Final = "trace=%file,%desc"
#: They show a path and touch no file.
_NO_FILE: Final = frozenset({"getcwd"})
_START: Final = re.compile(r"^(\d* *)([a-z0-9_]+)\((.*)$")
_DEATH: Final = re.compile(r"^(\d* *)\+\+\+ killed by SIGKILL")


def require_strace() -> None:
    """Refuse with words where strace is missing."""
    if shutil.which("strace") is None:
        message = "this campaign breaks system calls with strace, which is not on PATH"
        raise UsageError(message, hint="install strace (Debian: apt install strace)")


@dataclass(frozen=True, slots=True)
class Call:
    """The ``count``-th call of ``name`` by the ``thread``-th thread, with all its text as strace shows it."""

    thread: int
    name: str
    count: int
    text: str
    path: str = ""
    #: Which call of ``name`` it is on ``path``, in its thread; for `strace -P`.
    on_path: int = 0
    #: Whether an earlier thread makes a count-th call of this name first: strace counts a thread's own.
    shadowed: bool = False

    def injection(self, what: str, *, by_path: bool = False) -> list[str]:
        """Return strace's options that do *what* at this call.

        With *by_path* it is counted among the calls on its path, not among all of its thread.
        """
        by_path = by_path or self.shadowed
        narrow = ["-P", self.path] if by_path else []
        number = self.on_path if by_path else self.count
        return [*narrow, "-e", f"inject={self.name}:{what}:when={number}"]

    def __str__(self) -> str:
        return f"{self.name} #{self.count} ({self.path})"


def calls(log: str, below: Path) -> list[Call]:
    """Return the calls in *log* that touch paths below *below* (or beginning with it), in order."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    on_path: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    reached: Counter[str] = Counter()
    threads: list[str] = []
    found: list[Call] = []
    for match in filter(None, map(_START.match, log.splitlines())):
        thread, name, text = match.groups()
        if thread not in threads:
            threads.append(thread)
        counts[thread][name] += 1
        count = counts[thread][name]
        shadowed = count <= reached[name]
        reached[name] = max(reached[name], count)
        path = "" if name in _NO_FILE else _path(name, text, str(below))
        if path:
            on_path[thread][name, path] += 1
            number = on_path[thread][name, path]
            found.append(Call(threads.index(thread), name, count, text, path, number, shadowed))
    return found


def _path(name: str, text: str, below: str) -> str:
    """Return the first path in *text* at or below *below*; a name in a directory's descriptor counts."""
    text = re.sub(r"^AT_FDCWD<[^>]*>, ", "", text)
    place = re.search(r'[<"](' + re.escape(below) + r'(?:/[^">]*)?)[">]', text)
    if place is None:
        return ""
    inside = re.match(r'\d+<[^>]*>, "([^"/]+)"', text) if name.endswith("at") else None
    return f"{place[1]}/{inside[1]}" if inside else place[1]


def lasting(seen: Sequence[Call], call: Call, what: str) -> list[str]:
    """Return strace's options that do *what* at *call* and all later ones of its name on the paths of *seen*.

    A journal has further segments, which an undisturbed run does not make.
    """
    paths = {one.path for one in seen}
    paths |= {path.replace(".1.jsonl", f".{n}.jsonl") for path in paths for n in range(2, 9)}
    same = [one for one in seen if (one.thread, one.name) == (call.thread, call.name)]
    narrow = [option for path in sorted(paths) for option in ("-P", path)]
    return [*narrow, "-e", f"inject={call.name}:{what}:when={same.index(call) + 1}+"]


def killed_in(log: str, call: Call, below: Path) -> bool:
    """Return whether the process was killed in exactly *call*."""
    if not any(map(_DEATH.match, log.splitlines())):
        return False
    wanted = call.name, plain(call.path)
    return any((last.name, plain(last.path)) == wanted for last in _last_of_threads(log, below))


def plain(text: str) -> str:
    """Return *text* without the names that are chosen at random."""
    return re.sub(r"\b[0-9a-f]{12,16}\b", "*", text)


def _last_of_threads(log: str, below: Path) -> list[Call]:
    last = {call.thread: call for call in calls(log, below)}
    return list(last.values())


def failed_in(log: str, call: Call) -> bool:
    """Return whether strace made *call* fail."""
    lines = [line for line in log.splitlines() if line.endswith("(INJECTED)")]
    return any(call.name in line and call.path.rpartition("/")[2] in line for line in lines)


class Strace:
    """strace on one stopped process; it ends with the process."""

    def __init__(self, pid: int, log: Path, options: Iterable[str] = (), *, threads: bool = False) -> None:
        """Attach to *pid* (with *threads*: and to what it starts); return when its next call will be seen."""
        self.log = log
        log.unlink(missing_ok=True)
        argv = [
            "strace",
            *(["-f"] if threads else []),
            "-y",
            "-s",
            "120",
            "-o",
            str(log),
            "-e",
            TRACE,
            *options,
            "-p",
            str(pid),
        ]
        self._process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        first = self._said()
        if "attached" not in first:
            self._process.wait(10)
            message = f"strace cannot attach to a child of its user: {first.strip()}"
            raise UsageError(
                message, hint="allow ptrace here (kernel.yama.ptrace_scope below 3, CAP_SYS_PTRACE)"
            )

    def _said(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.readline()

    def end(self) -> str:
        """Wait until it has written all and return its log."""
        try:
            self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        return self.text()

    def text(self) -> str:
        """Return the log as it is now."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def by_name(found: Sequence[Call]) -> Counter[str]:
    """Return how many of the calls *found* there are of each name."""
    return Counter(call.name for call in found)
