"""fsck: every damage is found and named; what can be put right is; nothing else is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hpc_search import fsck
from hpc_search.collect import collect
from hpc_search.errors import EXIT_DAMAGED, EXIT_DONE, DamagedError, UsageError
from hpc_search.fsck import Finding
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.planning import load_instance
from hpc_search.planning.digests import damaged_splits
from hpc_search.records import index
from hpc_search.records import journal as lines
from hpc_search.records import seal as seal_codec
from hpc_search.search import Wish, open_run, preview, status, writable
from tests.fsck_run import FsckRun, flip


@pytest.fixture
def run(tmp_path: Path) -> FsckRun:
    return FsckRun(tmp_path)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[FsckRun, str, Path]:
    """Make one finished run, kept aside."""
    made = FsckRun(tmp_path_factory.mktemp("fsck"))
    worker = made.complete()
    aside = made.root / "aside"
    shutil.copytree(made.layout.root, aside)
    return made, worker, aside


@pytest.fixture
def finished(template: tuple[FsckRun, str, Path]) -> FsckRun:
    """Put the finished run back where it was made."""
    made, _, aside = template
    shutil.rmtree(made.layout.root)
    shutil.copytree(aside, made.layout.root)
    return made


@pytest.fixture
def worker(template: tuple[FsckRun, str, Path]) -> str:
    """Return the worker whose directory is there."""
    return template[1]


def end_line(run: FsckRun, worker: str, trial: int) -> tuple[int, bytes]:
    """Return offset and bytes of the end record of *trial*."""
    data = run.layout.journal(worker, 1).read_bytes()
    for offset, line in history.verified(data, frozenset({b"end"})):
        record = lines.parse_line(line)
        if isinstance(record, lines.End) and record.trial == trial:
            return offset, line
    raise AssertionError(trial)


def lose_end(run: FsckRun, worker: str, trial: int) -> None:
    """Change two bytes of the end record of *trial*: more than can be put right."""
    offset, line = end_line(run, worker, trial)
    flip(run.layout.journal(worker, 1), offset + 20)
    flip(run.layout.journal(worker, 1), offset + len(line) // 2)


def named(findings: list[Finding], path: str) -> list[Finding]:
    return [finding for finding in findings if finding.path == path]


# -- reading
def test_a_whole_run_is_clean_and_is_not_touched(finished: FsckRun) -> None:
    before = finished.snapshot()

    report = finished.check()

    assert (finished.bad(), report.exit_code) == ([], EXIT_DONE)
    assert finished.snapshot() == before
    assert "all of it verifies" in report.text()


def test_a_run_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run"):
        fsck.check_run(Layout(tmp_path))


def test_a_worker_that_was_killed_in_a_line_leaves_no_damage(run: FsckRun) -> None:
    worker = run.finish(2, exit=False)
    with run.layout.journal(worker, 1).open("ab") as file:
        file.write(b'{"k":"report","n":99,"t":1.5,"tri')

    assert run.bad() == []


def test_files_that_no_run_has_are_told_and_left_alone(finished: FsckRun) -> None:
    stranger = finished.layout.root / "notes.txt"
    stranger.write_text("mine")

    [finding] = named(list(finished.check().findings), "notes.txt")
    finished.repair()

    assert finding.level == "note"
    assert stranger.read_text() == "mine"


# -- what plan made
PLANNED = (
    "search.yaml", "plan.json", "digests.json", "code.zip", "splits/splits.json",
    "splits/fold_00/train.csv", "splits/fold_01/val.csv", "splits/fold_01/test.csv",
)  # fmt: skip


@pytest.mark.parametrize("name", PLANNED)
@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_what_plan_made_is_found_damaged_and_made_again(finished: FsckRun, name: str, damage: str) -> None:
    path = finished.layout.root / name
    before = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(before[: len(before) // 2])

    [finding] = finished.bad()
    report = finished.repair()

    assert finding.path == name
    assert path.read_bytes() == before
    assert (report.exit_code, finished.bad()) == (EXIT_DONE, [])


def test_sources_that_changed_since_the_plan_are_not_put_in_place_of_damaged_ones(finished: FsckRun) -> None:
    code = finished.root / "train.py"
    before = code.read_text()
    code.write_text("def train(trial):\n    return {'acc': 1.0}\n")
    try:
        finished.layout.code.unlink()

        report = finished.repair()
    finally:
        code.write_text(before)

    [finding] = named(list(report.findings), "code.zip")
    assert (finding.level, finished.layout.code.exists()) == ("damaged", False)
    assert "plan anew" in finding.next


# -- journals
def test_one_wrong_byte_of_an_end_record_is_put_right(finished: FsckRun, worker: str) -> None:
    path = finished.layout.journal(worker, 1)
    before, values = path.read_bytes(), finished.values()
    flip(path, end_line(finished, worker, 3)[0] + 40)

    assert 3 not in finished.values()
    [finding] = finished.bad()
    report = finished.repair()

    assert (finding.trials, finding.lost) == ((3,), "")
    assert (path.read_bytes(), finished.values()) == (before, values)
    assert (report.exit_code, finished.bad()) == (EXIT_DONE, [])
    aside = finished.layout.quarantine / path.relative_to(finished.layout.root)
    assert aside.read_bytes() != before
    assert aside.with_name(f"{aside.name}.reason").read_text()


def test_a_trial_whose_end_record_is_lost_runs_again(run: FsckRun) -> None:
    worker = run.finish(3)
    lose_end(run, worker, 1)
    assert index.STATES[run.entries()[1].state] == "done"

    report = run.repair()

    assert report.exit_code == EXIT_DAMAGED
    assert any(finding.level == "lost" and finding.trials == (1,) for finding in report.findings)
    assert [index.STATES[entry.state] for entry in run.entries()[:3]] == ["done", "running", "done"]
    assert run.bad() == []
    ledger = run.ledger()
    assert ledger.recover() == 1
    assert [claimed.trial.number for claimed in ledger.claim(1)] == [1]
    ledger.close()


def test_a_published_result_whose_end_record_is_lost_is_told_and_not_replaced(
    finished: FsckRun, worker: str
) -> None:
    table = finished.layout.result("results.csv").read_bytes()
    lose_end(finished, worker, 3)

    report = finished.repair()

    lost = [finding for finding in report.findings if finding.level == "lost" and finding.trials == (3,)]
    assert any("published" in finding.next for finding in lost)
    assert report.exit_code == EXIT_DAMAGED
    assert index.STATES[finished.entries()[3].state] == "done"
    kept = finished.layout.quarantine / "results" / "results.csv"
    assert kept.read_bytes() == table
    assert finished.check().exit_code == EXIT_DONE
    assert any("known since" in finding.next for finding in finished.check().findings)
    assert any("no longer in the journals" in note for note in collect(finished.layout).notes)


def test_a_published_result_stays_final_where_the_index_is_damaged_elsewhere(
    finished: FsckRun, worker: str
) -> None:
    lose_end(finished, worker, 3)
    flip(finished.layout.claims, index.entry_offset(5) + 30)

    finished.repair()

    assert index.STATES[finished.entries()[3].state] == "done"
    assert finished.bad() == []


def test_lines_that_were_taken_away_are_found_by_the_chain(run: FsckRun) -> None:
    worker = run.finish(2)
    path = run.layout.journal(worker, 1)
    rows = path.read_bytes().splitlines(keepends=True)
    gone = next(number for number, row in enumerate(rows) if lines.kind(row) == b"start")
    path.write_bytes(b"".join(rows[:gone] + rows[gone + 1 :]))

    whats = [finding.what for finding in run.bad()]

    assert any("chain" in what for what in whats)
    assert any("missing" in what for what in whats)


def test_a_journal_that_is_shorter_than_when_it_was_collected_is_found(
    finished: FsckRun, worker: str
) -> None:
    path = finished.layout.journal(worker, 1)
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rows[:-1]))

    [finding] = finished.bad()

    assert "a seal saw" in finding.what
    finished.repair()
    assert finished.bad() == []


def test_a_worker_whose_directory_was_deleted_is_named(run: FsckRun) -> None:
    worker = run.finish(2)
    shutil.rmtree(run.layout.worker(worker))

    findings = run.bad()

    assert {trial for finding in findings for trial in finding.trials} >= {0, 1}
    assert all(worker in finding.text() for finding in findings if finding.trials)
    run.repair()
    assert [index.STATES[entry.state] for entry in run.entries()[:2]] == ["pending", "pending"]


def test_a_live_worker_forbids_a_repair_and_its_last_line_may_be_unfinished(run: FsckRun) -> None:
    ledger = run.ledger(alive=True)
    ledger.claim(1)
    ledger.beat()
    with run.layout.journal(ledger.id, 1).open("ab") as file:
        file.write(b'{"k":"rep')
    before = run.snapshot()

    assert run.bad() == []
    with pytest.raises(UsageError, match=f"worker {ledger.id} on .* may be at work"):
        run.repair()

    assert run.snapshot() == before
    ledger.close()


def test_a_worker_elsewhere_is_dead_when_its_files_are_older_than_its_lease(run: FsckRun) -> None:
    ledger = run.ledger()
    opening = run.layout.journal(ledger.id, 1)
    rows = opening.read_bytes().splitlines(keepends=True)
    record = lines.parse_line(rows[0].rstrip(b"\n"))
    assert isinstance(record, lines.Open)
    fields = {name: getattr(record, name) for name in record.__struct_fields__} | {"host": "elsewhere"}
    opening.write_bytes(lines.encode_line(lines.Open(**fields)))
    ledger.close()
    with pytest.raises(UsageError, match="elsewhere"):
        run.repair()

    for path in run.layout.worker(ledger.id).iterdir():
        os.utime(path, (1, 1))

    assert run.repair().exit_code == EXIT_DONE


# -- the index
@pytest.mark.parametrize("place", [3, 20, 64 + 64 * 2 + 30])
def test_a_damaged_index_is_made_again(finished: FsckRun, place: int) -> None:
    before = finished.entries()
    flip(finished.layout.claims, place)

    assert [finding.path for finding in finished.bad()] == ["ledger/claims.bin"]
    assert finished.repair().exit_code == EXIT_DONE

    assert finished.entries() == before


@pytest.mark.parametrize("size", [None, 10, 64, 200])
def test_an_index_that_is_missing_or_short_is_made_again(finished: FsckRun, size: int | None) -> None:
    before = finished.entries()
    if size is None:
        finished.layout.claims.unlink()
    else:
        os.truncate(finished.layout.claims, size)

    assert finished.repair().exit_code == EXIT_DONE

    assert finished.entries() == before


def test_an_index_that_verifies_and_says_something_else_than_the_journals_is_made_again(
    finished: FsckRun,
) -> None:
    before = finished.entries()
    data = bytearray(finished.layout.claims.read_bytes())
    wrong = index.encode_entry(before[2]._replace(value=0.99))
    at = index.entry_offset(2)
    data[at : at + len(wrong)] = wrong
    finished.layout.claims.write_bytes(data)

    [finding] = finished.bad()
    finished.repair()

    assert "another result" in finding.what
    assert finished.entries() == before


# -- archives, seals, submissions
def test_a_damaged_head_of_an_archive_does_not_lose_its_journal(finished: FsckRun) -> None:
    values = finished.values()
    path = finished.layout.archive_file(1)
    flip(path, 5)
    flip(path, 30)
    assert finished.values() != values

    report = finished.repair()

    assert finished.values() == values
    assert report.exit_code == EXIT_DONE
    assert finished.bad() == []


def test_one_wrong_byte_anywhere_in_an_archive_is_found(finished: FsckRun) -> None:
    path = finished.layout.archive_file(1)
    before = path.read_bytes()

    for place in range(0, len(before), 101):
        flip(path, place, 4)
        assert finished.bad(), place
        path.write_bytes(before)


def test_an_archive_that_was_cut_names_the_trials_that_it_held(finished: FsckRun) -> None:
    path = finished.layout.archive_file(1)
    os.truncate(path, 300)

    report = finished.repair()

    assert {trial for finding in report.findings for trial in finding.trials} >= {0, 1}
    assert finished.check().exit_code == EXIT_DONE


def test_a_seal_that_was_cut_keeps_its_whole_lines_and_the_rest_is_sealed_again(finished: FsckRun) -> None:
    path = finished.layout.seal(1)
    entries = seal_codec.parse_seal(path.read_bytes())
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rows[:3]) + rows[3][:20])

    assert [finding.path for finding in finished.bad()] == ["ledger/seals/0001.jsonl"]
    assert finished.repair().exit_code == EXIT_DONE
    collect(finished.layout)

    assert history.seals(finished.layout) == {entry.trial: entry.end for entry in entries}


@pytest.mark.parametrize("name", ["ledger/seals/0001.jsonl", "ledger/submits/0001.intent.json"])
def test_a_removed_record_of_the_ledger_is_found_and_put_back(finished: FsckRun, name: str) -> None:
    (finished.layout.root / name).unlink()

    assert [finding.path for finding in finished.bad()] == [name]
    assert finished.repair().exit_code == EXIT_DONE

    assert (finished.layout.root / name).exists()
    assert finished.bad() == []


@pytest.mark.parametrize(
    "name", ["ledger/submits/0001.jobs.json", "instance.json", "profile.yaml", "doctor.json"]
)
def test_one_wrong_byte_of_a_small_record_is_put_right(finished: FsckRun, name: str) -> None:
    path = finished.layout.root / name
    before = path.read_bytes()
    flip(path, len(before) // 2)

    assert [finding.path for finding in finished.bad()] == [name]
    assert finished.repair().exit_code == EXIT_DONE

    assert path.read_bytes() == before


# -- samples, logs, checkpoints
def test_samples_that_do_not_verify_are_named_with_their_trial(finished: FsckRun, worker: str) -> None:
    path = finished.layout.samples(worker, 1)
    size = path.stat().st_size
    os.truncate(path, size - 3)

    [finding] = finished.bad()
    report = finished.repair()

    assert (finding.trials, finding.lost) == ((5,), "per-sample scores of trial 5")
    assert report.exit_code == EXIT_DAMAGED
    assert finished.check().exit_code == EXIT_DONE


def test_a_log_that_is_shorter_than_its_journal_says_is_found(finished: FsckRun, worker: str) -> None:
    os.truncate(finished.layout.log(worker), 5)

    [finding] = finished.bad()

    assert "bytes of output" in finding.lost


def test_a_damaged_checkpoint_is_set_aside_with_the_reason(finished: FsckRun, worker: str) -> None:
    path = finished.layout.checkpoint_slot(4, 1, worker, 0)
    flip(path, 5000)
    damaged = path.read_bytes()

    report = finished.repair()

    aside = finished.layout.quarantine / path.relative_to(finished.layout.root)
    assert aside.read_bytes() == damaged
    assert aside.with_name(f"{aside.name}.reason").read_text().strip()
    assert not path.exists()
    assert report.exit_code == EXIT_DAMAGED
    assert finished.check().exit_code == EXIT_DONE


def test_a_checkpoint_that_was_removed_is_named(finished: FsckRun, worker: str) -> None:
    finished.layout.checkpoint_slot(4, 1, worker, 0).unlink()

    [finding] = finished.bad()

    assert finding.lost == "the checkpoint of trial 4 at step 1"


def test_a_checkpoint_of_another_trial_is_not_taken_for_its_own(finished: FsckRun, worker: str) -> None:
    own = finished.layout.checkpoint_slot(4, 1, worker, 0)
    shutil.copyfile(finished.layout.checkpoint_slot(5, 1, worker, 0), own)

    [finding] = finished.bad()

    assert "trial 5" in finding.what


# -- leftovers, results, folders
def test_old_leftovers_are_removed_and_young_ones_are_left(finished: FsckRun) -> None:
    old, young = finished.layout.ledger / ".t-0123", finished.layout.ledger / ".t-4567"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))

    assert [finding.path for finding in finished.bad()] == ["ledger/.t-0123"]
    finished.repair()

    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("name", ["results/results.csv", "results/digests.json", "audit.log"])
def test_damaged_results_are_collected_again(finished: FsckRun, name: str) -> None:
    path = finished.layout.root / name
    before = path.read_bytes()
    flip(path, len(before) // 2)

    assert [finding.path for finding in finished.bad()] == [name]
    assert finished.repair().exit_code == EXIT_DONE

    assert path.read_bytes() == before


def test_directories_that_were_removed_are_made_again(run: FsckRun) -> None:
    for folder in (run.layout.checkpoints, run.layout.seals):
        folder.rmdir()

    assert len(run.bad()) == 2
    assert run.repair().exit_code == EXIT_DONE

    assert run.layout.checkpoints.is_dir()


# -- adopting
def test_a_copied_run_only_reads_until_it_is_adopted(finished: FsckRun, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.layout.root, copy)
    with pytest.raises(UsageError, match=r"fsck .*copy --adopt"):
        writable(open_run(str(copy)))

    words = fsck.adopt(Layout(copy))

    assert writable(open_run(str(copy))).path == copy
    assert "still there" in words
    assert fsck.check_run(Layout(copy)).exit_code == EXIT_DONE
    assert status(open_run(str(copy))).done == 6


def test_the_jobs_of_an_adopted_copy_have_names_of_their_own(finished: FsckRun, tmp_path: Path) -> None:
    copy, moved = tmp_path / "copy", tmp_path / "moved"
    shutil.copytree(finished.layout.root, copy)
    fsck.adopt(Layout(copy))
    mark = load_instance(Layout(copy)).mark

    assert mark not in ("", finished.plan.run_id[-8:])
    copy.rename(moved)
    fsck.adopt(Layout(moved))
    assert load_instance(Layout(moved)).mark == mark
    assert load_instance(finished.layout).mark == ""


def test_a_copy_of_a_run_that_is_at_work_is_not_adopted(run: FsckRun, tmp_path: Path) -> None:
    ledger = run.ledger(alive=True)
    ledger.beat()
    copy = tmp_path / "copy"
    shutil.copytree(run.layout.root, copy)

    with pytest.raises(UsageError, match="is at work"):
        fsck.adopt(Layout(copy))
    ledger.close()


def test_a_run_where_it_was_made_has_nothing_to_adopt(finished: FsckRun) -> None:
    before = finished.layout.instance.read_bytes()

    assert "nothing to adopt" in fsck.adopt(finished.layout)
    assert finished.layout.instance.read_bytes() == before


# -- claiming by names
@pytest.fixture
def exclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FsckRun:
    monkeypatch.setenv("HPC_SEARCH_CLAIMING", "exclusive")
    return FsckRun(tmp_path)


def test_a_run_that_claims_by_names_is_clean(exclusive: FsckRun) -> None:
    exclusive.finish(6)

    assert list(exclusive.layout.open.glob("sealed.*"))
    assert exclusive.bad() == []


@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_a_damaged_seal_of_a_superblock_is_completed_from_the_journals(
    exclusive: FsckRun, damage: str
) -> None:
    exclusive.finish(6)
    [seal] = exclusive.layout.open.glob("sealed.*")
    before = seal_codec.parse_seal(seal.read_bytes())
    if damage == "cut":
        os.truncate(seal, 250)
    else:
        seal.unlink()

    assert [finding.path for finding in exclusive.bad()] == [f"ledger/open/{seal.name}"]
    assert exclusive.repair().exit_code == EXIT_DONE

    assert seal_codec.parse_seal(seal.read_bytes()) == before


@pytest.mark.parametrize("trials", [4, 6])
def test_a_lost_result_that_was_claimed_by_name_can_be_claimed_again(exclusive: FsckRun, trials: int) -> None:
    worker = exclusive.finish(trials)
    lose_end(exclusive, worker, 1)

    exclusive.repair()

    assert exclusive.bad() == []
    ledger = exclusive.ledger()
    claimed = []
    for _ in range(20):
        ledger.recover()
        claimed += [one.trial.number for one in ledger.claim(8)]
        if 1 in claimed:
            break
    ledger.close()
    assert 1 in claimed
    assert not {0, 2, 3} & set(claimed)


# -- what else refuses a damaged file
def test_submit_does_not_use_a_profile_that_changed(finished: FsckRun) -> None:
    flip(finished.layout.profile, 10)

    with pytest.raises(DamagedError, match="is not what the last `submit` wrote"):
        preview(open_run(str(finished.layout.root)), Wish(launcher="local"))


def test_workers_do_not_start_on_damaged_folds(finished: FsckRun) -> None:
    assert damaged_splits(finished.layout) == ""

    finished.layout.split_manifest(1, "val").unlink()

    assert "val.csv is missing" in damaged_splits(finished.layout)
