"""`status` beside a real SLURM: what waits and why, who is gone, few questions, a stopped controller."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_search.site import queue
from hpc_search.site.reasons import explain
from tests.slurm.cluster import Cluster
from tests.slurm.searches import HeldSearch, cancelled_at_the_end, counting_clients, on_the_nodes
from tests.waiting import wait_until


def status_now(search: HeldSearch) -> dict[str, Any]:
    """Return the status by an answer of this moment: what was kept of the last one is dropped."""
    shutil.rmtree(search.layout.cache, ignore_errors=True)
    return search.status()


def reasons(found: dict[str, Any]) -> dict[str, int]:
    """Return how many tasks wait, by reason."""
    return {group["reason"]: group["tasks"] for group in found["queue"]["waiting"]}


@pytest.fixture(scope="module")
def search(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeldSearch]:
    """Give a search of three tasks of which the throttle lets one run; the trial of that one is held."""
    found = HeldSearch(slurm, tmp_path_factory.mktemp("status"), 4)
    with cancelled_at_the_end(found):
        found.submit("--workers=3", throttle=1)
        found.wait_until_held(1)
        yield found


def test_a_controller_that_stands_still_costs_one_short_wait_and_is_told(search: HeldSearch) -> None:
    known = status_now(search)
    for path in search.layout.cache.glob("asked.*"):
        path.unlink()
    with search.cluster.stopped_controller():
        late = search.status()
        text = search.call("status", search.run).stdout

    assert (late["state"], reasons(late)) == ("running", reasons(known))
    assert not late["queue"]["answers"]
    assert late["done"] == known["done"]
    assert "SLURM does not answer; what is said of its queue is as of" in text
    assert len(list(search.layout.cache.glob("asked.*"))) == 1


def test_eight_who_watch_ask_slurm_once(search: HeldSearch, tmp_path: Path) -> None:
    shutil.rmtree(search.layout.cache)
    clients, calls = tmp_path / "clients", tmp_path / "calls"
    counting_clients(clients, calls)
    environ = {**os.environ, "PATH": f"{clients}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "hpc_search", "status", str(search.run)]
    watching = [
        subprocess.Popen([*command, "--watch"], env=environ, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    try:
        lines = [one.stdout.readline() for one in watching if one.stdout is not None]
        for _ in range(3):
            subprocess.run(command, env=environ, check=True, capture_output=True)
    finally:
        for one in watching:
            one.send_signal(signal.SIGINT)
            one.communicate()

    assert all("1 running" in line for line in lines)
    assert calls.read_text().split() == ["squeue", "-h"]


def test_why_tasks_wait_is_told_with_what_to_do(search: HeldSearch) -> None:
    (token,) = search.tokens()

    throttled = status_now(search)
    array = search.jobs()[0][0]
    comment = search.cluster.run("squeue", "-h", "-o", "%k", f"--name={token}").stdout.splitlines()[0]
    search.cluster.run("scontrol", "uhold", array)
    held = status_now(search)
    text = search.call("status", search.run).stdout
    search.cluster.run("scontrol", "release", array)
    search.cluster.run("scontrol", "update", f"jobid={array}", "arraytaskthrottle=0")
    search.cluster.run("scontrol", "requeue", f"{array}_0")
    wait_until(lambda: "BeginTime" in reasons(status_now(search)), 30, on_timeout=lambda: search)

    assert (throttled["state"], reasons(throttled)) == ("running", {"JobArrayTaskLimit": 2})
    assert throttled["slots"] == [
        {"profile": "test-cluster", "wanted": 3, "live": 1, "starting": 0, "waiting": 2, "missing": 0}
    ]
    assert "throttle=N" in throttled["queue"]["waiting"][0]["next"]
    assert reasons(held) == {"JobHeldUser": 2}
    assert f"scontrol release {array}" in text
    assert "runs/my run, submission 1 of profile test-cluster" in comment


def test_a_worker_that_was_killed_on_its_node_is_gone_once_slurm_does_not_know_it(
    slurm: Cluster, tmp_path: Path
) -> None:
    search = HeldSearch(slurm, tmp_path, 4)
    search.submit("--workers=1", requeue="false")
    search.wait_until_held(1)
    (token,) = search.tokens()
    assert [worker["state"] for worker in status_now(search)["workers"]] == ["live"]

    for pid in on_the_nodes(token):
        os.kill(pid, signal.SIGKILL)
    # The script stays a while where its worker died.
    search.cluster.run("scancel", f"--name={token}")
    search.wait_for_the_end_of_all_jobs()
    found = wait_until(lambda: _when(status_now(search), "gone"), 30, on_timeout=lambda: search)

    assert (found["state"], found["next"]) == ("idle", "hpc-search submit RUN")
    assert found["hours"][0]["lost"] > 0


def _when(found: dict[str, Any], state: str) -> dict[str, Any]:
    return found if [worker["state"] for worker in found["workers"]] == [state] else {}


def test_the_reasons_that_this_cluster_gives_are_understood(slurm: Cluster) -> None:
    def send(*options: str) -> str:
        job = ("sbatch", "--parsable", "--export=NIL", "-o", "/dev/null", *options, "--wrap", "sleep 60")
        done = slurm.run(*job, cwd="/tmp")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    names = [f"why-{os.getpid()}-{number}" for number in range(9)]
    mine = iter(names)
    try:
        held = send("-J", next(mine), "--hold")
        send("-J", next(mine), "--begin=now+100")
        send("-J", next(mine), f"--dependency=after:{held}")
        failed = slurm.run("sbatch", "-W", "--parsable", "--export=NIL", "-o", "/dev/null", "--wrap", "false")
        send("-J", next(mine), f"--dependency=afterok:{failed.stdout.split()[0]}")
        send("-J", next(mine), "-N", "5")
        send("-J", next(mine), "-q", "small", "--array=0-19", "--mem=10M")
        slurm.run("scontrol", "update", "nodename=node4", "state=drain", "reason=a test")
        send("-J", next(mine), "-w", "node4")
        send("-J", next(mine), "--array=0-3%1", "--mem=10M")
        send("-J", next(mine), "--exclusive", "-N", "4", "-t", "1")
        wanted = {
            *("JobHeldUser", "BeginTime", "Dependency", "DependencyNeverSatisfied", "PartitionNodeLimit"),
            *("QOSMaxJobsPerUserLimit", "ReqNodeNotAvail", "JobArrayTaskLimit"),
        }

        def seen() -> set[str]:
            found = queue.fetch(names, "root", 10) or ()
            waiting = [job for job in found if job.kind == "waiting"]
            assert all(explain(job.reason).meaning for job in waiting), {job.reason for job in waiting}
            return {job.reason.partition(",")[0] for job in waiting}

        wait_until(lambda: wanted <= seen(), 40, on_timeout=lambda: (seen(), slurm.picture()))
        drained = next(job for job in queue.fetch(names, "root", 10) or () if "ReqNode" in job.reason)
        assert explain(drained.reason).meaning.endswith(": node4")
    finally:
        for name in names:
            slurm.run("scancel", f"--name={name}")
        slurm.run("scontrol", "update", "nodename=node4", "state=resume")
