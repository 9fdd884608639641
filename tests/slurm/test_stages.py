"""Stages on a real cluster: one submission, and the workers go from one stage to the next by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hpc_search.ledger.submits import submissions
from tests.slurm.cluster import Cluster
from tests.slurm.searches import Search, cancelled_at_the_end
from tests.waiting import wait_until

#: In the wide stage a trial stays until three tasks work at it.
TRIAL: Final = """
import os, time
from pathlib import Path

def train(trial):
    if trial.params["epochs"] == 10:
        seen = Path("seen")
        (seen / os.environ["SLURM_JOB_ID"]).touch()
        while len(os.listdir(seen)) < 3:
            trial.alive()
            time.sleep(0.1)
    return {"acc": trial.params["x"]}
"""
SEARCH: Final = """
name: Staged on SLURM
trial: trial.py:train
metric: {name: acc, goal: max}
space: {x: {uniform: [0, 1]}}
fixed: {epochs: 3}
heartbeat: 1
lease: 20
stages:
  - {name: sanity, strategy: {random: {points: 2}}}
  - name: wide
    strategy: {random: {points: 8, seed: 1}}
    narrow: {stage: sanity, top: 1.0}
    fixed: {epochs: 10}
  - {name: again, strategy: {top: {points: 2, stage: wide}}, seeds: [0, 1]}
"""


def test_one_submission_goes_through_all_stages_and_calls_workers_for_a_wider_one(
    slurm: Cluster, tmp_path: Path
) -> None:
    search = Search(slurm, tmp_path)
    (tmp_path / "seen").mkdir()
    search.write("trial.py", TRIAL)
    search.plan(SEARCH)
    with cancelled_at_the_end(search):
        said = search.submit("--workers=4", mem="100M").stdout
        assert "2 workers submitted" in said, "the first stage has two trials"
        wait_until(lambda: search.states() == {"done": 14}, 150, on_timeout=lambda: search)
        search.wait_for_the_end_of_all_jobs()
    sent = submissions(search.layout)
    assert [one.tasks for one in sent] == [2, 2], "the one that opened the wide stage sent the rest"
    assert sent[1].depth == 1
    assert len(list((tmp_path / "seen").iterdir())) >= 3
    assert {stage["state"] for stage in search.status()["stages"]} == {"finished"}
