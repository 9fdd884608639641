"""What `fsck` says of failures that were taken back, with locks and without."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hpc_search.collect import collect
from hpc_search.errors import EXIT_DONE, DamagedError
from hpc_search.ledger import history, orders, this_process
from hpc_search.ledger.claims import Ledger
from hpc_search.ledger.fold import fold
from hpc_search.records import journal as lines
from tests.fsck_run import SEARCH, FsckRun
from tests.ledger_run import end_of, flip


@pytest.fixture(params=["lock", "exclusive"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FsckRun:
    """A run in which trials 1 and 4 failed, which was published and then taken back."""
    monkeypatch.setenv("HPC_SEARCH_CLAIMING", request.param)
    made = FsckRun(tmp_path)
    end_all(made, failing=(1, 4))
    collect(made.layout)
    retry(made)
    return made


def end_all(run: FsckRun, failing: tuple[int, ...] = ()) -> list[tuple[int, int]]:
    ledger = run.ledger()
    ledger.reconcile()
    found = []
    while claimed := ledger.claim(2) or (ledger.recover() and ledger.claim(2)) or []:
        for one in claimed:
            failed = one.trial.number in failing
            ledger.finish(end_of(one, "failed" if failed else "done", cause="error" if failed else ""))
            found.append((one.trial.number, one.attempt))
    ledger.exit("no work left")
    return sorted(found)


def retry(run: FsckRun) -> list[int]:
    ledger: Ledger = run.ledger()
    found = orders.retry(ledger, lambda *_: True, "alice")
    ledger.exit("done")
    return found


def test_trials_that_run_again_are_no_damage(run: FsckRun) -> None:
    assert run.bad() == []
    assert end_all(run, failing=(4,)) == [(1, 2), (4, 2)]
    assert run.bad() == []
    collect(run.layout)
    assert run.bad() == []
    assert retry(run) == [4]
    assert run.bad() == []
    assert run.repair().exit_code == EXIT_DONE
    assert end_all(run) == [(4, 3)]
    collect(run.layout)
    assert run.bad() == []


def test_a_list_with_one_wrong_byte_is_put_right(run: FsckRun) -> None:
    path = run.layout.retry(1)
    before = path.read_bytes()
    flip(path, 100)
    with pytest.raises(DamagedError, match="retries"):
        history.results(run.layout)

    assert [finding.path for finding in run.bad()] == ["ledger/retries/0001.json"]
    assert run.repair().exit_code == EXIT_DONE
    assert path.read_bytes() == before
    assert end_all(run) == [(1, 2), (4, 2)]


def lose(run: FsckRun, number: int, *, how: str) -> None:
    path = run.layout.retry(number)
    path.write_bytes(b"nothing") if how == "damaged" else path.unlink()


@pytest.mark.parametrize("how", ["damaged", "deleted"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_list_is_made_again_from_the_journal_of_its_command(run: FsckRun, number: int, how: str) -> None:
    assert end_all(run, failing=(1, 4)) == [(1, 2), (4, 2)]
    collect(run.layout)
    assert retry(run) == [1, 4]
    assert end_all(run, failing=(4,)) == [(1, 3), (4, 3)]
    collect(run.layout)
    before = run.layout.retry(number).read_bytes()
    assert fold(run.layout, this_process(), many=1)
    lose(run, number, how=how)

    assert run.repair().exit_code == EXIT_DONE
    assert run.layout.retry(number).read_bytes() == before
    assert run.bad() == []
    assert history.results(run.layout)[1].end.attempt == 3
    assert retry(run) == [4]


def test_without_list_and_journal_the_failures_count(run: FsckRun) -> None:
    lose(run, 1, how="damaged")
    for worker in history.live_workers(run.layout):
        if b"retry list" in run.layout.journal(worker, 1).read_bytes():
            shutil.rmtree(run.layout.worker(worker))

    assert any("count" in finding.lost for finding in run.bad())
    run.repair()
    assert run.bad() == []
    assert end_all(run) == []
    assert retry(run) == [1, 4]
    assert end_all(run) == [(1, 2), (4, 2)]
    assert run.bad() == []


def test_a_table_older_than_a_retry_is_no_damage(run: FsckRun) -> None:
    end_all(run)
    logs = (run.layout.audit, *run.layout.audit_fold(0).parent.iterdir())
    kept = {path: path.read_bytes() for path in (*logs, *run.layout.results.iterdir())}
    collect(run.layout)
    for path, content in kept.items():
        # As a slower collect leaves it, or one that was killed after its seal.
        path.write_bytes(content)

    assert run.bad() == []


def test_a_checkpoint_that_went_with_a_failure_is_no_damage(tmp_path: Path) -> None:
    made = FsckRun(tmp_path, SEARCH.replace("keep_checkpoints: true", ""))
    ledger = made.ledger()
    (claimed,) = ledger.claim(1)
    ledger.journal.append(lines.Checkpoint(trial=0, attempt=1, step=1, slot=0))
    ledger.finish(end_of(claimed, "failed", cause="error"))
    ledger.exit("no work left")
    assert retry(made) == [0]

    assert made.bad() == []


def test_names_and_seals_of_trials_that_ran_again_are_made_again(run: FsckRun) -> None:
    end_all(run)
    names = list(run.layout.open.glob("sealed.*")) if run.layout.open.is_dir() else []
    for path in names:
        path.unlink()
    if not names:
        run.layout.claims.unlink()

    assert run.bad()
    assert run.repair().exit_code == EXIT_DONE
    assert run.bad() == []
    assert end_all(run) == []
    collect(run.layout)
    assert history.results(run.layout)[4].end.attempt == 2
