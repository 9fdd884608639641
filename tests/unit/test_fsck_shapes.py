"""fsck of a run that holds anything: no name is believed, no error of one file ends the check."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from hpc_search import durable, fsck
from hpc_search.errors import EXIT_DAMAGED, EXIT_DONE, UsageError
from hpc_search.ledger import history
from hpc_search.records import checked
from tests.fsck_run import FsckRun


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[FsckRun, Path]:
    """Make one finished run, kept aside."""
    made = FsckRun(tmp_path_factory.mktemp("fsck"))
    made.complete()
    aside = made.root / "aside"
    shutil.copytree(made.layout.root, aside)
    return made, aside


@pytest.fixture
def run(template: tuple[FsckRun, Path]) -> FsckRun:
    """Put the finished run back where it was made."""
    made, aside = template
    shutil.rmtree(made.layout.root)
    shutil.copytree(aside, made.layout.root)
    return made


def take(path: Path) -> None:
    """Make *path* free."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def fifo(path: Path) -> None:
    take(path)
    os.mkfifo(path)


def folder(path: Path) -> None:
    take(path)
    path.mkdir()
    (path / "something").write_text("in it")


def loop(path: Path) -> None:
    take(path)
    path.symlink_to(path)


def dangling(path: Path) -> None:
    take(path)
    path.symlink_to("/nowhere")


def outside(path: Path) -> None:
    """Move a file out of the run and leave a link to it."""
    target = path.parents[len(path.parts) - 2] / "tmp" / f"outside-{os.getpid()}"
    shutil.move(path, target)
    path.symlink_to(target)


FILES = (
    "plan.json", "search.yaml", "digests.json", "instance.json", "code.zip", "splits/splits.json",
    "profile.yaml", "doctor.json", "ledger/claims.bin", "ledger/claims.lock", "ledger/collect.lock",
    "ledger/submit.lock", "ledger/archive/0001", "ledger/seals/0001.jsonl", "ledger/submits/0001.intent.json",
    "ledger/submits/0001.jobs.json", "results/digests.json", "results/results.csv", "audit.log",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [fifo, folder, loop, dangling])
def test_what_stands_in_place_of_a_file_is_set_aside_unread(run: FsckRun, name: str, damage: Any) -> None:
    path = run.layout.root / name
    damage(path)

    found = [finding for finding in run.bad() if finding.path == name]
    run.repair()

    assert [finding.what[:8] for finding in found] == ["it is a "]
    assert "expected a file" in found[0].what
    assert os.path.lexists(run.layout.quarantine / name)
    assert not os.path.lexists(path) or path.is_file()
    left = {finding.path for finding in run.bad()}
    assert left <= {"instance.json", "ledger/submits/0001.jobs.json"}, run.check().text()
    if name.startswith(("results", "audit", "plan", "search", "digests", "ledger/seals", "ledger/claims")):
        assert path.is_file()


WORKERS = ("workers/W/journal.1.jsonl", "workers/W/reserve", "samples/W.1.bin")
WORKERS_FILES = ("journal.1.jsonl", "heartbeat", "log.txt", "reserve", "report.jsonl")


@pytest.mark.parametrize("name", WORKERS_FILES)
@pytest.mark.parametrize("damage", [fifo, folder])
def test_what_stands_in_place_of_a_workers_file_is_set_aside(run: FsckRun, name: str, damage: Any) -> None:
    [worker] = history.live_workers(run.layout)
    damage(run.layout.worker(worker) / name)

    assert run.check().exit_code == EXIT_DAMAGED
    for path in (run.layout.worker(worker), *run.layout.worker(worker).iterdir()):
        os.utime(path, (1, 1))
    run.repair()

    assert run.check().exit_code == EXIT_DONE
    assert os.path.lexists(run.layout.quarantine / f"workers/{worker}/{name}")


def test_a_file_that_is_a_link_out_of_the_run_is_found(run: FsckRun, tmp_path: Path) -> None:
    path = run.layout.result("results.csv")
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")

    [finding] = run.bad()
    run.repair()

    assert "symbolic link to" in finding.what
    assert not path.is_symlink()
    assert (tmp_path / "elsewhere").is_file()


def test_the_results_of_one_search_of_several_belong_there(run: FsckRun) -> None:
    results = run.layout.results
    shutil.copytree(results, results / "coarse-2_x", ignore=shutil.ignore_patterns("coarse-2_x"))

    assert not run.check().findings


FOLDERS = (
    "ledger", "workers", "ledger/archive", "ledger/seals", "ledger/submits", "samples", "checkpoints",
    "checkpoints/000003", "vault", "splits", "splits/fold_00", "results", "quarantine", "cache",
)  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("damage", [fifo, "file", loop, dangling])
def test_what_stands_in_place_of_a_directory_is_set_aside(run: FsckRun, name: str, damage: Any) -> None:
    path = run.layout.root / name
    if damage == "file":
        take(path)
        path.write_text("hello")
    else:
        damage(path)

    found = [finding for finding in run.bad() if finding.path == name]
    run.repair()

    assert len(found) == 1
    assert "expected a directory" in found[0].what
    assert not os.path.lexists(path) or path.is_dir()
    assert run.bad() == [], run.check().text()


def test_a_link_to_a_directory_elsewhere_is_told_and_left(run: FsckRun, tmp_path: Path) -> None:
    shutil.move(run.layout.checkpoints, tmp_path / "scratch")
    run.layout.checkpoints.symlink_to(tmp_path / "scratch")

    assert run.bad() == []
    assert any(finding.path == "checkpoints" for finding in run.check().findings)


def unreadable(monkeypatch: pytest.MonkeyPatch, path: Path, number: int) -> None:
    """Let opening *path* fail."""
    closed = os.fspath(path)
    real = os.open

    def instead(path: Any, *arguments: Any, **more: Any) -> int:
        if os.fspath(path) == closed:
            raise OSError(number, os.strerror(number), path)
        return real(path, *arguments, **more)

    monkeypatch.setattr(os, "open", instead)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize(
    "name", [*FILES, "workers/W/journal.1.jsonl", "samples/W.1.bin", "workers/W/reserve"]
)
def test_a_file_that_cannot_be_read_is_one_finding(
    run: FsckRun, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    [worker] = history.live_workers(run.layout)
    unreadable(monkeypatch, run.layout.root / name.replace("W", worker), number)

    findings = [finding for finding in run.check().findings if "cannot be read" in finding.what]

    if name not in ("ledger/claims.lock", "ledger/collect.lock", "ledger/submit.lock"):
        assert [finding.level for finding in findings] == ["damaged"]
        assert os.strerror(number) in findings[0].what
        assert not any("is lost" in finding.what for finding in run.check().findings)


def test_nothing_is_repaired_while_a_journal_cannot_be_read(
    run: FsckRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run.snapshot()
    [worker] = history.live_workers(run.layout)
    unreadable(monkeypatch, run.layout.journal(worker, 1), errno.EACCES)

    with pytest.raises(UsageError, match="nothing was changed"):
        for path in run.layout.workers.glob("*/*"):
            os.utime(path, (1, 1))
        run.repair()

    monkeypatch.undo()
    assert run.snapshot() == before


def test_what_cannot_be_put_right_does_not_end_the_repair(
    run: FsckRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.layout.profile.write_bytes(b"changed")
    run.layout.doctor.write_bytes(b"changed")
    real = durable.replace_file

    def instead(source: Path, target: Path) -> None:
        if source.name == "doctor.json":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(source))
        real(source, target)

    monkeypatch.setattr(durable, "replace_file", instead)
    report = run.repair()

    [finding] = [finding for finding in report.findings if finding.path == "doctor.json"]
    assert finding.level == "damaged"
    assert "Permission denied" in finding.next
    assert not run.layout.profile.exists()


def test_what_was_moved_to_the_quarantine_does_not_bar_what_comes_after(run: FsckRun) -> None:
    [worker] = history.live_workers(run.layout)
    (run.layout.quarantine / "workers").parent.mkdir(exist_ok=True)
    (run.layout.quarantine / "workers").write_text("a file")
    fifo(run.layout.log(worker))

    run.repair()

    assert run.check().exit_code == EXIT_DONE
    assert any("log.txt" in path.name for path in run.layout.quarantine.iterdir())


# -- numbers
@pytest.mark.parametrize("copied", [False, True])
def test_a_stray_seal_does_not_make_others_missing(run: FsckRun, copied: bool) -> None:
    stray = run.layout.seal(2024)
    stray.write_bytes(run.layout.seal(1).read_bytes() if copied else b'{"x":1}\n')

    assert [finding.path for finding in run.bad()] == ["ledger/seals/2024.jsonl"]
    assert run.repair().exit_code == EXIT_DONE

    assert sorted(path.name for path in run.layout.seals.iterdir()) == ["0001.jsonl"]


def test_seals_that_are_missing_are_one_finding(run: FsckRun) -> None:
    os.rename(run.layout.seal(1), run.layout.seal(40))

    [finding] = run.bad()
    assert run.repair().exit_code == EXIT_DONE

    assert finding.path == "ledger/seals/0001.jsonl"
    assert "0039.jsonl" in finding.what
    assert run.bad() == []


@pytest.mark.parametrize("name", ["20240101.jobs.json", "2024.intent.json"])
@pytest.mark.parametrize("copied", [False, True])
def test_a_stray_record_of_a_submission_does_not_make_others_missing(
    run: FsckRun, name: str, copied: bool
) -> None:
    content = run.layout.submit_record(1).read_bytes() if copied else b"x"
    (run.layout.submits / name).write_bytes(content)

    assert [finding.path for finding in run.bad()] == [f"ledger/submits/{name}"]
    run.repair()

    assert run.check().exit_code == EXIT_DONE
    assert len(list(run.layout.submits.iterdir())) == 2


def test_submissions_that_are_missing_are_one_finding(run: FsckRun) -> None:
    data = run.layout.submit_record(1).read_bytes()
    record = checked.decode(data, Numbered, "")
    (run.layout.submits / "20240101.jobs.json").write_bytes(checked.encode(record))

    bad = [finding for finding in run.bad() if "missing" in finding.what]

    assert len(bad) <= 2


class Numbered(fsck.Finding, frozen=True, kw_only=True):
    """A record of a submission with another number."""

    path: str = ""
    what: str = ""
    number: int = 20240101
    token: str = "t"
    launcher: str = "local"
    format: str = "hpc_search.submission"
    version: int = 1
