"""How a task of a job array ends: killed after a preemption, requeued before its time limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records import journal as lines
from hpc_search.worker.walltime import requeue_this_job

#: Event of the note of a worker that asks SLURM to run its task again.
REQUEUE: Final = "requeue"
#: A seat asks for that at most this often.
REQUEUES: Final = 50
#: Seconds before the one other try.
_AGAIN: Final = 5.0


def requeues(layout: Layout, token: str, seat: str) -> int:
    """Return how often the workers of this seat asked to be run again, by their journals."""
    mine: dict[str, bool] = {}
    count = 0
    for line in history.lines(layout, frozenset({b"open", b"note"})):
        record = lines.parse_line(line.data)
        if isinstance(record, lines.Open):
            mine[line.worker] = (record.token, record.seat) == (token, seat)
        elif isinstance(record, lines.Note) and record.event == REQUEUE:
            count += mine.get(line.worker, False)
    return count


def requeue(ask: Callable[[], bool] = requeue_this_job, pause: Callable[[float], None] = time.sleep) -> bool:
    """Ask SLURM to run this task again, a second time where it does not agree; return whether it did."""
    if ask():
        return True
    pause(_AGAIN)
    return ask()


def sleep_until_killed() -> None:
    """Stay: an exit 0 within the grace would mean COMPLETED and no requeue on older SLURM."""
    while True:
        time.sleep(3600)
