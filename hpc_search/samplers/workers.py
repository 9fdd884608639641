"""Loader workers at preemption: SLURM signals every process of a step, also those that only load data."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def outlive_stop_signals(worker: int = 0) -> None:  # noqa: ARG001 - DataLoader gives the worker's number
    """Let this loader worker note stop signals without dying of them: a ``worker_init_fn`` for a DataLoader.

    A worker that dies makes torch raise in the middle of the training step, before the trial can save. It
    still ends with its loader, and with the trial. A program that the worker starts gets the default meaning.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, _noted)


def _noted(*_: object) -> None:
    return


class WorkerStart:
    """What a worker of `ResumableLoader` runs first: its signals, then the user's function."""

    def __init__(self, users: Callable[[int], None] | None) -> None:
        self._users = users

    def __call__(self, worker: int) -> None:
        """Prepare the worker of this number."""
        outlive_stop_signals(worker)
        if self._users is not None:
            self._users(worker)
