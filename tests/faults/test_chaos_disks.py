from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tools.campaigns import disks, mounts


@pytest.mark.skipif(not mounts.possible(), reason="mounting needs root")
def test_a_full_disk_costs_no_checkpoint_and_work_goes_on_when_there_is_room(tmp_path: Path) -> None:
    args = argparse.Namespace(seed=3, directory=tmp_path, episodes=2, workers=2, points=4, claiming="")

    tally = disks.run(args)

    assert tally.problems == []
    assert tally.counts["episodes"] >= 2
