"""Writes that go on beside the training, one at a time, of a state that is copied first.

The copy is made in the caller's thread, so nothing that the training does afterwards changes what is saved.
The thread only lays out the file, checksums and writes; it draws no random number and runs no user's code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from hpc_search.checkpoint.slots import Saved
from hpc_search.checkpoint.tree import Encoded


class Background:
    """At most one write in flight, and how the last one ended."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._step = 0
        self._saved: Saved | None = None
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether a write is in flight."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def step(self) -> int:
        """The step of the write that is or was in flight."""
        return self._step

    def start(self, step: int, encoded: Encoded, write: Callable[[int, Encoded], Saved]) -> None:
        """*write* *encoded*, in memory of its own, beside; the write before it must have been collected.

        Raises:
            RuntimeError: There is no thread for it.
        """
        # A child forked while a thread imports would wait for that import for ever.
        import h5py  # noqa: F401

        self._step, self._saved, self._error = step, None, None
        thread = threading.Thread(
            target=self._run, args=(step, encoded, write), name="checkpoint", daemon=True
        )
        thread.start()
        self._thread = thread

    def _run(self, step: int, encoded: Encoded, write: Callable[[int, Encoded], Saved]) -> None:
        try:
            self._saved = write(step, encoded)
        except BaseException as error:  # noqa: BLE001 - it is told in the thread of the training
            self._error = error

    def ended(self, *, wait: bool) -> Saved | BaseException | None:
        """Return how the write ended that ended since the last call, None without one.

        With *wait* one in flight is waited for.
        """
        if self._thread is None or (self.busy and not wait):
            return None
        self._thread.join()
        self._thread = None
        return self._error or self._saved
