"""The campaign on real SLURM, in short: it runs, and it finds a resumed trial with other numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.slurm.cluster import Cluster
from tools.campaigns import scheduler


def test_tasks_that_are_requeued_lose_nothing_and_go_on(slurm: Cluster, tmp_path: Path) -> None:
    args = argparse.Namespace(each=1, faults=["requeued"], claiming="", seed=1, directory=tmp_path)

    tally = scheduler.run(args)

    assert tally.problems == []
    assert tally.counts["requeued: faults"] >= 1
