"""The tasks of this user that SLURM knows, by one squeue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from hpc_search.site.client import ask
from hpc_search.site.limits import Place

#: The name comes last: it is the only field that another program of the user's may have chosen.
_FORMAT: Final = "%F|%K|%T|%r|%a|%q|%P|%j"
#: States of a task that SLURM ends already: it counts for no limit any more.
_ENDING: Final = "COMPLETING"


class Task(NamedTuple):
    """One task: the id of its array, its number there ("": none), its state and why it waits."""

    array: str
    number: str
    state: str
    reason: str
    place: Place
    name: str

    @property
    def waits(self) -> bool:
        """Whether it has not started."""
        return self.state == "PENDING"

    @property
    def counts(self) -> bool:
        """Whether it counts for the limits of the site."""
        return self.state != _ENDING


def own_tasks() -> list[Task] | None:
    """Return all tasks of this user that are not over; None where SLURM does not answer."""
    answer = ask(["squeue", "--me", "-h", "-r", "-a", "-o", _FORMAT])
    return None if answer is None else parse_tasks(answer)


def parse_tasks(text: str) -> list[Task]:
    """Return the tasks from lines of `_FORMAT`."""
    return [_task(line.split("|", 7)) for line in text.splitlines() if line.count("|") >= 7]


def _task(fields: list[str]) -> Task:
    array, number, state, reason, account, qos, partition, name = fields
    # Of a task that may run on any of several partitions all are shown.
    place = Place(account, qos, partition.partition(",")[0])
    return Task(array, "" if number == "N/A" else number, state, reason, place, name)


def named(tasks: Iterable[Task], names: Iterable[str]) -> list[Task]:
    """Return those of *tasks* that have one of *names*."""
    wanted = frozenset(names)
    return [task for task in tasks if task.name in wanted]
