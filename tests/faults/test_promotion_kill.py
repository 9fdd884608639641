"""Workers that are killed as they pause, promote and end trials: each goes on once from a rung, and ends."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from hpc_search.ledger import Ledger, history
from hpc_search.mounts import Claiming
from hpc_search.records import index
from hpc_search.records import journal as lines
from tests.ledger_run import LedgerRun, Waits, end_of

TRIALS = 10
KILLS = 40
LAST_RUNG = 3


@pytest.fixture(params=["lock", "exclusive"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LedgerRun]:
    claiming: Claiming = request.param
    made = LedgerRun(tmp_path / "run", claiming=claiming, blocks=(Waits(TRIALS), Waits(1, needs=0)))
    yield made
    made.close()


def in_a_process(run: LedgerRun, work: Callable[[Ledger], None]) -> int:
    """Fork a worker that does *work*; return its process."""
    pid = os.fork()
    if not pid:
        try:
            work(run.ledger())
        finally:
            os._exit(0)
    return pid


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_random(ledger: Ledger) -> None:
    """Claim, pause, promote and end until somebody kills this process."""
    rng = random.Random(os.getpid())
    while True:
        claimed = ledger.claim(1) if rng.random() < 0.6 else ledger.promote(rng.randrange(TRIALS))
        for one in claimed:
            rung = one.before.rung + 1
            more = {"rung": rung, "step": rung} if rung <= LAST_RUNG and rng.random() < 0.8 else {}
            ledger.finish(end_of(one, "paused" if more else "done", **more))
        for one in ledger.end_paused([rng.randrange(TRIALS)]) if rng.random() < 0.1 else ():
            ledger.finish(end_of(one, "pruned"))
        if not claimed:
            ledger.recover()


def end_everything(run: LedgerRun, ledger: Ledger) -> None:
    """Let one worker promote what is paused and end all."""
    ledger.reconcile()
    for _ in range(4 * TRIALS):
        ledger.recover()
        paused = [number for number, entry in enumerate(run.entries()) if entry.state == index.PAUSED]
        for one in [*ledger.claim(9), *(one for number in paused for one in ledger.promote(number))]:
            ledger.finish(end_of(one))
        ledger.flush()
        if not ledger.left():
            break
    assert ledger.left() == 0, run.states()


def test_of_workers_that_are_killed_at_any_moment_nothing_is_lost_or_goes_on_twice(run: LedgerRun) -> None:
    rng = random.Random(7)
    workers = [in_a_process(run, at_random) for _ in range(3)]
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.005, 0.06))
        victim = workers.pop(rng.randrange(len(workers)))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        workers.append(in_a_process(run, at_random))
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
    end_everything(run, run.ledger())
    ends = [record for record in run.records("end") if isinstance(record, lines.End)]
    ran = [end for end in ends if "gone" not in end.detail]
    twice = {
        key for key, count in Counter((end.trial, end.rung) for end in ran if end.rung).items() if count > 1
    }
    assert not twice, "a trial reached the same rung twice"
    assert any(end.rung == LAST_RUNG for end in ran)
    finals = Counter(end.trial for end in ends if end.state in lines.FINAL)
    assert set(finals) == set(range(TRIALS))
    assert set(finals.values()) == {1}, "finished work was run again"
    assert set(history.results(run.layout)) == set(range(TRIALS))


@pytest.mark.parametrize("what", ["promote", "end_paused"])
@pytest.mark.parametrize("when", ["before its record", "after its record", "after the end record"])
def test_a_worker_killed_in_the_middle_leaves_a_trial_that_somebody_ends(
    run: LedgerRun, what: str, when: str
) -> None:
    first = run.ledger()
    for one in first.claim(1):
        first.finish(end_of(one, "paused", rung=1, step=1))
    first.flush()

    def work(ledger: Ledger) -> None:
        place = {"before its record": "_own", "after its record": "finish", "after the end record": "flush"}[
            when
        ]
        ledger.flush()
        with (
            mock.patch.object(Ledger, place, die)
            if place != "flush"
            else mock.patch.object(ledger, "_do", die)
        ):
            for one in ledger.promote(0) if what == "promote" else ledger.end_paused([0]):
                ledger.finish(end_of(one, "done" if what == "promote" else "pruned"))
            ledger.flush()

    pid = in_a_process(run, work)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    other = run.ledger()
    other.recover()
    # By names, a claim without a record never began; by the index it did.
    began = when == "after its record" or run.plan.claiming == "lock"
    expected = "pending" if what == "promote" and began else "paused"
    if when == "after the end record":
        expected = "done" if what == "promote" else "pruned"
    assert run.states()[0] == expected
    end_everything(run, other)
    assert run.states()[0] == (expected if when == "after the end record" else "done")


def test_of_many_that_promote_a_trial_at_once_one_has_it(run: LedgerRun) -> None:
    first = run.ledger()
    for one in first.claim(TRIALS):
        first.finish(end_of(one, "paused", rung=1, step=1))
    first.flush()

    def promote_all(ledger: Ledger) -> None:
        for number in range(TRIALS):
            ledger.promote(number)
        ledger.journal.sync()

    for pid in [in_a_process(run, promote_all) for _ in range(4)]:
        os.waitpid(pid, 0)
    claims = [one for one in run.records("claim") if isinstance(one, lines.Claim) and one.attempt == 2]
    paused = {end.trial for end in run.records("end") if isinstance(end, lines.End)}
    assert sorted(one.trial for one in claims) == sorted(paused)
