"""Pausing on a real cluster: what runs saves, what waits keeps its place, and the bits are the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.searches import SteppedSearch, cancelled_at_the_end
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
