from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tools.campaigns import budget


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("strategy", "claiming", "points", "kills"), [("tpe", "", 60, 6), ("evolution", "exclusive", 40, 4)]
)
def test_killed_workers_propose_as_many_points_as_asked_for_and_none_twice(
    strategy: str, claiming: str, points: int, kills: int, tmp_path: Path
) -> None:
    args = argparse.Namespace(
        seed=1, directory=tmp_path, points=points, workers=4, kills=kills, pause=0.5,
        strategy=strategy, claiming=claiming, patience=250.0,
    )  # fmt: skip

    tally = budget.run(args)

    assert tally.problems == []
    assert tally.counts["kills"] >= 2
    assert tally.counts["proposals made again, equal"] == points
