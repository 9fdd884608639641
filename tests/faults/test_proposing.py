"""Points are proposed by processes that race for them and are killed at every step."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hpc_search import fsck
from hpc_search.errors import EXIT_DONE, EXIT_TEMPORARY
from hpc_search.ledger import history, proposals
from hpc_search.ledger.liveness import read_beat
from hpc_search.ledger.proposals import Proposals
from hpc_search.mounts import Claiming
from hpc_search.records import journal as lines
from hpc_search.records.proposals import PACK
from tests import proposing_worker
from tests.adaptive_run import AdaptiveRun
from tests.faults.site import TIMEOUT, Site
from tests.waiting import wait_until
from tools.campaigns import netfs

ROOT = Path(proposing_worker.__file__).parent.parent


def start(run: AdaptiveRun, *fault: str, at: Path | None = None, **more: str) -> subprocess.Popen[bytes]:
    """Start a worker on *run*, which its client sees *at* another path where that is given."""
    program = [sys.executable, "-m", "tests.proposing_worker", str(at or run.layout.root), *fault]
    return subprocess.Popen(program, cwd=ROOT, env={**os.environ, **more})


def check(run: AdaptiveRun, points: int, folds: int) -> Proposals:
    """Look at what the workers left: every trial has its result, and every point one proposal."""
    log = Proposals(run.layout)
    log.read()
    chosen = {point: entry.params for point, entry in log.all.items()}
    assert sorted(chosen) == list(range(points))
    assert len({params["x"] for params in chosen.values()}) == points
    results = history.results(run.layout)
    assert sorted(results) == list(range(points * folds))
    for result in results.values():
        assert result.end.params == chosen[result.end.point]
    for worker in history.live_workers(run.layout):
        told: set[int] = set()
        for record in history.records(run.layout, worker):
            if isinstance(record, lines.Propose):
                assert record.params == chosen[record.point]
                told.add(record.point)
            elif isinstance(record, lines.Claim):
                # Of what was claimed it is known from what it was chosen.
                assert record.point in told
                assert record.params == chosen[record.point]
    return log


@pytest.mark.parametrize(("claiming", "number"), [("lock", 1), ("exclusive", 4)])
@pytest.mark.parametrize("step", proposing_worker.STEPS[:-1])
def test_a_worker_that_is_killed_at_any_step_leaves_one_proposal_a_point(
    tmp_path: Path, claiming: Claiming, step: str, number: int
) -> None:
    run = AdaptiveRun(tmp_path / "run", points=6, folds=2, claiming=claiming)
    assert start(run, step, str(number)).wait(60) == -signal.SIGKILL
    assert start(run).wait(60) == 0
    check(run, 6, 2)


@pytest.mark.parametrize("claiming", ["lock", "exclusive"])
def test_of_processes_that_race_for_the_log_each_point_has_one_proposal_and_none_is_twice(
    tmp_path: Path, claiming: Claiming
) -> None:
    run = AdaptiveRun(tmp_path / "run", points=PACK + 20, folds=2, claiming=claiming)
    doomed = [start(run, "created", "30"), start(run, "told", "40"), start(run, "packed", "1")]
    others = [start(run) for _ in range(2)]
    assert [process.wait(100) for process in others] == [0, 0]
    for process in doomed:
        assert process.wait(100) in (0, -signal.SIGKILL)

    log = check(run, PACK + 20, 2)

    assert len(log) == PACK + 20
    assert [one for one in fsck.check_run(run.layout).findings if "proposals" in one.path] == []


@pytest.mark.skipif(os.getuid() != 0, reason="SKIPPED, not root: file systems are mounted")
@pytest.mark.skipif(shutil.which("glusterfsd") is None, reason="SKIPPED, needs glusterfs (tools/netfs up)")
@pytest.mark.timeout(300)
def test_two_clients_with_caches_of_their_own_agree_on_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(5)
    with netfs.mounted("cached", tmp_path) as shared:
        one, other = shared.parent / "a" / "run", shared.parent / "b" / "run"
        run = AdaptiveRun(one, points=40, folds=2, claiming="exclusive")
        crowd = [start(run, at=at, HPC_TEST_PACK="4") for at in (one, other, one, other)]
        crowd.append(start(run, "created", "3", at=other, HPC_TEST_PACK="4"))
        while any(process.poll() is None for process in crowd):
            # Those that are stopped come back to a log that is packed beyond what they have read.
            process = draw.choice(crowd)
            process.send_signal(signal.SIGSTOP)
            with suppress(subprocess.TimeoutExpired):
                draw.choice(crowd).wait(draw.choice([0.05, 0.3, 1.0]))
            process.send_signal(signal.SIGCONT)
        assert start(run, at=other, HPC_TEST_PACK="4").wait(TIMEOUT) == 0
        monkeypatch.setattr(proposals, "PACK", 4)
        check(run, 40, 2)


SEARCH = """
name: proposed
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: {uniform: [0, 1]}}
strategy: {evolution: {points: 4}}
heartbeat: 0.2
lease: 20
"""
TRAIN = "def train(trial):\n    return {'acc': trial.params['x']}\n"
#: `work` with a proposer that waits for a file, or fails.
PROGRAM = """
import os, sys, time
from pathlib import Path
from hpc_search.ledger.proposing import Proposed
from hpc_search.worker import supervisor

root = Path(os.environ["HPC_TEST_ROOT"])

class Slow:
    def __init__(self, layout, plan):
        pass

    def __call__(self, point):
        (root / "asked").touch()
        if "fails" in os.environ:
            import no_such_library
        while not (root / "go").exists():
            time.sleep(0.01)
        return Proposed({"x": (point + 1) / 10})

supervisor.Proposer = Slow
from hpc_search.cli import main
sys.exit(main(["work", sys.argv[1]]))
"""


@contextmanager
def slow_worker(site: Site, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a worker with that proposer, and end it with the block."""
    with (site.root / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(site.layout.root)],
            env={**os.environ, "HPC_TEST_ROOT": str(site.root), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(TIMEOUT)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, SEARCH, TRAIN)


def test_a_worker_beats_while_its_point_is_proposed(site: Site) -> None:
    with slow_worker(site) as process:
        site.wait_for("asked")
        (worker,) = history.live_workers(site.layout)

        def counter() -> int:
            beat = read_beat(site.layout, worker)
            return beat.counter if beat is not None and beat.held == ((0, 1),) else 0

        first = counter()
        wait_until(lambda: counter() >= max(1, first) + 2, timeout=TIMEOUT, on_timeout=site.said)
        (site.root / "go").touch()
        assert process.wait(TIMEOUT) == EXIT_DONE, site.said()
    assert [result.end.value for _, result in sorted(site.results().items())] == [0.1, 0.2, 0.3, 0.4]


def test_a_signal_is_heard_while_a_point_is_proposed_and_its_trial_given_back(site: Site) -> None:
    with slow_worker(site) as process:
        site.wait_for("asked")
        process.terminate()
        assert process.wait(TIMEOUT) == EXIT_DONE, site.said()
    assert site.states() == ["pending"] * 4
    assert [(end.state, end.cause, end.params) for end in site.ends()] == [("pending", "", {})]
    (worker,) = history.live_workers(site.layout)
    assert any(isinstance(record, lines.Exit) for record in history.records(site.layout, worker))
    assert not site.layout.proposals.exists()


def test_a_worker_that_cannot_propose_says_why_and_leaves_and_another_one_goes_on(site: Site) -> None:
    with slow_worker(site, fails="1") as process:
        assert process.wait(TIMEOUT) == EXIT_TEMPORARY
    assert "point 0, of trial 0, could not be proposed: ModuleNotFoundError" in site.said()
    assert "next: " in site.said()
    assert site.states() == ["pending"] * 4
    site.work()
    assert site.states() == ["done"] * 4


def test_a_worker_that_is_killed_while_it_proposes_holds_nobody_up(site: Site) -> None:
    with slow_worker(site) as process:
        site.wait_for("asked")
        process.kill()
        process.wait(TIMEOUT)
    site.work()
    assert site.states() == ["done"] * 4
    assert [end.cause for end in site.ends(0)] == ["lost", ""]
