"""Workers that were taken for dead and go on: what they acknowledged stays, what they lose counts once."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpc_search import durable
from hpc_search.collect.sealing import seal_results
from hpc_search.ledger import Ledger, history, liveness, recovery, this_process
from hpc_search.ledger.fold import fold
from hpc_search.ledger.retries import Known
from hpc_search.mounts import Claiming
from hpc_search.records import journal as lines
from hpc_search.records.search import Retry
from hpc_search.runners import messages
from hpc_search.runners.messages import SUPERSEDED
from hpc_search.worker.events import Events
from tests.ledger_run import LedgerRun, end_of


@pytest.fixture(params=["lock", "exclusive"])
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LedgerRun]:
    claiming: Claiming = request.param
    made = LedgerRun(tmp_path / "run", trials=6, claiming=claiming, retry=Retry(no_progress=5))
    yield made
    made.close()


def zombie(run: LedgerRun) -> Ledger:
    """Return a worker that others see as gone, because its machine was started again since."""
    return run.ledger(boot_id="before/1")


# -- folding
def test_what_a_zombie_acknowledges_while_it_is_folded_is_in_the_archive(
    run: LedgerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = zombie(run)
    (claimed,) = late.claim(1)
    other = run.ledger()
    other.recover()
    real = durable.take_away

    def take_away(path: Path) -> None:
        if path == run.layout.worker(late.id):
            late.finish(end_of(claimed, value=42.0))
        real(path)

    monkeypatch.setattr(durable, "take_away", take_away)
    fold(run.layout, other.me, many=1)
    late.flush()

    assert history.results(run.layout)[claimed.trial.number].end.value == 42.0
    assert [
        one.trial for one in run.records("end") if isinstance(one, lines.End) and one.state == "done"
    ] == [claimed.trial.number]


def test_a_worker_that_writes_while_it_is_read_for_the_archive_is_not_folded(
    run: LedgerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = zombie(run)
    (claimed,) = late.claim(1)
    other = run.ledger()
    other.recover()
    real = durable.publish

    def publish(path: Path, data: bytes) -> bool:
        late.note("late", "awake")
        late.journal.sync()
        monkeypatch.setattr(durable, "publish", real)
        return real(path, data)

    monkeypatch.setattr(durable, "publish", publish)
    assert fold(run.layout, other.me, many=1) == 0

    assert late.id in history.live_workers(run.layout)
    late.finish(end_of(claimed, value=42.0))
    assert history.results(run.layout)[claimed.trial.number].end.value == 42.0
    monkeypatch.undo()
    assert fold(run.layout, other.me, many=1) == 1
    assert history.results(run.layout)[claimed.trial.number].end.value == 42.0


def test_the_archived_part_of_a_journal_is_read_beside_what_a_zombie_goes_on_with(run: LedgerRun) -> None:
    late = zombie(run)
    (claimed,) = late.claim(1)
    # Durable, and it is stopped before it marks it.
    late.finish(end_of(claimed, value=9.0))
    assert fold(run.layout, run.ledger().me, many=1) in (0, 1)
    run.ledger().recover()
    fold(run.layout, run.ledger().me, many=1)
    late.note("late", "woke")
    late.journal.sync()

    number = claimed.trial.number
    assert (number, 1) in recovery.left_by(run.layout, late.id).ends
    assert number in recovery.inherited(run.layout, [late.id], [number], Known()).results
    run.ledger().recover()
    assert all(one.trial.number != number for one in run.ledger().claim(6))


# -- attempts
def test_an_attempt_that_ends_twice_is_counted_once(tmp_path: Path) -> None:
    """Its taker says that its worker is gone, and the worker, awake again, that it was superseded."""
    run = LedgerRun(tmp_path / "run", trials=1, claiming="exclusive", retry=Retry(no_progress=5))
    for _ in range(2):
        late = zombie(run)
        late.reconcile()
        late.recover()
        (claimed,) = late.claim(1)
        taker = run.ledger()
        taker.reconcile()
        assert taker.recover() >= 1
        late.finish(end_of(claimed, "pending", cause="preempted", detail=SUPERSEDED))
        taker.exit("no work left")
    last = run.ledger()
    last.reconcile()
    last.recover()
    (again,) = last.claim(1)
    assert (again.attempt, again.before.stalls) == (3, 2)
    run.close()


# -- who is gone
def test_another_boot_of_the_same_hostname_is_the_same_machine_only_where_the_machines_ids_agree() -> None:
    me = this_process("t", "local:0")
    opened = lines.Open(
        worker="w", run_id="r", segment=1, host=me.host, boot_id="other/1", pid=1, start_time=1, machine="m"
    )
    assert liveness.certainly_gone(opened, replace(me, machine="m"))
    assert not liveness.certainly_gone(opened, replace(me, machine="n"))
    assert not liveness.certainly_gone(opened, replace(me, machine=""))


def test_a_machine_has_one_id_of_its_own() -> None:
    assert liveness.machine_id() == liveness.machine_id()
    assert this_process().machine == liveness.machine_id()


# -- locks that are refused
@pytest.mark.parametrize("state", ["done", "pending"])
def test_locks_that_are_refused_while_marks_wait_change_the_way_of_claiming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    run = LedgerRun(tmp_path / "run", trials=6)
    ledger = run.ledger()
    first, second = ledger.claim(2)
    ledger.finish(end_of(first, state, cause="" if state == "done" else "preempted"))
    real = fcntl.flock

    def refuse(fd: Any, operation: int) -> None:
        if operation & fcntl.LOCK_EX:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", refuse)

    found = ledger.claim(1)

    assert ledger.claiming == "exclusive"
    assert [(one.trial.number, one.attempt) for one in found] == [(0, 2) if state == "pending" else (2, 1)]
    ledger.finish(end_of(second))
    while claimed := ledger.claim(1):
        ledger.finish(end_of(claimed[0]))
    for one in found:
        ledger.finish(end_of(one))
    ledger.flush()
    assert run.states() == ["done"] * 6
    run.close()


# -- a process that never answers
def test_an_answer_is_waited_for_only_so_long() -> None:
    events = Events()
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError):
        events.first_message(ours, messages.Inbox(), lambda: 0.01, lambda: "", 0.05)
    events.close()


# -- published results
def test_a_result_that_collect_published_is_the_one_that_the_index_shows(run: LedgerRun) -> None:
    late = zombie(run)
    (first,) = late.claim(1)
    other = run.ledger()
    other.reconcile()
    other.recover()
    (second,) = other.claim(1, only=0)
    late.finish(end_of(first, value=1.0))
    other.finish(end_of(second, value=2.0))

    seal_results(run.layout)
    other.flush()

    assert history.results(run.layout)[0].end.value == 1.0
    assert run.ledger().reconcile() == 0
    assert (run.states()[0], run.entries()[0].value) == ("done", 1.0)
