"""How a task of a job array ends: killed after a preemption, requeued before its time limit."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from hpc_search.layout import Layout
from hpc_search.ledger import Claimed, Ledger, history
from hpc_search.ledger.seats import REQUEUE
from hpc_search.ledger.submits import of_token
from hpc_search.records import journal as lines
from hpc_search.worker.staging import PATIENCE, Staging
from hpc_search.worker.walltime import requeue_this_job

#: A seat asks for that at most this often.
REQUEUES: Final = 50
#: Signals that end a worker because its time is over, and not because somebody wants fewer.
WARNINGS: Final = (signal.SIGUSR1, signal.SIGUSR2)


class Refill(Protocol):
    """Sends workers that are missing."""

    def __call__(self, done: int, *, refused: bool = False, stays: bool = False) -> object:
        """Send them for a worker that did *done* trials, and *stays*, or ends.

        Where SLURM *refused* to run its task again, it is not asked to do that for others.
        """


#: Exit codes of one of several workers of a task, for its leader alone: have the task run again; have it run
#: again on another node; nothing of the kind, and no use in starting this worker again.
AGAIN: Final = 80
MOVE: Final = 81
GIVEN_UP: Final = 82
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

    def __init__(
        self,
        layout: Layout,
        ledger: Ledger,
        refill: Refill | None = None,
        *,
        from_submit: bool,
        packed: bool = False,
    ) -> None:
        """Be a task of an array of ours where it comes *from_submit* and SLURM runs it.

        One of several *packed* workers of a task only says what its leader shall do when all have ended.
        """
        self._packed = packed
        self._layout = layout
        self._ledger = ledger
        self._refill = refill
        self.is_task = from_submit and "SLURM_JOB_ID" in os.environ
        self.staging = Staging(ledger, PATIENCE if self.is_task else math.inf)

    def leave(
        self,
        queue: list[Claimed],
        reason: str,
        stop_signal: int,
        close_host: Callable[[], None],
        *,
        done: int,
    ) -> bool:
        """Give back *queue*, say that the worker exits, and see to it that others go on where work is left.

        Its own task is run again, or missing ones are sent where this one has *done* a trial: one
        that did nothing would do nothing again.

        Returns:
            Whether its leader shall have the task run again.
        """
        left = self._last_look(queue, stopping=bool(stop_signal))
        again = self._asks_again(stop_signal, work_left=left)
        self._ledger.exit(reason)
        if self._packed:
            return again
        if self.is_task and stop_signal == signal.SIGTERM:
            close_host()
            sleep_until_killed()
        if again and requeue():
            return False
        ended = not stop_signal or stop_signal in WARNINGS
        if self._refill is not None and self.is_task and done and left and ended:
            close_host()
            self._refill(done, refused=again)
        return False

    def opens_stage(self, done: int) -> bool:
        """Return whether a stage could be opened; where SLURM runs this worker, others are sent for it."""
        opened = self.staging.advance()
        if opened and self._refill is not None and self.is_task and not self._ledger.closed:
            self._refill(done, refused=False, stays=True)
        return opened

    def _last_look(self, queue: Sequence[Claimed], *, stopping: bool) -> bool:
        """Return whether there is work left, after what is held has been given back."""
        self._ledger.give_back(queue)
        self._ledger.flush()
        trials, finals = self._ledger.counts()
        if not stopping and finals < trials and not self._ledger.anything_open():
            # Nothing is left and yet not all have ended: the index has lost an end record.
            self._ledger.reconcile(whole=True)
        # With it a stage may have ended that nobody else looks at.
        self.staging.advance()
        return self._ledger.left() > 0

    def _asks_again(self, stop_signal: int, *, work_left: bool) -> bool:
        """Return whether this task shall be run again, and say so in the journal."""
        if not (self.is_task and stop_signal in WARNINGS and work_left) or self._ledger.closed:
            return False
        me = self._ledger.me
        sent = of_token(self._layout, me.token)
        if sent is not None and not sent.profile.requeue:
            return False
        if requeues(self._layout, me.token, me.seat) >= REQUEUES:
            return False
        self._ledger.note(REQUEUE)
        return True
