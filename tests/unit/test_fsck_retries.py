"""What `fsck` says of failures that were taken back, with locks and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search.collect import collect
from hpc_search.errors import EXIT_DONE, DamagedError
from hpc_search.ledger import history, orders
from hpc_search.ledger.claims import Ledger
from tests.fsck_run import FsckRun
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


def test_a_list_that_is_damaged_for_good_is_set_aside_and_its_failures_count(run: FsckRun) -> None:
    run.layout.retry(1).write_bytes(b"nothing")

    assert any("count" in finding.lost for finding in run.bad())
    run.repair()
    assert run.bad() == []
    assert end_all(run) == []
    assert retry(run) == [1, 4]
    assert end_all(run) == [(1, 2), (4, 2)]
    assert run.bad() == []


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
