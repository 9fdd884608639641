"""Counts what SLURM is asked: wrappers of its commands stand before them on PATH, also in the tasks."""

from __future__ import annotations

import os
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COMMANDS: Final = ("sbatch", "squeue", "scontrol", "sacct", "scancel", "sinfo", "sacctmgr")
_WRAPPER: Final = """\
#!/bin/sh
echo "{name} ${{SLURM_ARRAY_JOB_ID:-}}_${{SLURM_ARRAY_TASK_ID:-}}" >>{calls}
exec {real} "$@"
"""


@dataclass(frozen=True, slots=True)
class Calls:
    """The file with one line a call."""

    path: Path

    def clear(self) -> None:
        """Forget what was counted."""
        self.path.write_text("")

    def _made(self) -> list[tuple[str, str]]:
        return [(line.split()[0], line.split()[1]) for line in self.path.read_text().splitlines()]

    def at_login(self) -> Counter[str]:
        """Return the calls outside of jobs by command."""
        return Counter(name for name, task in self._made() if task == "_")

    def by_task(self) -> dict[str, Counter[str]]:
        """Return the calls in each task of an array by command."""
        found: dict[str, Counter[str]] = {}
        for name, task in self._made():
            if task != "_":
                found.setdefault(task, Counter())[name] += 1
        return found


@contextmanager
def counted(place: Path) -> Iterator[Calls]:
    """Count the calls of this process, its children and the tasks that they send; *place* holds the tools."""
    tools, calls = place / "counting", place / "calls"
    tools.mkdir(parents=True)
    calls.touch()
    for name in COMMANDS:
        wrapper = tools / name
        real = shutil.which(name)
        if real is None:
            continue
        wrapper.write_text(_WRAPPER.format(name=name, calls=shlex.quote(str(calls)), real=real))
        wrapper.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{tools}:{before}"
    try:
        yield Calls(calls)
    finally:
        os.environ["PATH"] = before
