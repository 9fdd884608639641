"""What SLURM's queue says of the jobs of one run: one `squeue`, by name, parsed."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

import msgspec

from hpc_search.site.client import ask

#: Name, state, reason, expected or real start, nodes, job, array tasks.
_FORMAT: Final = "%j|%T|%r|%S|%N|%F|%K"
#: States in which a task does not work; an unknown word means that it does.
PENDING: Final = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
_ENDING: Final = "COMPLETING"
_RANGE: Final = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
#: Of the names that are asked for: they go into one argument.
_MOST_NAMES: Final = 2000


class Job(msgspec.Struct, frozen=True, array_like=True):
    """One line of squeue: tasks of one array that are alike.

    ``tasks`` are their array indexes as SLURM writes them ("3-9,12"), "" for a job without an array.
    ``start`` is when they started, or are expected to, by the cluster's clock in seconds; 0 where SLURM
    does not say.
    """

    token: str
    state: str
    reason: str
    job: str
    tasks: str
    count: int
    start: float = 0.0
    nodes: str = ""

    @property
    def kind(self) -> str:
        """``waiting``, ``ending`` (claims nothing more) or ``running``; an unknown state is running."""
        if self.state in PENDING:
            return "waiting"
        return "ending" if self.state == _ENDING else "running"

    def has(self, task: int) -> bool:
        """Return whether this line is of array task *task*."""
        return any(task in part for part in _ranges(self.tasks)) or not self.tasks


def fetch(tokens: Sequence[str], user: str, timeout: float) -> tuple[Job, ...] | None:
    """Return the live tasks of *tokens*, which belong to *user*; None where SLURM does not answer in time.

    Only the newest of very many tokens are asked for.
    """
    names = ",".join(tokens[-_MOST_NAMES:])
    # Without the variable a long list of array tasks is cut.
    squeue = ["squeue", "-h", "-a", f"--user={user}", f"--name={names}", "-o", _FORMAT]
    argv = ["env", "SLURM_BITSTR_LEN=0", *squeue]
    answer = ask(argv, timeout)
    return None if answer is None else parse(answer)


def parse(text: str) -> tuple[Job, ...]:
    """Return the jobs of squeue's lines; one that is not understood is passed over."""
    found = []
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) != _FORMAT.count("|") + 1 or not fields[0]:
            continue
        token, state, reason, start, nodes, job, tasks = fields
        tasks = "" if tasks == "N/A" else tasks.partition("%")[0]
        count = sum(map(len, _ranges(tasks))) or 1
        found.append(Job(token, state, reason, job, tasks, count, _seconds(start), nodes))
    return tuple(found)


def _ranges(text: str) -> list[range]:
    found = []
    for first, last, step in _RANGE.findall(text):
        found.append(range(int(first), int(last or first) + 1, int(step or 1)))
    return found


def _seconds(text: str) -> float:
    """Return SLURM's local time as seconds, 0 for N/A."""
    with suppress(ValueError, OverflowError):
        return time.mktime(datetime.fromisoformat(text).timetuple())
    return 0.0
