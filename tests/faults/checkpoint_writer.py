"""Saves step after step for ever, and says so; to be killed.

python checkpoint_writer.py DIRECTORY ATTEMPT [CALL]

With CALL it kills itself before its CALL-th system call that changes something on disk.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hpc_search.checkpoint import Slots
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


def main(directory: str, attempt: int, call: int) -> None:
    slots = Slots(Layout(Path(directory)), "run", 0, attempt, f"{attempt:016x}")
    slots.prepare()
    loaded = slots.newest()
    step = 0 if loaded is None else loaded.step
    print(f"restored {step}", flush=True)  # noqa: T201
    if call:
        kill_before(call)
    while True:
        step += 1
        # More than one early sync a save, so that a kill also falls into those.
        slots.save(step, {f"part {i}": np.full(1_500_000, float(step + i)) for i in range(6)})
        print(f"saved {step}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
