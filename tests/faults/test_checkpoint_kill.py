from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hpc_search.checkpoint import Slots
from hpc_search.layout import Layout
from tests.waiting import wait_until

PROGRAM = Path(__file__).with_name("checkpoint_writer.py")
ROOT = Path(__file__).parents[2]
KILLS = 18


def start(directory: Path, attempt: int, call: int = 0, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(directory), str(attempt), str(call), *more],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def _is_past(end: float) -> bool:
    return time.monotonic() >= end


def acknowledged(lines: list[str], before: int) -> int:
    steps = [int(line.split()[1]) for line in lines if line.endswith("\n")]
    return max([before, *steps])


def check_complete(directory: Path, attempt: int, at_least: int, most: int = 1) -> int:
    """Return the newest step, after checking that its state is whole and that nothing was skipped."""
    slots = Slots(Layout(directory), "run", 0, attempt, "f" * 16)
    loaded = slots.newest()
    if loaded is None:
        assert at_least == 0
        assert slots.skipped == ()
        return 0
    assert loaded.skipped == ()
    assert at_least <= loaded.step <= at_least + most
    assert sorted(loaded.state) == [f"part {i}" for i in range(6)]
    for i in range(6):
        np.testing.assert_array_equal(np.full(1_500_000, float(loaded.step + i)), loaded.state[f"part {i}"])
    return loaded.step


@pytest.mark.timeout(300)
def test_a_kill_at_any_time_leaves_the_newest_acknowledged_state_whole(tmp_path: Path) -> None:
    randomness = random.Random(20261120)
    step = 0
    for attempt in range(1, KILLS + 1):
        with start(tmp_path, attempt) as process:
            assert process.stdout is not None
            restored = process.stdout.readline()
            end = time.monotonic() + randomness.uniform(0, 0.5)
            wait_until(partial(_is_past, end))
            process.send_signal(signal.SIGKILL)
            lines = process.stdout.readlines()
        assert restored == f"restored {step}\n"
        step = check_complete(tmp_path, attempt, acknowledged(lines, step))

    assert step > 0


@pytest.mark.timeout(300)
def test_a_kill_during_a_save_beside_the_training_leaves_the_older_state_whole(tmp_path: Path) -> None:
    randomness = random.Random(20270203)
    step, seen = 0, []
    # At a random moment, and before a system call of the thread that saves.
    for attempt, call in enumerate([0, 0, 0, 60, 145, 250, 292, 300], 1):
        with start(tmp_path, attempt, call, "beside") as process:
            assert process.stdout is not None
            restored = process.stdout.readline()
            lines = []
            if not call:
                lines.append(process.stdout.readline())
                end = time.monotonic() + randomness.uniform(0, 0.3)
                wait_until(partial(_is_past, end))
                process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        assert process.returncode == -signal.SIGKILL
        assert restored == f"restored {step}\n"
        # How many steps were skipped while one was written depends on the machine.
        step = check_complete(tmp_path, attempt, acknowledged(lines, step), most=10**9)
        seen.append(step)

    assert len(set(seen)) > 3


@pytest.mark.timeout(300)
def test_a_kill_before_any_system_call_of_a_save_leaves_a_whole_state(tmp_path: Path) -> None:
    step, survived = 0, []
    # A save makes some 200 calls, nearly all of them pwrite; attempts go on, so all slots are met.
    for attempt, call in enumerate([1, 2, 3, 50, 100, 139, *range(141, 156), 300, 420], 1):
        with start(tmp_path, attempt, call) as process:
            assert process.stdout is not None
            restored, *lines = process.stdout.readlines()
        assert process.returncode == -signal.SIGKILL
        assert restored == f"restored {step}\n"
        step = check_complete(tmp_path, attempt, acknowledged(lines, step))
        survived.append(step)

    left = [name for name in os.listdir(Layout(tmp_path).checkpoint_dir(0)) if not name.endswith(".h5")]
    assert len(left) <= 1
    assert len(set(survived)) > 3
