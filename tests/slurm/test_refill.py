"""More workers than a site takes: what does not fit follows as tasks end, and nobody waits to send it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from hpc_search.ledger.submits import submissions
from tests.slurm.cluster import CLUSTER, Cluster, why_not
from tests.slurm.searches import Search, on_this_machine
from tests.waiting import wait_until

TRIALS: Final = 1200
#: What SLURM takes of this user, and of one array.
MOST, LARGEST = 120, 100
#: The ninth trial of a task warns its worker, as SLURM does when the time is nearly over.
TRIAL: Final = """
import os, signal
from pathlib import Path

def train(trial):
    count = Path("counts", os.environ["SLURM_JOB_ID"])
    with count.open("ab") as file:
        file.write(b".")
    if count.stat().st_size == 9:
        os.kill(worker(), signal.SIGUSR2)
    return {"x": trial.params["x"]}

def worker():
    pid = os.getpid()
    while b"work" not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\\0"):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return pid
"""
SEARCH: Final = f"""
name: Many
trial: trial.py:train
metric: {{name: x, goal: max}}
space: {{x: {{int: [1, {TRIALS}]}}}}
strategy: grid
heartbeat: 1
lease: 20
"""


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Start a cluster of its own that takes little; it is gone afterwards."""
    if reason := why_not():
        pytest.skip(f"SLURM TESTS ARE SKIPPED: {reason}")
    # Paths of sockets have to be short.
    directory = Path(tempfile.mkdtemp(prefix="hpc-", dir="/tmp"))
    port = int(os.environ.get("HPC_CLUSTER_BASE_PORT", "16800")) + 400
    monkeypatch.setenv("HPC_SEARCH_CLUSTER_DIR", str(directory))
    monkeypatch.setenv("HPC_CLUSTER_BASE_PORT", str(port))
    monkeypatch.setenv("HPC_CLUSTER_MAX_ARRAY_SIZE", str(LARGEST + 1))
    monkeypatch.setenv("HPC_CLUSTER_SMALL_SUBMIT", str(MOST))
    started = subprocess.run(
        [CLUSTER, "up", "--nodes", "2", "--no-cgroup"], check=False, capture_output=True, text=True
    )
    try:
        assert started.returncode == 0, f"{started.stdout}{started.stderr}"
        monkeypatch.setenv("SLURM_CONF", str(directory / "etc" / "slurm.conf"))
        yield Cluster(directory, os.environ.get("HPC_CLUSTER_USER", "labuser"))
    finally:
        subprocess.run([CLUSTER, "down", "--purge"], check=False, capture_output=True)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.timeout(700)
def test_twelve_hundred_workers_where_a_site_takes_a_hundred_and_twenty(
    narrow: Cluster, tmp_path: Path
) -> None:
    search = Search(narrow, tmp_path)
    (tmp_path / "counts").mkdir()
    search.write("trial.py", TRIAL)
    search.plan(SEARCH)

    said = search.submit(f"--workers={TRIALS}", qos="small", requeue="false", mem="150M").stdout

    assert f"{MOST} of 1,200 workers submitted; QOSMaxSubmitJobPerUserLimit" in said
    assert "the rest follows as tasks end" in said
    known: list[int] = []

    def over() -> bool:
        known.append(len(search.jobs()))
        assert on_this_machine(str(search.run)) == []
        return search.states() == {"done": TRIALS}

    wait_until(over, 600, on_timeout=lambda: search)
    search.wait_for_the_end_of_all_jobs()
    assert max(known) <= MOST
    sent = submissions(search.layout)
    assert max(one.tasks for one in sent) <= LARGEST
    assert max(one.depth for one in sent) >= 1
    ends = Counter(record.trial for _, record in search.records("end") if record.state == "done")
    assert ends == dict.fromkeys(range(TRIALS), 1)
