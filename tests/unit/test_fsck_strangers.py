"""fsck: journals of another run that were copied into this one never count."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hpc_search.collect import collect
from hpc_search.errors import EXIT_DONE
from hpc_search.records import archive
from tests.fsck_run import SEARCH, FsckRun


@pytest.fixture
def run(tmp_path: Path) -> FsckRun:
    made = FsckRun(tmp_path / "mine")
    made.finish(2)
    return made


@pytest.fixture
def other(tmp_path: Path) -> FsckRun:
    return FsckRun(tmp_path / "theirs", SEARCH.replace("name: example", "name: other"))


@pytest.mark.parametrize("exits", [True, False])
def test_a_worker_of_another_run_is_set_aside_and_its_results_do_not_count(
    run: FsckRun, other: FsckRun, *, exits: bool
) -> None:
    values = run.values()
    worker = other.finish(4, exit=exits)
    shutil.copytree(other.layout.worker(worker), run.layout.worker(worker))

    [finding] = run.bad()
    assert run.repair().exit_code == EXIT_DONE

    assert finding.path == f"workers/{worker}"
    assert other.plan.run_id in finding.what
    assert run.bad() == []
    assert run.values() == values
    assert (run.layout.quarantine / "workers" / worker / "journal.1.jsonl").is_file()


def test_readers_do_not_believe_a_journal_of_another_run(run: FsckRun, other: FsckRun) -> None:
    values = run.values()
    worker = other.finish(4)
    shutil.copytree(other.layout.worker(worker), run.layout.worker(worker))

    assert run.values() == values
    assert collect(run.layout).finished == 2


def test_a_second_segment_of_another_run_is_set_aside_alone(tmp_path: Path, other: FsckRun) -> None:
    run = FsckRun(tmp_path / "mine")
    mine, theirs = run.finish(2), other.finish(4)
    values = run.values()
    shutil.copyfile(other.layout.journal(theirs, 1), run.layout.journal(mine, 2))

    assert run.repair().exit_code == EXIT_DONE

    assert (run.bad(), run.values()) == ([], values)


def test_a_journal_of_another_run_in_the_archive_is_taken_out(run: FsckRun, other: FsckRun) -> None:
    values = run.values()
    worker = other.finish(4)
    run.archive()
    path = run.layout.archive_file(1)
    data = other.layout.journal(worker, 1).read_bytes()
    whole = path.read_bytes()
    path.write_bytes(whole + archive.encode_section(worker, "journal.1.jsonl", data))

    assert [finding.path for finding in run.bad()] == ["ledger/archive/0001"]
    assert run.repair().exit_code == EXIT_DONE

    assert path.read_bytes() == whole
    assert (run.bad(), run.values()) == ([], values)


def test_an_archive_of_another_run_is_set_aside(run: FsckRun, other: FsckRun) -> None:
    values = run.values()
    other.finish(4)
    other.archive()
    os.rename(other.layout.archive_file(1), run.layout.archive_file(7))

    run.repair()

    assert run.bad() == []
    assert run.values() == values
