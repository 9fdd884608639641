"""How many seats of a profile are taken or will be, by submissions and journals: SLURM is not asked.

A seat is an array task. One that never opened a journal waits; one whose worker said that it exits has
ended, unless SLURM runs it again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from hpc_search.layout import Layout
from hpc_search.ledger import gone, history
from hpc_search.ledger.mismatches import ELSEWHERE
from hpc_search.ledger.submits import Answer, Intent
from hpc_search.records import journal as lines

#: Event of the note of a worker that asks SLURM to run its task again.
REQUEUE: Final = "requeue"
#: The reason of the exit of a task that was preempted, or cancelled by hand.
TERMINATED: Final = "signal SIGTERM"
_KINDS: Final = frozenset({b"open", b"note", b"exit"})


@dataclass(slots=True)
class Life:
    """What one worker's journal says of its seat: token, task, packed process, and how it left."""

    token: str = ""
    task: str = ""
    process: str = ""
    restart: int = 0
    exited: bool = False
    #: SLURM was asked to run the task again, or does so by itself.
    returns: bool = False


class Seats(NamedTuple):
    """Seats that wait for their start, and that have started and not ended (or start again)."""

    waiting: int
    live: int


def lives(layout: Layout) -> list[Life]:
    """Return what the journals say of every worker that came by a submission."""
    found: dict[str, Life] = {}
    for line in history.lines(layout, _KINDS):
        record = lines.parse_line(line.data)
        match record:
            case lines.Open(seat=seat) if record.token and seat.startswith("slurm:"):
                _, task, process = seat.split(":", 2)
                found.setdefault(line.worker, Life(record.token, task, process, record.restart))
            case lines.Note(event=event) if event in (REQUEUE, ELSEWHERE) and line.worker in found:
                found[line.worker].returns = True
            case lines.Exit() if line.worker in found:
                life = found[line.worker]
                life.exited = True
                life.returns = life.returns or record.reason == TERMINATED
    for worker in gone.reported(layout) & found.keys():
        found[worker].exited = True
    return list(found.values())


def count(known: Sequence[Intent], lives: Iterable[Life], *, requeue: bool) -> Seats:
    """Return the seats of the submissions *known*, all of one profile, whose tasks are run again or not.

    What was before the last cancel has ended, and so have tokens that a `submit` found gone.
    """
    cancelled = [one.number for one in known if isinstance(one, Answer) and not one.wanted]
    since = [one for one in known if one.number > max(cancelled, default=0)]
    over = {token for one in since for token in one.over}
    sent = {one.token: one.tasks for one in since if _was_sent(one) and one.token not in over}
    ended, started = _tasks(lives, requeue=requeue)
    taken = sum(one.taken_back for one in since)
    waiting = sum(max(0, tasks - len(started[token])) for token, tasks in sent.items())
    live = sum(len(started[token]) - len(ended[token]) for token in sent)
    return Seats(max(0, waiting - taken), live)


def ended(layout: Layout) -> dict[str, int]:
    """Return token -> tasks whose workers have left for good; SLURM may show them for a while longer."""
    return {token: len(tasks) for token, tasks in _tasks(lives(layout), requeue=True)[0].items() if tasks}


def _was_sent(one: Intent) -> bool:
    """Return whether its tasks exist, as far as is known: an intent without an answer may have been sent."""
    return not isinstance(one, Answer) or one.outcome in ("sent", "adopted")


def _tasks(
    lives: Iterable[Life], *, requeue: bool
) -> tuple[defaultdict[str, set[str]], defaultdict[str, set[str]]]:
    """Return token -> tasks that have ended, and token -> tasks that have started."""
    last: dict[tuple[str, str, str], Life] = {}
    for life in lives:
        key = life.token, life.task, life.process
        if key not in last or life.restart >= last[key].restart:
            last[key] = life
    ended: defaultdict[str, set[str]] = defaultdict(set)
    started: defaultdict[str, set[str]] = defaultdict(set)
    goes_on: set[tuple[str, str]] = set()
    for (token, task, _), life in last.items():
        started[token].add(task)
        if life.exited and not (life.returns and requeue):
            ended[token].add(task)
        else:
            goes_on.add((token, task))
    for token, task in goes_on:
        ended[token].discard(task)
    return ended, started
