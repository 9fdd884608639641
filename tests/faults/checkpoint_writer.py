"""Saves step after step for ever, and says so; to be killed.

python checkpoint_writer.py DIRECTORY ATTEMPT CALL [beside]

With a CALL above 0 it kills itself before its CALL-th system call that changes something on disk. With
"beside" the saves are written in the background, while the state changes.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hpc_search.checkpoint import Saves, Slots
from hpc_search.layout import Layout

CALLS = ("open", "pwrite", "fdatasync", "fsync", "rename", "unlink")


def kill_before(last: int) -> None:
    count = 0

    def counted(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def save_beside(slots: Slots, step: int) -> None:
    def say(_: str, **told: Any) -> None:
        print(f"saved {told['step']}", flush=True)  # noqa: T201

    values = [np.zeros(1_500_000) for _ in range(6)]
    one = Saves(slots, say, lambda: 0.0, 0, background=True)
    while True:
        step += 1
        for i, part in enumerate(values):
            part[:] = step + i
        one.save_if_due(step, "", lambda: ({f"part {i}": part for i, part in enumerate(values)}, []))


def main(directory: str, attempt: int, call: int, *, beside: bool) -> None:
    slots = Slots(Layout(Path(directory)), "run", 0, attempt, f"{attempt:016x}")
    slots.prepare()
    loaded = slots.newest()
    step = 0 if loaded is None else loaded.step
    print(f"restored {step}", flush=True)  # noqa: T201
    if call:
        kill_before(call)
    if beside:
        save_beside(slots, step)
    while True:
        step += 1
        # More than one early sync a save, so that a kill also falls into those.
        slots.save(step, {f"part {i}": np.full(1_500_000, float(step + i)) for i in range(6)})
        print(f"saved {step}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), beside="beside" in sys.argv[4:])
