"""How often SLURM is asked: by workers, by `submit`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.slurm.calls import counted
from tests.slurm.cluster import PROFILE, Cluster
from tests.waiting import wait_until

SEARCH = """
name: calls
trial: trial.py:train
metric: {name: loss, goal: min}
space: {x: [1, 2, 3, 4, 5, 6]}
strategy: grid
heartbeat: 1
lease: 60
"""
TRIAL = "def train(trial):\n    return {'loss': trial.params['x']}\n"


def test_a_worker_asks_slurm_once_at_its_start_and_submit_some_times_an_array(
    slurm: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "search.yaml").write_text(SEARCH)
    (tmp_path / "trial.py").write_text(TRIAL)
    run = tmp_path / "run"
    ours = (sys.executable, "-m", "hpc_search")
    with counted(tmp_path) as calls:
        planned = slurm.run(*ours, "plan", tmp_path / "search.yaml", "--run", run)
        assert planned.returncode == 0, planned.stderr
        assert not calls.at_login()
        arguments = ("--launcher", "slurm", "--profile", PROFILE, "--workers", "6", "--set", "max_array=2")
        sent = slurm.run(*ours, "submit", run, *arguments)
        assert sent.returncode == 0, sent.stderr
        asked = calls.at_login()
        assert asked["sbatch"] == 3
        # The limits of the site are asked for once, whatever the number of arrays.
        assert asked.total() - asked["sbatch"] <= 8
        status = (*ours, "status", run, "--json")
        wait_until(lambda: '"done": 6' in slurm.run(*status).stdout, 60, on_timeout=slurm.picture)
        wait_until(lambda: len(calls.by_task()) == 6, 60, on_timeout=slurm.picture)
        cancelled = slurm.run(*ours, "cancel", run)
        assert cancelled.returncode == 0, cancelled.stderr
        tasks = calls.by_task()
    # SLURM 22.05 does not tell a job its end: that is the one question.
    assert all(counts.total() <= 1 for counts in tasks.values()), tasks
