from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tools.campaigns import mounts, powercut


@pytest.mark.skipif(not mounts.possible(), reason="mounting needs root")
def test_a_power_cut_loses_nothing_that_was_durable(tmp_path: Path) -> None:
    args = argparse.Namespace(seed=3, directory=tmp_path, cuts=3, workers=2, points=4, claiming="")

    tally = powercut.run(args)

    assert tally.problems == []
    assert tally.counts["cuts"] >= 2
