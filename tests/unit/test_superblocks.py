"""Claims and results as exclusively created names."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc_search import durable
from hpc_search.errors import DamagedError
from hpc_search.ledger import history, marks, mode, names, superblocks
from hpc_search.ledger.superblocks import SUPERBLOCK, Accepted, Superblocks
from hpc_search.records import journal as lines
from tests.ledger_run import LedgerRun, end_of

TRIALS = 2 * SUPERBLOCK + 10
ONE = Accepted(1, "00000000000000aa", "0123456789abcdef")
TWO = Accepted(2, "00000000000000bb", "fedcba9876543210")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[LedgerRun]:
    made = LedgerRun(tmp_path / "run", trials=TRIALS, claiming="exclusive")
    yield made
    made.close()


def end_all(run: LedgerRun) -> None:
    ledger = run.ledger()
    while claimed := ledger.claim(32):
        for one in claimed:
            ledger.finish(end_of(one))
    ledger.flush()
    ledger.recover()


def test_no_index_and_no_lock_is_used(run: LedgerRun) -> None:
    end_all(run)
    assert not run.layout.claims.exists()
    assert not run.layout.claims_lock.exists()
    assert run.finals() == TRIALS


@pytest.mark.parametrize("name", ["size", "d3"])
@pytest.mark.parametrize("kind", ["directory", "link", "file"])
def test_a_name_that_is_taken_by_something_else_is_named_and_waited_for_in_vain_only_so_long(
    run: LedgerRun, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "_PAUSES", (0.0, 0.0, 0.0))
    store = Superblocks(run.layout, TRIALS)
    assert store.open(0, 8) is not None
    path = run.layout.superblock(0) / name
    path.unlink(missing_ok=True)
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("nonsense")
    else:
        path.write_bytes(b"\xff")

    with pytest.raises(DamagedError, match=name):
        store.accept(3, ONE) if name != "size" else store.open(0, 8)


def test_a_block_has_one_owner_and_a_later_generation_another(run: LedgerRun) -> None:
    store = Superblocks(run.layout, TRIALS)
    superblock = store.open(0, 8)
    assert superblock is not None
    block = superblock.block(3)
    assert (block.first, block.end) == (24, 32)
    assert store.claim(block, 1, "a")
    assert not Superblocks(run.layout, TRIALS).claim(block, 1, "b")
    assert store.claim(block, 1, "a"), "a lost reply is recognised by the content"
    assert not store.taken_over(block, 1)
    assert store.claim(block, 2, "b")
    assert store.taken_over(block, 1)
    assert store.holder(block, 2) == "b"


def test_whoever_opens_a_superblock_fixes_its_claims(run: LedgerRun) -> None:
    first = Superblocks(run.layout, TRIALS).open(1, 4)
    second = Superblocks(run.layout, TRIALS).open(1, 16)
    assert first is not None
    assert second is not None
    assert first.size == second.size == 4


def test_the_first_result_of_a_trial_stays(run: LedgerRun) -> None:
    store = Superblocks(run.layout, TRIALS)
    assert store.accept(5, ONE) == ONE
    assert Superblocks(run.layout, TRIALS).accept(5, TWO) == ONE
    assert marks.accepted(run.layout) == {5: ONE}


def test_a_result_stays_when_its_superblock_is_sealed(run: LedgerRun) -> None:
    store = Superblocks(run.layout, TRIALS)
    late = Superblocks(run.layout, TRIALS)
    for trial in range(SUPERBLOCK):
        store.accept(trial, ONE)
    superblock = store.look(0)
    assert superblock is not None
    assert store.seal(superblock)
    assert os.listdir(run.layout.open) == [run.layout.superblock_seal(0, SUPERBLOCK).name]
    assert late.accept(7, TWO) == ONE
    assert late.open(0, 1) is None, "an old view does not open it again"
    assert marks.has_result(run.layout, 7)
    assert not marks.has_result(run.layout, SUPERBLOCK)


def test_a_seal_waits_for_every_result(run: LedgerRun) -> None:
    store = Superblocks(run.layout, TRIALS)
    store.accept(0, ONE)
    superblock = store.look(0)
    assert superblock is not None
    assert not superblock.complete
    superblock.done.update(range(SUPERBLOCK))
    assert not store.seal(superblock)


def test_neighbouring_seals_are_merged_and_say_the_same(
    run: LedgerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(superblocks, "_MERGE", 2)
    end_all(run)
    names = sorted(os.listdir(run.layout.open))
    assert names == [
        run.layout.superblock_seal(0, 2 * SUPERBLOCK).name,
        run.layout.superblock_seal(2 * SUPERBLOCK, TRIALS).name,
    ]
    assert sorted(marks.accepted(run.layout)) == list(range(TRIALS))
    assert marks.finals(run.layout) == TRIALS


def test_names_stay_few(run: LedgerRun) -> None:
    end_all(run)
    assert len(os.listdir(run.layout.open)) == 3


def test_without_symbolic_links_a_published_file_does_the_same(
    run: LedgerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "symlink", refused)
    assert names.create(run.layout.open / "x", "content")
    assert not names.create(run.layout.open / "x", "other")
    assert names.target(run.layout.open / "x") == "content"
    end_all(run)
    assert run.finals() == TRIALS


def test_of_two_ends_the_marked_one_is_the_result(run: LedgerRun) -> None:
    one, two = run.ledger(), run.ledger()
    (claimed,) = one.claim(1)
    two.finish(end_of(claimed, value=0.25))
    two.flush()
    one.finish(end_of(claimed, value=0.5))
    one.flush()
    assert history.results(run.layout)[0].end.value == 0.25
    notes = [record for record in run.records("note") if isinstance(record, lines.Note)]
    assert [(note.event, note.trial) for note in notes] == [("superseded", 0)]


def test_results_whose_names_were_lost_are_accepted_again_and_not_run_again(run: LedgerRun) -> None:
    """A power cut may take names that were never fsynced."""
    end_all(run)
    for path in run.layout.open.iterdir():
        path.unlink()
    late = run.ledger()
    assert late.reconcile() == TRIALS
    assert late.claim(1) == []
    assert run.finals() == TRIALS


def test_a_run_that_used_the_index_goes_on_without_it(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run", trials=6)
    dead, live = run.mortal(), run.ledger()
    dead.finish(end_of(dead.claim(2)[0], value=0.25))
    dead.flush()
    (kept,) = live.claim(1)
    assert mode.require_exclusive(run.layout, "the locks lie")
    assert not mode.require_exclusive(run.layout, "said twice")
    # The live one notices by its heartbeat and keeps what it runs.
    assert live.beat() == []
    assert live.claiming == "exclusive"
    other = run.ledger()
    other.reconcile()
    other.recover()
    taken = []
    while found := other.claim(10) or (other.recover() and other.claim(10)):
        taken += found
    assert sorted(one.trial.number for one in taken) == [1, 3, 4, 5]
    assert {one.trial.number: one.attempt for one in taken}[1] == 2
    for one in [kept, *taken]:
        (live if one is kept else other).finish(end_of(one))
    live.flush()
    other.flush()
    assert run.states() == ["done"] * 6
    assert history.results(run.layout)[0].end.value == 0.25
    run.close()


def test_a_directory_that_an_old_view_made_again_is_taken_away(run: LedgerRun) -> None:
    end_all(run)
    run.layout.superblock(0).mkdir()
    run.ledger().recover()
    assert not run.layout.superblock(0).exists()
    assert not [name for name in os.listdir(run.layout.open) if name.startswith(durable.TEMPORARY)]
