from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch
PROGRAM = Path(__file__).with_name("checkpoint_training.py")
ROOT = Path(__file__).parents[2]


def train(directory: Path, first: int, last: int) -> str:
    directory.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(directory), str(first), str(last)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_training_that_goes_on_in_a_new_process_is_bit_identical(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 0, 24)

    stopped = train(tmp_path / "parts", 0, 11)
    resumed = train(tmp_path / "parts", 11, 24)

    assert whole == resumed
    assert whole != stopped
