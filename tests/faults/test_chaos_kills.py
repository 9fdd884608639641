from __future__ import annotations

import argparse
from pathlib import Path

from tools.campaigns import kills


def test_no_kill_of_a_worker_a_template_or_a_trial_loses_or_changes_a_result(tmp_path: Path) -> None:
    args = argparse.Namespace(seed=3, directory=tmp_path, kills=12, workers=2, points=4, claiming="")

    tally = kills.run(args)

    assert tally.problems == []
    assert tally.counts["kills"] >= 12
    assert tally.counts["kills inside of the four phases"] > 0
