"""Workers that found another slice than their profile expects, by the journals."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

import msgspec

from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records import journal as lines

#: Event of the note of a worker with what it saw of its devices, as JSON (`slices.observed`).
SLICE: Final = "slice"
#: Event of the note of a worker that leaves for another slice than its profile expects, with what differs.
MISMATCH: Final = "slice mismatch"
#: The same where the profile says ``on_mismatch: warn``: it stays.
WARNED: Final = "slice warning"
#: Event of the note of a worker whose task SLURM runs again, with the nodes that it is to avoid.
ELSEWHERE: Final = "requeue elsewhere"
#: Event of SLURM's name of the node.
NODE: Final = "node"
_KINDS: Final = frozenset({b"open", b"note"})


@dataclass(slots=True)
class Visit:
    """One worker: its seat, its node, what differed there ("": nothing), whether its task is run again."""

    worker: str
    token: str = ""
    seat: str = ""
    restart: int = 0
    opened: float = 0.0
    node: str = ""
    words: str = ""
    again: bool = False

    def take(self, record: lines.AnyRecord) -> None:
        """Take the next record of its journal."""
        match record:
            case lines.Open():
                self.token, self.seat, self.restart = record.token, record.seat, record.restart
                self.node = self.node or record.host
                self.opened = self.opened or record.t
            case lines.Note(event=event) if event == NODE:
                self.node = record.text
            case lines.Note(event=event) if event == MISMATCH:
                self.words = record.text
            case lines.Note(event=event) if event == ELSEWHERE:
                self.again = True


class Seat(msgspec.Struct, frozen=True):
    """A seat without a worker because its last one was not given the right slice."""

    token: str
    seat: str
    node: str
    words: str


class Missing(msgspec.Struct, frozen=True):
    """Workers that left for a wrong slice: counted by node; seats that gave up; seats that will come back."""

    by_node: dict[str, int] = {}
    gave_up: tuple[Seat, ...] = ()
    coming_back: tuple[Seat, ...] = ()

    @property
    def workers(self) -> int:
        """How many workers are missing."""
        return len(self.gave_up) + len(self.coming_back)


@dataclass(slots=True)
class Tally:
    """Takes lines of journals, for readers that go through them anyway."""

    visits: dict[str, Visit] = field(default_factory=dict)

    def take(self, worker: str, record: lines.AnyRecord) -> None:
        """Take the next record of *worker*."""
        self.visits.setdefault(worker, Visit(worker)).take(record)

    def missing(self) -> Missing:
        """Return what the journals say."""
        seats: defaultdict[tuple[str, str], list[Visit]] = defaultdict(list)
        for visit in self.visits.values():
            seats[visit.token, visit.seat].append(visit)
        last = [max(visits, key=lambda one: (one.restart, one.opened)) for visits in seats.values()]
        empty = [one for one in last if one.words]
        return Missing(
            dict(sorted(Counter(one.node for one in self.visits.values() if one.words).items())),
            tuple(_seat(one) for one in empty if not one.again),
            tuple(_seat(one) for one in empty if one.again),
        )


def _seat(visit: Visit) -> Seat:
    return Seat(visit.token, visit.seat, visit.node, visit.words)


def missing(layout: Layout) -> Missing:
    """Return the workers of the run at *layout* that left because their slice was not the expected one."""
    return _read(layout).missing()


def seat_of_task(seat: str) -> str:
    """Return the seat of the task that a packed worker's *seat* is part of: slurm:3:0 of slurm:3:0.1."""
    head, _, last = seat.rpartition(":")
    return f"{head}:{last.partition('.')[0]}"


def nodes_of_task(layout: Layout, token: str, seat: str) -> tuple[list[str], int]:
    """Return the nodes where workers of the task with *seat* left for a wrong slice, and its runs there."""
    task = seat_of_task(seat)
    mine = [
        one
        for one in _read(layout).visits.values()
        if one.words and one.token == token and seat_of_task(one.seat) == task
    ]
    return sorted({one.node for one in mine}), len({one.restart for one in mine})


def _read(layout: Layout) -> Tally:
    tally = Tally()
    for line in history.lines(layout, _KINDS):
        record = lines.parse_line(line.data)
        if record is not None:
            tally.take(line.worker, record)
    return tally
