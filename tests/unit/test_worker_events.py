"""The order in which a worker handles what happened."""

from __future__ import annotations

import os

from hpc_search.worker.events import Events


def test_a_worker_looks_at_the_clock_before_it_handles_what_waited() -> None:
    """After a pause it has to read its own records before anything is written."""
    events = Events()
    reader, writer = os.pipe()
    seen: list[str] = []
    try:
        events.on_wake(lambda: seen.append("woke"))
        events.watch(reader, lambda: seen.append(os.read(reader, 9).decode()))
        os.write(writer, b"message")
        events.wait(5)
        assert seen == ["woke", "message"]
    finally:
        events.close()
        os.close(reader)
        os.close(writer)
