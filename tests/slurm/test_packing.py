"""Two workers in one task: killed alone, warned together, preempted together."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

from hpc_search.ledger.seats import REQUEUE
from tests.slurm.cluster import Cluster
from tests.slurm.searches import HeldSearch, cancelled_at_the_end
from tests.waiting import wait_until

PROFILE = """
partition: low
time: 10 min
mem: 500M
workers: 2
slice: {request: {gres: "gpu:h200:1"}, pack: {workers: 2, stagger: 0}, expect: {checks: [environment]}}
"""


def packed_worker(seat: str) -> psutil.Process:
    """Return the worker on *seat*; nodes are namespaces of this machine."""
    found = [
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [])[-2:] == ["--packed", seat]
    ]
    (process,) = found
    return process


def restarts(search: HeldSearch) -> tuple[str, int]:
    """Return the job of the only task, and how often SLURM ran it again."""
    (row,) = search.jobs()
    shown = search.cluster.run("scontrol", "show", "job", f"{row[0]}_0").stdout
    match = re.search(r"Restarts=(\d+)", shown)
    assert match, shown
    return f"{row[0]}_0", int(match[1])


def held(search: HeldSearch) -> dict[str, int]:
    """Return the highest attempt of each trial that came to the gate."""
    names = [path.name.split("-") for path in (search.directory / "held").iterdir()]
    return {
        trial: max(int(attempt) for other, attempt in names if other == trial)
        for trial in {name[0] for name in names}
    }


def test_packed_workers_share_the_fate_of_their_task_and_not_each_others(
    slurm: Cluster, tmp_path: Path
) -> None:
    search = HeldSearch(slurm, tmp_path, trials=2)
    search.write("profile.yaml", PROFILE)

    with cancelled_at_the_end(search):
        search.submit()
        search.wait_until_held(2)
        job, _ = restarts(search)

        # One is killed: the other goes on, and the killed one comes back on its seat.
        killed = packed_worker("slurm:0:0.1")
        killed.kill()
        wait_until(lambda: sorted(held(search).values()) == [1, 2], 60, on_timeout=lambda: search)

        # Both are warned of the time limit: they save, and SLURM is asked once.
        slurm.run("scancel", "--signal=USR2", job)
        wait_until(lambda: sorted(held(search).values()) == [2, 3], 60, on_timeout=lambda: search)
        assert restarts(search) == (job, 1)

        # Both are told to end as in a preemption: the leader stays until it is killed.
        slurm.run("scontrol", "requeue", job)
        wait_until(lambda: sorted(held(search).values()) == [3, 4], 60, on_timeout=lambda: search)
        assert restarts(search) == (job, 2)

        search.gate.unlink()
        search.wait()

    assert search.states() == {"done": 2}
    notes = [note for _, note in search.records("note") if note.event == REQUEUE]
    assert len(notes) == 2
    ends = [record for _, record in search.records("end")]
    assert sorted(end.cause for end in ends if end.state == "pending") == ["lost", *["preempted"] * 4]
    opened = sorted((record.restart, record.seat) for _, record in search.records("open"))
    seats = ["slurm:0:0.0", "slurm:0:0.1"]
    assert opened == sorted([(0, "slurm:0:0.1"), *((n, seat) for n in range(3) for seat in seats)])
