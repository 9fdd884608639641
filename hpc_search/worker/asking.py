"""Having a point proposed while the worker goes on beating and listening to signals."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from hpc_search.ledger.proposing import Proposed, Proposer
from hpc_search.worker.events import Events


def ask(
    proposer: Proposer, point: int, events: Events, tick: Callable[[], float], stopping: Callable[[], str]
) -> Proposed | None:
    """Return what *proposer* chooses for *point*; None where the worker has to stop before it has.

    A model may take seconds to fit: that happens in a thread of its own.

    Raises:
        Exception: Whatever the proposer raises.
    """
    answers: list[Proposed | None] = []
    errors: list[BaseException] = []
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def work() -> None:
        try:
            answers.append(proposer(point))
        except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
            errors.append(error)
        finally:
            # That wakes who waits.
            os.close(writer)

    # Whoever has to stop does not wait for it.
    threading.Thread(target=work, name=f"propose {point}", daemon=True).start()
    events.watch(reader, lambda: None)
    try:
        while not (answers or errors) and not stopping():
            events.wait(tick())
    finally:
        events.forget(reader)
        os.close(reader)
    if errors:
        raise errors[0]
    return answers[0] if answers else None
