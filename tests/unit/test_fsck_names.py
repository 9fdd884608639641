"""fsck of ledger/open: a name that holds something else costs no trial."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hpc_search.errors import EXIT_DONE
from hpc_search.fsck.mend import mend
from hpc_search.planning import digest
from tests.fsck_run import FsckRun


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FsckRun:
    monkeypatch.setenv("HPC_SEARCH_CLAIMING", "exclusive")
    made = FsckRun(tmp_path)
    made.finish(3)
    return made


def put(path: Path, content: str | None) -> None:
    """Make *path* a name with *content*, a directory for None."""
    path.unlink(missing_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.symlink_to(content)


def finish_all(run: FsckRun) -> None:
    """Let a new worker end every trial that is left."""
    ledger = run.ledger()
    for _ in range(9):
        ledger.recover()
        for claimed in ledger.claim(8):
            ledger.start(claimed, 7, 0)
            run.ended(ledger, claimed, 0)
        ledger.flush()
    ledger.exit("no work left")


WRONG = [
    ("d5", "xyz"), ("d0", "xyz"), ("d0", None), ("d1", "1.deadbeefdeadbeef.xyz"), ("d99", "xyz"),
    ("c1.2", "xyz"), ("c5.1", "xyz"), ("c5.1", None), ("c77.1", "0123456789abcdef"), ("size", "99999"),
    ("size", "0"), ("size", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content"), WRONG)
def test_a_name_with_wrong_content_is_set_aside_and_every_trial_ends(
    run: FsckRun, name: str, content: str | None
) -> None:
    values = run.values()
    path = run.layout.superblock(0) / name
    put(path, content)

    assert f"ledger/open/000000/{name}" in {finding.path for finding in run.bad()}
    assert run.repair().exit_code == EXIT_DONE
    assert run.bad() == []
    aside = run.layout.quarantine / "ledger/open/000000" / name
    assert os.path.lexists(aside)
    assert aside.with_name(f"{name}.reason").read_text()

    finish_all(run)
    assert run.values().keys() == set(range(6))
    assert {trial: run.values()[trial] for trial in values} == values
    assert run.bad() == []


def test_claims_of_blocks_whose_size_is_missing_are_made_again(run: FsckRun) -> None:
    (run.layout.superblock(0) / "size").unlink()

    assert any("size" in finding.what for finding in run.bad())
    assert run.repair().exit_code == EXIT_DONE

    finish_all(run)
    assert len(run.values()) == 6
    assert run.bad() == []


def test_a_small_file_is_a_name_where_links_are_not_supported(run: FsckRun) -> None:
    for path in sorted(run.layout.superblock(0).iterdir()):
        content = os.readlink(path)
        path.unlink()
        path.write_text(content)

    assert run.bad() == []


def test_a_result_mark_that_is_wrong_is_made_again_from_the_journals(run: FsckRun) -> None:
    mark = run.layout.superblock(0) / "d1"
    before = os.readlink(mark)
    put(mark, "garbage")

    run.repair()

    assert os.readlink(mark) == before


def test_a_result_mark_of_an_unknown_end_record_lets_the_trial_run_again(run: FsckRun) -> None:
    put(run.layout.superblock(0) / "d4", "1.deadbeefdeadbeef.0000000000000000")

    run.repair()

    finish_all(run)
    assert len(run.values()) == 6
    assert run.bad() == []


def test_a_result_mark_of_an_unknown_end_record_gives_way_to_the_known_one(run: FsckRun) -> None:
    mark = run.layout.superblock(0) / "d1"
    before = os.readlink(mark)
    put(mark, "1.deadbeefdeadbeef.0000000000000000")

    run.repair()

    assert os.readlink(mark) == before
    assert run.bad() == []


@pytest.mark.parametrize("name", ["sealed.00000000-99999999", "sealed.00000128-00000000", "777777"])
def test_a_name_beyond_the_plan_covers_nothing(run: FsckRun, name: str) -> None:
    path = run.layout.open / name
    path.mkdir() if name.isdecimal() else path.write_text("x\n")

    assert [finding.path for finding in run.bad()] == [f"ledger/open/{name}"]
    assert run.repair().exit_code == EXIT_DONE

    assert not path.exists()
    finish_all(run)
    assert len(run.values()) == 6


def test_a_seal_with_nothing_in_it_costs_no_trial(run: FsckRun) -> None:
    finish_all(run)
    [seal] = run.layout.open.glob("sealed.*")
    seal.write_bytes(b"nonsense\n")

    run.repair()

    assert run.bad() == []
    assert len(run.values()) == 6


def test_a_seal_that_covers_trials_without_a_result_lets_them_run(run: FsckRun) -> None:
    run.layout.superblock_seal(0, 6).write_bytes(b"nonsense\n")

    run.repair()
    finish_all(run)

    assert len(run.values()) == 6
    assert run.bad() == []


def test_the_plan_says_that_names_are_used_where_ledger_open_is_gone(run: FsckRun) -> None:
    for path in sorted(run.layout.superblock(0).iterdir()):
        path.unlink()
    run.layout.superblock(0).rmdir()
    run.layout.open.rmdir()
    run.layout.mode_exclusive.unlink(missing_ok=True)

    run.repair()

    assert not run.layout.claims.exists()
    finish_all(run)
    assert len(run.values()) == 6


@pytest.mark.parametrize("size", [900, 3000, 8000, 32000])
def test_looking_for_one_wrong_byte_takes_no_longer_than_a_moment(size: int) -> None:
    start = time.process_time()

    assert mend(bytes(size), lambda new: digest(new) == "") is None

    assert time.process_time() - start < 4
