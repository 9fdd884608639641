"""How a task of a job array ends: killed after a preemption, requeued before its time limit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from hpc_search.layout import Layout
from hpc_search.ledger import Claimed, Ledger, history
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


class Departure:
    """How one worker leaves."""

    def __init__(self, layout: Layout, ledger: Ledger, *, from_submit: bool) -> None:
        """Be a task of an array of ours where it comes *from_submit* and SLURM runs it."""
        self._layout = layout
        self._ledger = ledger
        self.is_task = from_submit and "SLURM_JOB_ID" in os.environ

    def leave(
        self, queue: list[Claimed], reason: str, stop_signal: int, close_host: Callable[[], None]
    ) -> None:
        """Give back *queue*, say that the worker exits, and have its task run again where work is left."""
        left = self._last_look(queue, stopping=bool(stop_signal))
        again = self._asks_again(stop_signal, work_left=left)
        self._ledger.exit(reason)
        if self.is_task and stop_signal == signal.SIGTERM:
            close_host()
            sleep_until_killed()
        if again:
            requeue()

    def _last_look(self, queue: Sequence[Claimed], *, stopping: bool) -> bool:
        """Return whether trials are left, after what is held has been given back."""
        self._ledger.give_back(queue)
        self._ledger.flush()
        trials, finals = self._ledger.counts()
        if not stopping and finals < trials and not self._ledger.anything_open():
            # Nothing is left and yet not all have ended: the index has lost an end record.
            self._ledger.reconcile(whole=True)
        return finals < trials

    @property
    def _closed(self) -> bool:
        """Whether nothing shall be claimed now, whoever starts."""
        return self._layout.stop.exists() or self._layout.paused.exists()

    def _asks_again(self, stop_signal: int, *, work_left: bool) -> bool:
        """Return whether this task shall be run again, and say so in the journal."""
        warned = stop_signal in (signal.SIGUSR1, signal.SIGUSR2)
        if not (self.is_task and warned and work_left) or self._closed:
            return False
        me = self._ledger.me
        if requeues(self._layout, me.token, me.seat) >= REQUEUES:
            return False
        self._ledger.note(REQUEUE)
        return True
