"""Having a point proposed while the worker goes on beating and listening to signals."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from hpc_search.ledger.proposing import Proposed, Proposer
from hpc_search.worker.events import Events


class Asking:
    """A proposer that runs in a thread of its own: a model may take seconds to fit."""

    def __init__(
        self, proposer: Proposer, events: Events, tick: Callable[[], float], stopping: Callable[[], str]
    ) -> None:
        """Ask *proposer*; meanwhile wait for *events* and do what is due in *tick*."""
        self._proposer = proposer
        self._events = events
        self._tick = tick
        self._stopping = stopping

    def __call__(self, point: int) -> Proposed | None:
        """Return what is proposed for *point*; None where the worker has to stop before it is.

        Raises:
            Exception: Whatever the proposer raises.
        """
        answers: list[Proposed | None] = []
        errors: list[BaseException] = []
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

        def ask() -> None:
            try:
                answers.append(self._proposer(point))
            except BaseException as error:
                errors.append(error)
            finally:
                # The end of the file wakes who waits; a worker that has to stop waits no more.
                os.close(writer)

        # One that has to stop does not wait for a model to be fitted.
        threading.Thread(target=ask, name=f"propose {point}", daemon=True).start()
        self._events.watch(reader, lambda: None)
        try:
            while not (answers or errors) and not self._stopping():
                self._events.wait(self._tick())
        finally:
            self._events.forget(reader)
            os.close(reader)
        if errors:
            raise errors[0]
        return answers[0] if answers else None
