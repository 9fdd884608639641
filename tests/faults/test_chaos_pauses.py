from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tools.campaigns import mounts, pauses


@pytest.mark.skipif(not mounts.possible(), reason="a host name of one's own needs root")
def test_who_is_stopped_for_leases_is_taken_over_and_harms_nobody_when_it_wakes_up(tmp_path: Path) -> None:
    args = argparse.Namespace(
        seed=3, directory=tmp_path, pauses=4, workers=3, points=3, lease=1.0, claiming=""
    )

    tally = pauses.run(args)

    assert tally.problems == []
    assert tally.counts["pauses"] >= 4
