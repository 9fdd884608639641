"""Orders on a real cluster: a pause saves and holds, a retry and a skip change what running workers do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.searches import Search, SteppedSearch, cancelled_at_the_end
from tests.waiting import wait_until
from tools.campaigns.checker import Rules, outcomes, verdict

TRIALS = 4


@pytest.fixture
def search(slurm: Cluster, tmp_path: Path) -> Iterator[SteppedSearch]:
    search = SteppedSearch(slurm, tmp_path / "search", TRIALS)
    with cancelled_at_the_end(search):
        yield search


def waiting(search: SteppedSearch) -> dict[str, str]:
    """Return JOB_TASK -> why it waits."""
    rows = [row for token in search.tokens() for row in _rows(search, token)]
    return {row[0]: row[2] for row in rows if row[1] == "PENDING"}


def _rows(search: SteppedSearch, token: str) -> list[list[str]]:
    shown = search.cluster.run("squeue", "-h", "-r", f"--name={token}", "-o", "%i|%T|%r").stdout
    return [line.split("|") for line in shown.splitlines()]


def test_a_pause_saves_what_runs_and_holds_what_waits_and_resume_goes_on_from_there(
    search: SteppedSearch, tmp_path: Path
) -> None:
    undisturbed = SteppedSearch(search.cluster, tmp_path / "undisturbed", TRIALS)
    undisturbed.run_locally()
    for trial in range(TRIALS):
        (search.directory / f"gate-{trial}-1").touch()
    # Two run at a time; the others wait for their turn.
    search.send(TRIALS, throttle=2)
    search.wait_until_held("0-1", "1-1")
    before = waiting(search)
    assert len(before) == TRIALS - 2

    said = search.call("pause", search.run, "--reason", "maintenance of the file server").stdout
    assert "2 workers told to save and end; 2 waiting tasks held" in said
    wait_until(lambda: search.states() == {"pending": TRIALS}, 30, on_timeout=lambda: search)
    wait_until(lambda: not search.running_tasks(), 30, on_timeout=lambda: search)
    assert waiting(search) == dict.fromkeys(before, "JobHeldUser")
    claimed = len(search.records("claim"))
    # One that starts all the same: it leaves before it is a worker.
    first = min(before)
    search.cluster.run("scontrol", "release", first)
    wait_until(lambda: first not in {row[0] for row in _rows(search, search.tokens()[0])}, 30)
    assert len(search.records("claim")) == claimed
    assert "paused by" in search.call("submit", search.run, code=2).stderr
    ends = [end for _, end in search.records("end")]
    assert {(end.state, end.cause, end.paused) for end in ends} == {("pending", "preempted", True)}

    for gate in search.directory.glob("gate-*"):
        gate.unlink()
    said = search.call("resume", search.run).stdout
    assert "1 held task released" in said
    assert "3 workers submitted" in said
    search.wait()
    assert verdict(search.run, outcomes(undisturbed.layout), Rules(stamps=True)) == []
    assert set(search.resumed().values()) == {10}
    assert "not paused" in search.call("resume", search.run).stdout


# -- retry and skip
#: Takes 300 MiB, from no more than SLURM gives; trial 2 runs for ever.
HUNGRY_TRIAL = """
import os, resource, time

def train(trial):
    if trial.params["x"] == 2:
        while True:
            time.sleep(0.1)
            trial.report(0, acc=0.0)
    given = int(os.environ["SLURM_MEM_PER_NODE"]) << 20
    resource.setrlimit(resource.RLIMIT_DATA, (given, given))
    return {"acc": len(bytearray(trial.params["x"] * 300 << 20)) * 1.0}
"""
HUNGRY_SEARCH = """
name: Hungry on SLURM
trial: trial.py:train
metric: {name: acc, goal: max}
space: {x: [0, 1, 2]}
strategy: grid
heartbeat: 1
lease: 8
"""


def test_what_ran_out_of_memory_runs_again_with_more_and_what_hangs_is_skipped(
    slurm: Cluster, tmp_path: Path
) -> None:
    search = Search(slurm, tmp_path)
    with cancelled_at_the_end(search):
        search.write("trial.py", HUNGRY_TRIAL)
        search.plan(HUNGRY_SEARCH)
        search.submit("--workers=3", mem="250M")
        wait_until(
            lambda: search.states() == {"done": 1, "failed": 1, "running": 1}, 60, on_timeout=lambda: search
        )
        assert search.status()["causes"] == {"oom": 1}

        assert "trial 2 skipped" in search.call("skip", search.run, "2", "--reason", "it hangs").stdout
        search.wait_for_the_end_of_all_jobs()
        assert search.states() == {"done": 1, "failed": 1, "pruned": 1}

        assert "trial 1 will run again" in search.call("retry", search.run, "--cause", "oom").stdout
        search.submit("--workers=1", mem="700M")
        search.wait()
        assert search.states() == {"done": 2, "pruned": 1}
        assert search.collect()
        search.call("fsck", search.run)
