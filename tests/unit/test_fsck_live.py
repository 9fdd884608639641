"""fsck of a run that is at work: what changes while it reads is no damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_search import checkpoint
from hpc_search.errors import EXIT_DONE
from hpc_search.fsck import archives, check, files, index
from hpc_search.ledger import this_process
from hpc_search.ledger.fold import fold
from tests.fsck_run import SEARCH, FsckRun


@pytest.fixture
def run(tmp_path: Path) -> FsckRun:
    return FsckRun(tmp_path, SEARCH.replace("keep_checkpoints: true\n", ""))


def once(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, between: Callable[[], None]) -> None:
    """Let *between* happen right before the first call of a function."""
    real, waiting = getattr(module, name), [between]

    def instead(*arguments: Any, **more: Any) -> Any:
        if waiting:
            waiting.pop()()
        return real(*arguments, **more)

    monkeypatch.setattr(module, name, instead)


@pytest.fixture
def ending(run: FsckRun) -> Iterator[Callable[[], None]]:
    """Give what ends a trial that has a checkpoint, as its live worker does."""
    ledger = run.ledger(alive=True)
    [claimed] = ledger.claim(1)
    ledger.start(claimed, 7, 0)
    run.save(ledger, claimed)
    ledger.beat()
    ledger.journal.sync()

    def end() -> None:
        run.end(ledger, claimed, 0)
        ledger.flush()
        checkpoint.Slots.remove(run.layout, claimed.trial.number)

    yield end
    ledger.close()


@pytest.mark.parametrize(
    ("module", "name"), [(archives, "read_archives"), (files, "check_checkpoints"), (index, "read_index")]
)
def test_a_trial_that_ends_while_it_is_read_lost_no_checkpoint(
    run: FsckRun, monkeypatch: pytest.MonkeyPatch, ending: Callable[[], None], module: Any, name: str
) -> None:
    once(monkeypatch, module, name, ending)

    assert run.bad() == []
    assert run.check().exit_code == EXIT_DONE


def test_a_checkpoint_that_is_missing_stays_missing_on_a_second_look(
    run: FsckRun, ending: Callable[[], None]
) -> None:
    [path] = run.layout.checkpoints.glob("*/*.h5")
    path.unlink()

    [finding] = run.bad()

    assert finding.lost == "the checkpoint of trial 0 at step 1"


def test_a_claim_made_while_it_is_read_is_no_damage_of_the_index(
    run: FsckRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = run.ledger(alive=True)

    def claim() -> None:
        ledger.claim(2)
        ledger.journal.sync()

    once(monkeypatch, check, "_read_journals", claim)

    assert run.bad() == []
    ledger.close()


def test_a_journal_that_is_folded_while_it_is_read_is_no_damage(
    run: FsckRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.finish(1)
    run.archive()
    run.finish(2)
    once(monkeypatch, archives, "read_archives", lambda: assert_folds(run))

    assert run.bad() == []


def assert_folds(run: FsckRun) -> None:
    assert fold(run.layout, this_process(), many=1) > 0
