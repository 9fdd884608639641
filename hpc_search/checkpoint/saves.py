"""The saves of one attempt: when they are due, where they are written, what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpc_search.checkpoint.background import Background
from hpc_search.checkpoint.due import Why, why_due
from hpc_search.checkpoint.slots import Saved, Slots, Superseded, encode_content
from hpc_search.checkpoint.tree import Encoded
from hpc_search.errors import DamagedError

#: What tells the supervisor of a save: kind, and content by name.
Send = Callable[..., None]
#: What gives the state and the history to save.
Content = Callable[[], tuple[dict[str, Any], object]]


class Saves:
    """Saves when due; with *background* those due by time are written beside the training.

    With *keep* the state of the last call is kept by `finish`, due or not: each call then costs a copy of it.

    Attributes:
        step: Step of the newest save that is durable, -1 before the first.
    """

    def __init__(
        self,
        slots: Slots,
        send: Send,
        clock: Callable[[], float],
        interval: float,
        *,
        background: bool = False,
        keep: bool = False,
    ) -> None:
        self._slots = slots
        self._send = send
        self._clock = clock
        self._interval = interval
        self._in_background = background
        self._background = Background()
        self._last = clock()
        self._failures = 0
        self._checked = False
        self._keep = keep
        self._kept: tuple[int, Encoded] | None = None
        self.step = -1

    def save_if_due(self, step: int, stop: str, content: Content) -> None:
        """Save what *content* returns where that is due; what ended beside the training is told first.

        A save that is due while another is still being written waits for a later call, but on a *stop* it
        waits for that one. What the first call gives is looked at in any case: a training whose state cannot
        be saved learns it now, not when it has to stop.

        Raises:
            Superseded, UsageError: As `Slots.save` does, also for a save in the background.
        """
        self._collect(wait=bool(stop))
        why = why_due(self._clock() - self._last, self._interval, stop=stop, failures=self._failures)
        due = why is not None and not self._background.busy
        if not (due or self._keep) and self._checked:
            return
        encoded = encode_content(*content())
        self._checked = True
        if self._keep:
            encoded = self._held(step, encoded)
        if why is not None and due:
            self._save(step, why, encoded)

    def _save(self, step: int, why: Why, encoded: Encoded) -> None:
        self._collect(wait=True)
        if why == "time" and self._in_background and self._started(step, encoded):
            self._last = self._clock()
        # There is no later call on a stop, and an error of the file system may pass.
        elif not self._write(step, encoded) and why == "stop":
            self._write(step, encoded)

    def _started(self, step: int, encoded: Encoded) -> bool:
        try:
            private = encoded if self._kept is not None else encoded.private()
            self._background.start(step, private, self._slots.write)
        except (RuntimeError, MemoryError):
            # No thread or no memory to be had: the training waits for this save.
            return False
        return True

    def _held(self, step: int, encoded: Encoded) -> Encoded:
        self._kept = None
        try:
            self._kept = step, encoded.private()
        except MemoryError:
            self._failed(step, "there is no memory for a copy of the state to keep")
            return encoded
        return self._kept[1]

    def finish(self) -> None:
        """Write the state of the last call where it is to be kept; the trial has its result in any case.

        Raises:
            Superseded: As `Slots.save` does.
        """
        self._collect(wait=True)
        if self._kept is None or self._kept[0] == self.step:
            return
        step, encoded = self._kept
        try:
            if not self._write(step, encoded):
                self._write(step, encoded)
        except (MemoryError, RuntimeError) as error:
            self._failed(step, str(error) or type(error).__name__)

    def collect(self) -> None:
        """Wait for a save in the background, and tell it.

        Raises:
            Superseded: As `Slots.save` does.
        """
        self._collect(wait=True)

    def settle(self) -> None:
        """Wait for a save in the background and tell it; the attempt ends for another reason anyway."""
        self._tell(self._background.ended(wait=True))

    def _write(self, step: int, encoded: Encoded) -> bool:
        try:
            self._succeeded(self._slots.write(step, encoded))
        except (OSError, DamagedError) as error:
            self._failed(step, _words(error))
            return False
        finally:
            self._last = self._clock()
        return True

    def _collect(self, *, wait: bool) -> None:
        ended = self._background.ended(wait=wait)
        if isinstance(ended, Superseded):
            raise ended
        self._tell(ended)

    def _tell(self, ended: Saved | BaseException | None) -> None:
        if isinstance(ended, BaseException):
            self._last = self._clock()
            self._failed(self._background.step, _words(ended))
            # What is not the disk's fault may be that of threads: the next one is written without.
            self._in_background &= isinstance(ended, OSError | DamagedError)
        elif ended is not None:
            self._succeeded(ended)

    def _succeeded(self, saved: Saved) -> None:
        self.step, self._failures = saved.step, 0
        self._send("saved", step=saved.step, slot=saved.slot, bytes=saved.bytes, seconds=saved.seconds)

    def _failed(self, step: int, detail: str) -> None:
        # The older slot is intact, and a full disk may have room at the next save.
        self._failures += 1
        self._send("unsaved", step=step, detail=detail)


def _words(error: BaseException) -> str:
    if isinstance(error, DamagedError):
        return error.message
    return getattr(error, "strerror", "") or str(error) or type(error).__name__
