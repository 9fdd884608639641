"""Failures that are taken back, and trials that end without being run; with locks and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc_search.collect.sealing import seal_results
from hpc_search.layout import Layout
from hpc_search.ledger import Claimed, Ledger, exclusive, history, orders, retries, superblocks
from hpc_search.ledger.fold import fold
from hpc_search.mounts import Claiming
from hpc_search.records import index
from hpc_search.records.search import OomRetry, Retry
from tests.ledger_run import LedgerRun, end_of, without_times

RETRY = Retry(oom=OomRetry(halve="x", times=1), error=1)


@pytest.fixture(params=["lock", "exclusive"])
def claiming(request: pytest.FixtureRequest) -> Claiming:
    claiming: Claiming = request.param
    return claiming


@pytest.fixture
def run(tmp_path: Path, claiming: Claiming, monkeypatch: pytest.MonkeyPatch) -> Iterator[LedgerRun]:
    for module in (superblocks, exclusive):
        monkeypatch.setattr(module, "SUPERBLOCK", 4)
    made = LedgerRun(tmp_path / "run", trials=6, claiming=claiming, retry=RETRY)
    yield made
    made.close()


def end(ledger: Ledger, claimed: Claimed, state: str = "done", cause: str = "error") -> None:
    ledger.finish(end_of(claimed, state, cause="" if state == "done" else cause))


def end_all(run: LedgerRun, failing: tuple[int, ...] = (), cause: str = "error") -> list[Claimed]:
    """Run all that is pending to its end; return what was claimed."""
    ledger = run.ledger()
    ledger.reconcile()
    found = []
    while claimed := ledger.claim(3) or (ledger.recover() and ledger.claim(3)) or []:
        for one in claimed:
            end(ledger, one, "failed" if one.trial.number in failing else "done", cause)
        found += claimed
    ledger.exit("no work left")
    return found


def retry(run: LedgerRun, *numbers: int, keep_ladder: bool = False) -> list[int]:
    ledger = run.ledger()
    try:
        return orders.retry(ledger, lambda n, _: n in numbers, "alice: why", keep_ladder=keep_ladder)
    finally:
        ledger.exit("done")


def skip(run: LedgerRun, *numbers: int) -> list[int]:
    ledger = run.ledger()
    try:
        return orders.skip(ledger, numbers, "skipped by alice")
    finally:
        ledger.exit("done")


def rebuilt_is_the_same(run: LedgerRun) -> None:
    """An index that is made from the journals is the one that is there."""
    if run.plan.claiming != "lock":
        return
    before = without_times(run.entries())
    header = run.layout.claims.read_bytes()[: index.HEADER_BYTES]
    run.layout.claims.unlink()
    run.ledger().recover()
    assert without_times(run.entries()) == before
    after = index.parse_header(run.layout.claims.read_bytes())
    parsed = index.parse_header(header)
    assert after is not None
    assert parsed is not None
    assert (after.finals, after.trials) == (parsed.finals, parsed.trials)


def test_a_failure_that_is_taken_back_runs_again_with_the_next_attempt(run: LedgerRun) -> None:
    end_all(run, failing=(1, 4))
    assert run.finals() == 6

    assert retry(run, 1, 4, 2) == [1, 4]
    assert run.states() == ["done", "pending", "done", "done", "pending", "done"]
    assert run.finals() == 4
    assert run.ledger().anything_open()
    rebuilt_is_the_same(run)

    again = end_all(run)
    assert [(one.trial.number, one.attempt) for one in again] == [(1, 2), (4, 2)]
    assert run.states() == ["done"] * 6
    assert run.finals() == 6
    assert history.results(run.layout)[4].end.attempt == 2
    rebuilt_is_the_same(run)


def test_what_is_pending_done_or_pruned_is_not_taken_back(run: LedgerRun) -> None:
    assert skip(run, 3) == [3]
    assert retry(run, *range(6)) == []
    end_all(run)
    assert retry(run, *range(6)) == []
    assert not run.layout.retries.exists()


def test_a_trial_fails_and_is_taken_back_again_and_again(run: LedgerRun) -> None:
    end_all(run, failing=(5,))
    for attempt in range(2, 6):
        assert retry(run, 5) == [5]
        assert retry(run, 5) == []
        (again,) = end_all(run, failing=(5,))
        assert again.attempt == attempt
        assert run.states()[5] == "failed"
        assert run.finals() == 6
        rebuilt_is_the_same(run)
    assert retry(run, 5) == [5]
    end_all(run)
    assert run.states() == ["done"] * 6
    assert len(retries.read(run.layout).batches) == 5


def test_the_budgets_of_what_runs_again_are_fresh(run: LedgerRun) -> None:
    ledger = run.ledger()
    for _ in range(3):
        (claimed,) = ledger.claim(1, only=0)
        end(ledger, claimed, "pending", "error")
    (claimed,) = ledger.claim(1, only=0)
    assert claimed.before.errors == 3
    end(ledger, claimed, "failed", "oom")
    ledger.flush()

    assert retry(run, 0) == [0]
    (claimed,) = run.ledger().claim(1, only=0)
    assert claimed.attempt == 5
    assert (claimed.before.errors, claimed.before.ooms, claimed.before.stalls) == (0, 0, 0)


def test_the_ladder_can_be_kept(run: LedgerRun) -> None:
    ledger = run.ledger()
    for state in ("pending", "failed"):
        (claimed,) = ledger.claim(1, only=0)
        end(ledger, claimed, state, "oom")
    ledger.flush()
    assert retry(run, 0, keep_ladder=True) == [0]
    (claimed,) = run.ledger().claim(1, only=0)
    assert (claimed.before.ooms, claimed.before.errors) == (2, 0)


def test_a_published_failure_can_be_taken_back_and_the_new_result_is_published(run: LedgerRun) -> None:
    end_all(run, failing=(2,))
    assert seal_results(run.layout).new == 6
    assert retry(run, 2) == [2]
    sealed = seal_results(run.layout)
    assert (sealed.new, sealed.lost) == (0, 0)
    assert 2 not in sealed.attempts.results

    end_all(run)
    assert seal_results(run.layout).new == 1
    sealed = seal_results(run.layout)
    assert (sealed.new, sealed.lost) == (0, 0)
    assert sealed.attempts.results[2].state == "done"
    run.ledger().reconcile(whole=True)
    assert run.states() == ["done"] * 6


def test_a_failure_that_comes_too_late_is_no_result_of_what_runs_again(run: LedgerRun) -> None:
    zombie = run.mortal()
    (old,) = zombie.claim(1)
    other = run.ledger()
    other.recover()
    (new,) = other.claim(1, only=0)
    end(other, new, "failed")
    other.exit("done")
    assert retry(run, 0) == [0]

    end(zombie, old, "failed")
    zombie.flush()
    assert run.states()[0] == "pending"
    rebuilt_is_the_same(run)
    again = end_all(run)
    assert again[-1].trial.number == 0 or again[0].trial.number == 0
    assert run.states() == ["done"] * 6


def test_the_journals_of_all_may_be_folded(run: LedgerRun) -> None:
    end_all(run, failing=(0, 3))
    retry(run, 0, 3)
    fold(run.layout, run.ledger().me, many=1)
    assert run.states() == ["pending", "done", "done", "pending", "done", "done"]
    end_all(run, failing=(3,))
    fold(run.layout, run.ledger().me, many=1)
    assert run.states() == ["done", "done", "done", "failed", "done", "done"]
    rebuilt_is_the_same(run)


def test_a_retry_that_was_killed_before_the_ledger_showed_it_is_shown_by_the_next_worker(
    run: LedgerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_all(run, failing=(1,))
    ledger = run.ledger()

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(orders, "_note", kill)
    with pytest.raises(Killed):
        orders.retry(ledger, lambda *_: True, "alice")
    ledger.close()
    monkeypatch.undo()
    for module in (superblocks, exclusive):
        monkeypatch.setattr(module, "SUPERBLOCK", 4)

    assert retry(run, 1) == []
    (one,) = end_all(run)
    assert (one.trial.number, one.attempt) == (1, 2)


def test_a_worker_that_lives_takes_up_what_runs_again(run: LedgerRun) -> None:
    ledger = run.ledger()
    while claimed := ledger.claim(1):
        end(ledger, claimed[0], "failed" if claimed[0].trial.number == 0 else "done")
    ledger.flush()
    assert not ledger.anything_open()
    assert retry(run, 0) == [0]
    assert ledger.anything_open()
    assert ledger.pending_estimate() == 1
    (again,) = ledger.claim(1)
    assert (again.trial.number, again.attempt) == (0, 2)


def test_a_skipped_trial_is_never_run(run: LedgerRun) -> None:
    worker = run.ledger()
    claimed = worker.claim(2)
    running = [one.trial.number for one in claimed]
    assert skip(run, *running, 5) == [*running, 5]
    assert sorted(worker.beat()) == running
    end(worker, claimed[0])
    worker.flush()
    worker.exit("done")

    ended = [one.trial.number for one in end_all(run)]
    assert not {*running, 5} & set(ended)
    states = run.states()
    assert [states[number] for number in (*running, 5)] == ["pruned"] * 3
    result = history.results(run.layout)[5].end
    assert (result.state, result.detail, result.value) == ("pruned", "skipped by alice", None)
    rebuilt_is_the_same(run)
    assert skip(run, 5) == []


def test_a_trial_that_runs_again_can_be_skipped(run: LedgerRun) -> None:
    end_all(run, failing=(4,))
    retry(run, 4)
    assert skip(run, 4) == [4]
    assert end_all(run) == []
    assert run.states()[4] == "pruned"
    assert run.finals() == 6


def test_a_run_whose_locks_fail_goes_on_without_them_after_a_retry(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run", trials=6, retry=RETRY)
    try:
        end_all(run, failing=(1, 2))
        retry(run, 1, 2)
        ledger = run.ledger()
        (claimed,) = ledger.claim(1)
        end(ledger, claimed)
        ledger._switch("they lie")
        ledger.flush()
        assert run.finals() == 5
        ledger.exit("done")
        assert [one.trial.number for one in end_all(run)] == [2]
        assert run.finals() == 6
        assert run.states() == ["done"] * 6
    finally:
        run.close()


def test_what_is_published_is_read_once_however_many_trials_end(
    run: LedgerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_all(run, failing=(0, 1, 2, 3, 4, 5))
    seal_results(run.layout)
    retry(run, *range(6))
    reads: list[Layout] = []
    seals = history.seals
    ledger = run.ledger()

    def counted(layout: Layout) -> dict[int, str]:
        reads.append(layout)
        return seals(layout)

    monkeypatch.setattr(history, "seals", counted)

    while found := ledger.claim(2) or (ledger.recover() and ledger.claim(2)) or []:
        for claimed in found:
            end(ledger, claimed)
            ledger.flush()
    assert len(reads) <= 1
    assert run.states() == ["done"] * 6
