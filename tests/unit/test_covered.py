"""What a reconcile need not read again: never more than what the index shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc_search.ledger import covered, history
from hpc_search.ledger.fold import fold
from hpc_search.ledger.index import read_image
from hpc_search.records import index
from tests.ledger_run import LedgerRun, end_of, flip


@pytest.fixture
def run(tmp_path: Path) -> Iterator[LedgerRun]:
    made = LedgerRun(tmp_path / "run", trials=12)
    yield made
    made.close()


def finish(run: LedgerRun, trials: int) -> None:
    """Let a worker end *trials* trials, and leave."""
    ledger = run.ledger()
    for claimed in ledger.claim(trials):
        ledger.finish(end_of(claimed))
    ledger.exit("done")


def known(run: LedgerRun) -> covered.Covered | None:
    return covered.read(run.layout, run.plan.run_id, read_image(run.layout).states)


def beyond(run: LedgerRun) -> int:
    """Return how many bytes the next reconcile has to read."""
    found = known(run)
    assert found is not None
    return sum(len(file.data) for file in covered.beyond(run.layout, found))


def forget(run: LedgerRun, number: int) -> None:
    """Let the index forget one trial."""
    with run.layout.claims.open("r+b") as file:
        file.seek(index.entry_offset(number))
        file.write(bytes(index.RECORD_BYTES))


def test_what_a_reconcile_has_read_and_the_index_shows_is_not_read_again(run: LedgerRun) -> None:
    finish(run, 8)
    assert known(run) is None
    total = sum(len(file.data) for file in history.journal_files(run.layout))

    assert run.ledger().reconcile() == 0

    assert beyond(run) < total / 4


def test_an_end_beyond_what_was_read_is_found_by_the_next_reconcile(run: LedgerRun) -> None:
    finish(run, 8)
    ledger = run.ledger()
    ledger.reconcile()
    (claimed,) = ledger.claim(1)
    # Durable, and its worker is killed before it marks it.
    ledger.finish(end_of(claimed))

    assert known(run) is not None
    assert run.ledger().reconcile() == 1
    assert run.states().count("done") == 9


def test_an_index_that_lost_an_end_is_reconciled_with_all_journals(run: LedgerRun) -> None:
    finish(run, 8)
    run.ledger().reconcile()
    finish(run, 4)
    forget(run, 3)

    assert known(run) is None
    assert run.ledger().reconcile() == 1
    assert run.states() == ["done"] * 12


def test_the_whole_is_read_where_that_is_asked_for(run: LedgerRun, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(run, 8)
    ledger = run.ledger()
    ledger.reconcile()
    read: list[int] = []
    real = covered.Reading.lines

    def lines(self: covered.Reading, settled: bytes) -> Iterator[history.Line]:
        read.append(1)
        return real(self, settled)

    monkeypatch.setattr(covered.Reading, "lines", lines)
    ledger.reconcile()
    assert read == []
    ledger.reconcile(whole=True)
    assert read == [1]


@pytest.mark.parametrize("damage", ["flipped", "cut", "another run", "directory"])
def test_a_note_that_does_not_verify_is_not_believed(run: LedgerRun, damage: str) -> None:
    finish(run, 8)
    run.ledger().reconcile()
    path = run.layout.reconciled
    if damage == "flipped":
        flip(path, 60)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "directory":
        path.unlink()
        path.mkdir()
    run_id = "other" if damage == "another run" else run.plan.run_id

    assert covered.read(run.layout, run_id, read_image(run.layout).states) is None
    forget(run, 0)
    assert run.ledger().reconcile() == 1


def test_a_journal_with_a_line_that_does_not_verify_is_read_again_from_its_start(run: LedgerRun) -> None:
    finish(run, 8)
    (worker,) = history.live_workers(run.layout)
    flip(run.layout.journal(worker, 1), 40)
    reader = run.ledger()

    reader.reconcile()

    found = known(run)
    assert found is not None
    assert found.journals[worker, 1] == 0


def test_journals_that_were_folded_meanwhile_are_not_read_again(run: LedgerRun) -> None:
    finish(run, 8)
    reader = run.ledger()
    reader.reconcile()
    before = beyond(run)

    assert fold(run.layout, reader.me, many=1) == 1

    assert beyond(run) <= before + len("\n")
    forget(run, 2)
    assert run.ledger().reconcile() == 1


def test_ends_of_a_worker_that_was_folded_before_it_was_read_are_found(run: LedgerRun) -> None:
    reader = run.ledger()
    reader.reconcile()
    finish(run, 8)
    forget(run, 5)
    fold(run.layout, reader.me, many=1)

    assert run.ledger().reconcile() == 1
    assert run.states().count("done") == 8
