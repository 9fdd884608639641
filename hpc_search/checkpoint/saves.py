"""The saves of one attempt: when they are due, where they are written, what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpc_search.checkpoint.background import Background
from hpc_search.checkpoint.due import Why, why_due
from hpc_search.checkpoint.slots import Saved, Slots, encode_content
from hpc_search.checkpoint.tree import Encoded

#: What tells the supervisor of a save: kind, and content by name.
Send = Callable[..., None]
#: What gives the state and the history to save.
Content = Callable[[], tuple[dict[str, Any], object]]


class Saves:
    """Saves when due; with *background* those due by time are written beside the training.

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
    ) -> None:
        self._slots = slots
        self._send = send
        self._clock = clock
        self._interval = interval
        self._in_background = background
        self._background = Background()
        self._last = clock()
        self._failures = 0
        self.step = -1

    def save_if_due(self, step: int, stop: str, content: Content) -> None:
        """Save what *content* returns where that is due; what ended beside the training is told first.

        A save that is due while another is still being written waits for a later call, but on a *stop* it
        waits for that one.

        Raises:
            Superseded, UsageError, DamagedError: As `Slots.save` does, also for a save in the background.
        """
        self._collect(wait=bool(stop))
        why = why_due(step, self._clock() - self._last, self._interval, stop=stop, failures=self._failures)
        if why is not None and not self._background.busy:
            self.save(step, why, content)

    def save(self, step: int, why: Why, content: Content) -> None:
        """Save what *content* returns; when this returns it is durable, or told, or in the background.

        Raises:
            Superseded, UsageError, DamagedError: As `Slots.save` does.
        """
        self._collect(wait=True)
        encoded = encode_content(*content())
        if why == "time" and self._in_background:
            self._last = self._clock()
            self._background.start(step, encoded, self._slots.write)
            return
        # There is no later call on a stop, and an error of the file system may pass.
        if not self._write(step, encoded) and why == "stop":
            self._write(step, encoded)

    def collect(self) -> None:
        """Wait for a save in the background, and tell it.

        Raises:
            Superseded, DamagedError: As `Slots.save` does.
        """
        self._collect(wait=True)

    def settle(self) -> None:
        """Wait for a save in the background and tell it; the attempt ends for another reason anyway."""
        self._tell(self._background.ended(wait=True))

    def _write(self, step: int, encoded: Encoded) -> bool:
        try:
            self._succeeded(self._slots.write(step, encoded))
        except OSError as error:
            self._failed(step, error.strerror or str(error))
            return False
        finally:
            self._last = self._clock()
        return True

    def _collect(self, *, wait: bool) -> None:
        ended = self._background.ended(wait=wait)
        if isinstance(ended, BaseException) and not isinstance(ended, OSError):
            raise ended
        self._tell(ended)

    def _tell(self, ended: Saved | BaseException | None) -> None:
        if isinstance(ended, BaseException):
            self._last = self._clock()
            self._failed(self._background.step, getattr(ended, "strerror", "") or str(ended))
        elif ended is not None:
            self._succeeded(ended)

    def _succeeded(self, saved: Saved) -> None:
        self.step, self._failures = saved.step, 0
        self._send("saved", step=saved.step, slot=saved.slot, bytes=saved.bytes, seconds=saved.seconds)

    def _failed(self, step: int, detail: str) -> None:
        # The older slot is intact, and a full disk may have room at the next save.
        self._failures += 1
        self._send("unsaved", step=step, detail=detail)
