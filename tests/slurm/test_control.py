"""What is in the queue already is changed, ended and looked up, and nothing of anybody else's is touched."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_search.launchers import submission
from hpc_search.ledger import submits
from tests.slurm.cluster import Cluster
from tests.slurm.test_submit import Site
from tests.waiting import wait_until


@pytest.fixture
def site(slurm: Cluster, tmp_path: Path) -> Iterator[Site]:
    """Give a run on the cluster; nothing of it is left in the queue."""
    (tmp_path / "run" / "ledger").mkdir(parents=True)
    site = Site(slurm, tmp_path / "run")
    yield site
    submission.cancel(site.layout, site.launcher)
    wait_until(lambda: submission.live(submits.submissions(site.layout), site.launcher) == {}, 60)


def rows(site: Site, form: str, number: int = 1) -> list[str]:
    """Return what squeue shows of each task of a submission."""
    shown = site.cluster.run("squeue", "--me", "-h", "-r", f"--name={site.token(number)}", "-o", form)
    return sorted(shown.stdout.split())


def throttled(site: Site, workers: int, throttle: int = 0, **profile: Any) -> submission.Outcome:
    """Submit *workers* tasks that stay, so many of them at once."""
    return submission.submit(site.order("stay", workers=workers, profile={"throttle": throttle, **profile}))


def test_a_new_throttle_holds_for_the_array_that_is_there(site: Site) -> None:
    throttled(site, 5, 1)
    wait_until(lambda: rows(site, "%T").count("RUNNING") == 1, 30, on_timeout=site.cluster.picture)

    said = throttled(site, 5, 3).text

    assert said == "1 array has now at most 3 tasks at once"
    wait_until(lambda: rows(site, "%T").count("RUNNING") == 3, 30, on_timeout=site.cluster.picture)


def begun(site: Site) -> int:
    """Return how many tasks have a step that runs: only a step can be signalled."""
    logs = site.layout.submitit.glob(f"{site.token(1)}_*.log")
    return sum("restart" in log.read_text() for log in logs)


def test_fewer_workers_take_the_waiting_ones_first_and_then_running_ones(site: Site) -> None:
    throttled(site, 5, 2)
    wait_until(lambda: begun(site) == 2, 60, on_timeout=site.cluster.picture)

    said = throttled(site, 1, 2).text

    assert said == "1 worker wanted: 3 waiting cancelled, 1 running told to stop at the next checkpoint"
    wait_until(lambda: rows(site, "%K:%T") == ["0:RUNNING"], 30, on_timeout=site.cluster.picture)


def test_a_shorter_walltime_reaches_what_waits_and_not_what_runs(site: Site) -> None:
    throttled(site, 2, 1, time=9)
    wait_until(lambda: rows(site, "%T").count("RUNNING") == 1, 30, on_timeout=site.cluster.picture)

    said = throttled(site, 2, 1, time=5).text

    assert said == "1 array has now 5 minutes for what waits"
    assert rows(site, "%T:%l") == ["PENDING:5:00", "RUNNING:9:00"]


def test_cancel_ends_this_runs_jobs_and_no_others(site: Site, tmp_path: Path) -> None:
    (tmp_path / "other" / "ledger").mkdir(parents=True)
    other = Site(site.cluster, tmp_path / "other")
    command = ("sbatch", "--parsable", "-o", "/dev/null", "--mem=50M", "--wrap", "sleep 300")
    own = site.cluster.run(*command).stdout.strip()
    throttled(site, 2)
    throttled(other, 2)

    assert submission.cancel(site.layout, site.launcher) == 2

    wait_until(lambda: not rows(site, "%i"), 60, on_timeout=site.cluster.picture)
    assert len(rows(other, "%i")) == 2
    assert site.cluster.run("squeue", "-h", "-j", own).stdout.split()
    submission.cancel(other.layout, other.launcher)
    site.cluster.run("scancel", own)


def test_two_submits_at_once_are_one_submission(site: Site) -> None:
    barrier = threading.Barrier(2)
    sent: list[int] = []

    def run() -> None:
        barrier.wait()
        sent.append(throttled(site, 3).sent)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(sent) == [0, 3]
    assert len(rows(site, "%i")) == 3


def test_what_a_hung_controller_took_is_found_and_not_sent_twice(site: Site) -> None:
    order = site.order("stay", workers=3)
    done: list[submission.Outcome] = []
    # What is asked before anything is sent has its answer already.
    assert site.launcher.limits.max_array
    assert site.launcher.active([site.token()]) == {}

    def submit() -> None:
        done.append(submission.submit(order))

    with site.cluster.stopped_controller():
        thread = threading.Thread(target=submit)
        thread.start()
        # sbatch gives up after MessageTimeout; until then its request waits at the controller.
        wait_until(lambda: site.layout.submit_intent(1).exists(), 120)
        thread.join(timeout=14)
    thread.join(timeout=120)

    assert [outcome.sent for outcome in done] == [3]
    assert len(rows(site, "%i")) == 3
    (record,) = submits.submissions(site.layout)
    assert isinstance(record, submits.Answer)
    assert record.outcome == "adopted"
