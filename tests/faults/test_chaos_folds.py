"""The short form of `tools/chaos folds`."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tools.campaigns import folds


@pytest.mark.timeout(240)
def test_a_cross_validation_whose_attempts_are_killed_publishes_what_the_undisturbed_one_does(
    tmp_path: Path,
) -> None:
    args = argparse.Namespace(seed=5, directory=tmp_path, rate=0.4, runs=1, workers=2, points=3)

    tally = folds.run(args)

    assert tally.problems == []
    assert tally.counts["attempts killed"] > 0
    assert tally.counts["resumed from a checkpoint"] > 0
