"""fsck of what was decided of blocks and searches, and of the names of paused trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search.errors import EXIT_DONE
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.state import read_state
from hpc_search.records import checked, index
from hpc_search.records.stages import Opened, StoppedPart
from tests.fsck_run import FsckRun
from tests.ledger_run import end_of, flip


@pytest.fixture
def run(tmp_path: Path) -> FsckRun:
    made = FsckRun(tmp_path)
    made.finish(3)
    return made


def opened(run: FsckRun, block: int = 0) -> bytes:
    return checked.encode(Opened(block=block, space=run.plan.blocks[0].space))


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def test_what_verifies_is_left_and_a_search_that_stopped_is_told(run: FsckRun) -> None:
    stage = put(run.layout.stage(0), opened(run))
    put(run.layout.stopped_part(0), checked.encode(StoppedPart(part=0, why="every trial of it fails")))
    report = run.repair()
    assert report.exit_code == EXIT_DONE
    assert stage.read_bytes() == opened(run)
    assert [one.what for one in report.findings if "stopped" in one.path] == [
        "search '' stopped: every trial of it fails"
    ]


def test_one_wrong_byte_is_given_back_by_the_checksum(run: FsckRun) -> None:
    path = put(run.layout.stage(0), opened(run))
    flip(path, 40)
    run.repair()
    assert path.read_bytes() == opened(run)


@pytest.mark.parametrize("name", ["stages/000.json", "stopped/00.json"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b'{"block":0}\n', "another"])
def test_a_record_that_does_not_verify_is_set_aside(run: FsckRun, name: str, content: bytes | str) -> None:
    data = content if isinstance(content, bytes) else opened(run, 7)
    path = put(run.layout.ledger / name, data)
    report = run.check()
    assert [one.path for one in report.findings if one.level == "damaged"] == [f"ledger/{name}"]
    assert path.exists()
    run.repair()
    assert not path.exists()
    assert (run.layout.quarantine / "ledger" / name).exists()
    assert run.check().exit_code == EXIT_DONE
    assert Gates(run.layout, run.plan).publish(Opened(block=0, space=run.plan.blocks[0].space))


@pytest.mark.parametrize("content", ["xyz", "", "00" * 64])
def test_the_name_of_a_paused_trial_that_holds_none_is_set_aside_and_the_trial_stays_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv("HPC_SEARCH_CLAIMING", "exclusive")
    run = FsckRun(tmp_path)
    dead = run.ledger()
    (claimed,) = dead.claim(1)
    dead.finish(end_of(claimed, "paused", rung=2, step=2))
    dead.flush()
    path = run.layout.superblock(0) / "p0.1"
    assert run.check().exit_code == EXIT_DONE
    path.unlink()
    path.symlink_to(content or "-")
    run.repair()
    assert not path.is_symlink()
    ledger = run.ledger(alive=True)
    ledger.reconcile()
    ledger.recover()
    found = [one.trial.number for _ in range(9) for one in ledger.claim(9)]
    assert found == [1, 2, 3, 4, 5]
    entry = read_state(run.layout, run.plan.trials)[1][0]
    assert (entry.state, entry.rung) == (index.PAUSED, 2)
    assert [one.before.rung for one in ledger.promote(0)] == [2]
