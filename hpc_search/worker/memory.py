"""Evidence that memory ran out: the kernel's count of processes it killed, and what a program printed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hpc_search.records.search import OomRetry

_PROC: Final = Path("/proc/self")
#: cgroup v2 counts in memory.events, v1 in memory.oom_control; both call the count of kills so.
_COUNT: Final = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
#: What libraries say of a process of theirs that was killed.
_CHILD_KILLED: Final = re.compile(
    r"killed by signal: Killed|terminated abruptly|died with <Signals\.SIGKILL|exit(?:ed|code)?\W.*-9\b"
)
#: Longest line that is quoted.
_QUOTED: Final = 300


@dataclass(frozen=True, slots=True)
class KillCounter:
    """The kernel's count of processes of our cgroup that it killed because memory ran out.

    A count of None: this machine does not tell (no memory controller, or one that is not ours to read).
    """

    path: Path | None

    @classmethod
    def of_this_process(cls, proc: Path = _PROC) -> KillCounter:
        """Find the file of this process's own cgroup, v1 or v2."""
        try:
            groups, mounts = (proc / "cgroup").read_text(), (proc / "mountinfo").read_text()
        except OSError:
            return cls(None)
        return cls(counter_file(groups, mounts))

    def read(self) -> int | None:
        """Return the count now."""
        try:
            match = _COUNT.search(self.path.read_text()) if self.path is not None else None
        except OSError:
            return None
        return int(match[1]) if match else None


def counter_file(groups: str, mounts: str) -> Path | None:
    """Return the file with the count, from the texts of /proc/PID/cgroup and /proc/PID/mountinfo.

    Source: cgroups(7), cgroup-v2.rst (memory.events), cgroup-v1/memory.rst (memory.oom_control).
    """
    paths = {}
    for line in groups.splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            paths["cgroup"] = path
        elif hierarchy == "0":
            paths["cgroup2"] = path
    names = {"cgroup": "memory.oom_control", "cgroup2": "memory.events"}
    for kind, name in names.items():
        place = _mounted(mounts, kind)
        if kind in paths and place is not None:
            root, point = place
            inside = _below(paths[kind], root)
            if inside is not None:
                return point / inside / name
    return None


def _mounted(mounts: str, kind: str) -> tuple[str, Path] | None:
    """Return (root within the hierarchy, mount point) of the memory controller of *kind*."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, details = before.split(), after.split()
        if len(fields) < 5 or len(details) < 3 or details[0] != kind:
            continue
        if kind == "cgroup2" or "memory" in details[2].split(","):
            return _plain(fields[3]), Path(_plain(fields[4]))
    return None


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)


def _below(path: str, root: str) -> str | None:
    """Return *path* relative to the mount's *root*, None where it lies outside."""
    if ".." in path.split("/"):
        return None
    if root in ("/", path) or path.startswith(f"{root}/"):
        return path.removeprefix(root if root != "/" else "").lstrip("/")
    return None


def host_ran_out(before: int | None, after: int | None, status: int | None, detail: str) -> bool:
    """Return whether the kernel killed a process of ours since *before*, and that ended the attempt.

    *status* is the exit status of the trial's process (a shell says 137 for SIGKILL), *detail* what it said
    itself: a trial may die of a child of its own that was killed. Other trials may share the cgroup, so
    that the count alone proves nothing.
    """
    if before is None or after is None or after <= before:
        return False
    return status in (-9, 137) or _CHILD_KILLED.search(detail) is not None


def program_ran_out(status: int | None, tail: bytes, rule: OomRetry) -> str:
    """Return what shows that a program with exit *status* and last output *tail* had no memory, else ""."""
    if not status:
        return ""
    for expression in rule.text:
        match = re.search(expression.encode(), tail)
        if match:
            return _line_around(tail, match.start())
    return f"exit status {status}, as in retry.oom.codes" if status in rule.codes else ""


def _line_around(text: bytes, place: int) -> str:
    start = text.rfind(b"\n", 0, place) + 1
    line = text[start:].split(b"\n", 1)[0]
    return line[max(0, place - start - _QUOTED // 2) :][:_QUOTED].decode(errors="replace").strip()
