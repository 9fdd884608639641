"""Workers that `submit` found gone: their trials are given back by whoever comes next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hpc_search.ledger import gone
from hpc_search.records import checked
from tests.ledger_run import LedgerRun


class Record(msgspec.Struct):
    gone: tuple[str, ...]
    other: int = 0


@pytest.fixture
def run(tmp_path: Path) -> Iterator[LedgerRun]:
    run = LedgerRun(tmp_path, trials=3)
    run.layout.submits.mkdir(parents=True)
    yield run
    run.close()


def test_owners_are_the_workers_of_a_token_with_trials(run: LedgerRun) -> None:
    mine = run.ledger(token="lost")
    mine.claim(1)
    run.ledger(token="lost")
    run.ledger(token="live").claim(1)

    assert gone.owners(run.layout, ["lost"]) == (mine.id,)
    assert gone.owners(run.layout, []) == ()


def test_without_an_index_nobody_is_an_owner(run: LedgerRun) -> None:
    run.layout.claims.unlink()

    assert gone.owners(run.layout, ["lost"]) == ()


def test_what_a_worker_on_another_host_held_is_given_back_once_it_was_reported(run: LedgerRun) -> None:
    away = run.ledger(host="elsewhere", token="lost")
    away.claim(1)
    me = run.ledger(token="new")
    assert me.recover() == 0

    run.layout.submit_record(2).write_bytes(checked.encode(Record(gone=(away.id,), other=1)))
    run.layout.submit_record(4).write_text(f'{{"gone": ["{me.id}"]}}')
    run.layout.submit_intent(3).write_text("torn {")

    assert gone.reported(run.layout) == {away.id}
    assert me.recover() == 1
    assert run.states() == ["pending"] * 3


def test_without_submissions_nobody_is_reported(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path, trials=1)

    assert gone.reported(run.layout) == frozenset()
