"""The short form of `tools/chaos training`."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tools.campaigns import training

pytest.importorskip("torch")


@pytest.mark.timeout(240)
def test_a_training_that_is_killed_again_and_again_ends_bit_identically(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One search, whose saves are written beside; the reference saves in time.
    monkeypatch.setattr(training, "MODES", ((0.0, True),))
    args = argparse.Namespace(seed=4, directory=tmp_path, kills=5, steps=30, seeds=1, workers=1, claiming="")
    tally = training.run(args)

    assert tally.problems == []
    assert tally.counts["kills"] == 5
    assert tally.counts["resumes"] >= 1
