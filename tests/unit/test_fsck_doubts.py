"""fsck: an end record that was changed and given a fitting checksum never counts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import xxhash

from hpc_search.collect import collect
from hpc_search.errors import EXIT_DAMAGED, EXIT_DONE
from hpc_search.ledger import history
from hpc_search.records import archive, index
from hpc_search.records import journal as lines
from tests.fsck_run import FsckRun


@pytest.fixture(params=["lock", "exclusive"])
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> FsckRun:
    if request.param == "exclusive":
        monkeypatch.setenv("HPC_SEARCH_CLAIMING", "exclusive")
    return FsckRun(tmp_path)


def forged(data: bytes, trial: int, value: bytes = b"99.5") -> bytes:
    """Return the journal *data* with another value for *trial*, and the checksum made to fit."""
    for offset, line in history.verified(data, frozenset({b"end"})):
        record = lines.parse_line(line)
        if isinstance(record, lines.End) and record.trial == trial:
            body = re.sub(rb'"value":[0-9.]+', b'"value":' + value, line[:-24])
            new = body + b',"c":"' + xxhash.xxh3_64_hexdigest(body).encode() + b'"}'
            return data[:offset] + new + data[offset + len(line) :]
    raise AssertionError(trial)


def forge(run: FsckRun, worker: str, trial: int) -> None:
    path = run.layout.journal(worker, 1)
    path.write_bytes(forged(path.read_bytes(), trial))


@pytest.mark.parametrize("trial", [0, 1, 3])
def test_a_changed_result_with_a_fitting_checksum_is_lost_and_its_trial_runs_again(
    run: FsckRun, trial: int
) -> None:
    worker = run.finish(4)
    values = run.values()
    forge(run, worker, trial)

    assert any("is not the end record" in finding.what for finding in run.bad())
    report = run.repair()

    assert report.exit_code == EXIT_DAMAGED
    assert any(finding.level == "lost" and finding.trials == (trial,) for finding in report.findings)
    del values[trial]
    assert run.values() == values
    assert run.bad() == []
    aside = run.layout.quarantine / f"workers/{worker}/journal.1.jsonl"
    assert b'"value":99.5' in aside.read_bytes()
    collect(run.layout)
    assert "99.5" not in run.layout.result("results.csv").read_text()
    assert run.bad() == []


def test_a_changed_result_in_the_archive_is_not_believed(run: FsckRun) -> None:
    worker = run.finish(2)
    run.archive()
    path = run.layout.archive_file(1)
    data = path.read_bytes()
    sections = [
        archive.encode_section(one.worker, one.name, forged(one.content(data), 1))
        if one.name == "journal.1.jsonl"
        else archive.encode_section(one.worker, one.name, one.content(data))
        for one in archive.sections(data)
    ]
    path.write_bytes(b"".join(sections))

    run.repair()

    assert run.values().keys() == {0}
    assert run.bad() == []
    assert history.archived_segments(run.layout, worker)


def test_a_changed_published_result_is_told_and_not_published(run: FsckRun) -> None:
    worker = run.finish(6)
    collect(run.layout)
    forge(run, worker, 3)

    report = run.repair()

    lost = [finding for finding in report.findings if finding.level == "lost" and finding.trials == (3,)]
    assert any("published" in finding.next for finding in lost)
    assert 3 not in run.values()
    assert run.check().exit_code == EXIT_DONE
    assert (run.layout.quarantine / "results" / "results.csv").exists()


def test_an_end_record_that_nothing_names_counts_only_where_the_chain_proves_it(tmp_path: Path) -> None:
    run = FsckRun(tmp_path)
    worker = run.finish(3)
    path = run.layout.journal(worker, 1)
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(row for row in rows if lines.kind(row) != b"accepted"))
    run.layout.claims.unlink()

    report = run.repair()

    assert any("nothing names it" in finding.what for finding in report.findings)
    assert run.bad() == []
    assert len(run.values()) < 3


def test_a_true_result_counts_where_another_line_was_changed(run: FsckRun) -> None:
    worker = run.finish(3)
    values = run.values()
    path = run.layout.journal(worker, 1)
    rows = path.read_bytes().splitlines(keepends=True)
    gone = next(number for number, row in enumerate(rows) if lines.kind(row) == b"start")
    path.write_bytes(b"".join(rows[:gone] + rows[gone + 1 :]))

    run.repair()

    assert run.values() == values


def test_a_repair_forgets_how_far_the_journals_were_reconciled(tmp_path: Path) -> None:
    run = FsckRun(tmp_path)
    worker = run.finish(3)
    run.layout.cache.mkdir(exist_ok=True)
    run.layout.reconciled.write_bytes(b"anything")
    forge(run, worker, 1)

    run.repair()

    assert not run.layout.reconciled.exists()
    assert index.STATES[run.entries()[1].state] != "done"
