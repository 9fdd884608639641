"""The audit logs: what stands in them, in one order, and that no line can be changed or removed unseen."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hpc_search.collect import DIGESTS, Written, collect
from hpc_search.errors import EXIT_DONE
from hpc_search.fsck import check_run, repair_run
from hpc_search.layout import Layout
from hpc_search.ledger import history, vault
from hpc_search.ledger.submits import Answer, Intent, Job
from hpc_search.planning import digest
from hpc_search.records import archive, checked, journal
from hpc_search.records.stages import Opened
from hpc_search.records.vault import Opening, Person, Result, Unit, Value
from tests.folded_run import FoldedRun
from tests.fsck_run import FsckRun
from tests.run_builder import worker_id


def person(when: float) -> Person:
    return Person(user="ada", host="node-a", pid=1, start_time=1, boot_id="b", when=when, code="c0de")


def folded(tmp_path: Path) -> FoldedRun:
    """A run of 2 points x 3 folds that was submitted, went on to a stage, and was tested on fold 1."""
    run = FoldedRun(tmp_path / "run", points=2, folds=3)
    run.end(0, 0.5, worker=1, t=50.0)
    run.end(2, 0.25, worker=2, t=60.0)
    run.append(2, journal.Note(event="resumed", trial=3, attempt=2, text="step 4"), t=70.0)
    layout = run.layout
    submission: dict[str, Any] = {
        "number": 1,
        "token": "example-0001",
        "launcher": "local",
        "tasks": 2,
        "created": 20.0,
    }
    answer = Answer(**submission, outcome="sent", jobs=(Job(id="77"),))
    layout.submit_intent(1).write_bytes(checked.encode(Intent(**submission)))
    layout.submit_record(1).write_bytes(checked.encode(answer))
    layout.stages.mkdir()
    opened = Opened(block=0, space=run.space, of={0: end_of(run, 0)}, why="the best one")
    layout.stage(0).write_bytes(checked.encode(opened))
    unit = Unit(trial=2, point=0, fold=1, seed=0, params={}, files={})
    opening = Opening(number=1, run_id="r", search_id="s", by=person(80.0), units=(unit,), manifests={})
    assert vault.publish_opening(layout, opening)
    values = (Value(part="", metric="acc", mean=0.5, sd=None, n=1),)
    result = Result(opening=1, of="x", run_id="r", by=person(90.0), units=(), values=values)
    assert vault.publish_result(layout, result)
    run.write()
    return run


def end_of(run: FoldedRun, trial: int) -> str:
    lines = [line for lines in run.lines.values() for line in lines if line.startswith(b'{"k":"end"')]
    return str(next(one["c"] for one in map(msgspec.json.decode, lines) if one["trial"] == trial))


def events(path: Path) -> list[str]:
    return [line.split(" | ")[1] for line in path.read_text().splitlines()]


def test_the_log_says_what_happened_in_one_order(tmp_path: Path) -> None:
    layout = folded(tmp_path).layout

    collect(layout)

    lines = [line.split(" | ") for line in layout.audit.read_text().splitlines()]
    assert [line[0] for line in lines] == sorted(line[0] for line in lines)
    assert all(len(line) >= 5 for line in lines)
    found = {(line[1], line[2]) for line in lines}
    assert found >= {
        ("planned", "trials 0 to 5"),
        ("split made", "fold 1"),
        ("submitting by local", "submission 1"),
        ("submitted", "submission 1"),
        ("worker started", "-"),
        ("trial claimed", "trial 0 attempt 1 point 0 fold 0 seed 0"),
        ("trial finished", "trial 2 attempt 1 point 0 fold 1 seed 0"),
        ("resumed", "trial 3 attempt 2 point 1 fold 1 seed 0"),
        ("stage advanced", "stage block 0"),
        ("test opened", "opening 1"),
        ("tested", "opening 1"),
    }
    finished = next(line for line in lines if line[1] == "trial finished")
    assert "state=done" in finished[4]
    assert "value=0.5" in finished[4]
    by = {line[1]: line[3] for line in lines}
    assert (by["trial finished"], by["tested"]) == (f"worker {worker_id(2)}", "ada on node-a")


def test_the_log_of_a_fold_has_its_trials_and_what_concerns_it(tmp_path: Path) -> None:
    layout = folded(tmp_path).layout

    collect(layout)

    whole = layout.audit.read_text().splitlines()
    logs = [layout.audit_fold(fold).read_text().splitlines() for fold in range(3)]
    assert all(line in whole for log in logs for line in log)
    assert all(f" fold {fold} " in line or "trial " not in line for fold in range(3) for line in logs[fold])
    assert sorted(set(events(layout.audit_fold(1)))) == sorted(
        {"planned", "split made", "submitting by local", "submitted", "trial claimed", "trial started"}
        | {"trial finished", "result accepted", "resumed", "stage advanced", "test opened", "tested"}
    )
    assert "tested" not in events(layout.audit_fold(0))
    assert events(layout.audit_fold(2)).count("split made") == 1


def test_the_logs_are_the_same_for_the_same_run(tmp_path: Path) -> None:
    layout = folded(tmp_path).layout
    collect(layout)
    paths = [layout.audit, *(layout.audit_fold(fold) for fold in range(3))]
    before = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()

    collect(layout)

    assert [path.read_bytes() for path in paths] == before


# -- what fsck finds
@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[FsckRun, str, Path]:
    """Make one finished run, kept aside: the journals of one worker live, those of another archived."""
    made = FsckRun(tmp_path_factory.mktemp("audit"))
    worker = made.complete()
    collect(made.layout)
    aside = made.root / "aside"
    shutil.copytree(made.layout.root, aside)
    return made, worker, aside


@pytest.fixture
def layout(template: tuple[FsckRun, str, Path]) -> Layout:
    made, _, aside = template
    shutil.rmtree(made.layout.root)
    shutil.copytree(aside, made.layout.root)
    return made.layout


def edit(path: Path, change: Callable[[list[bytes]], object]) -> list[bytes]:
    """Change the lines of a file; return them as they were."""
    before = path.read_bytes().splitlines(keepends=True)
    lines = list(before)
    change(lines)
    path.write_bytes(b"".join(lines))
    return before


def told(layout: Layout) -> list[str]:
    return [one.text() for one in check_run(layout).findings if one.level in ("damaged", "lost")]


@pytest.mark.parametrize("name", ["audit.log", "audit/fold_01.log"])
def test_a_line_of_a_log_that_was_removed_changed_or_added_is_named(layout: Layout, name: str) -> None:
    path = layout.root / name
    whole = path.read_bytes()

    before = edit(path, lambda lines: lines.pop(3))
    [finding] = told(layout)
    assert f"{name}: " in finding
    assert f"line 4 is missing: {before[3].decode().strip()}" in finding
    path.write_bytes(whole)

    edit(path, lambda lines: lines.append(lines.pop().replace(b" | ", b" ! ", 1)))
    [finding] = told(layout)
    assert f"line {len(before)} was changed, it should be: {before[-1].decode().strip()}" in finding
    path.write_bytes(whole)

    edit(path, lambda lines: lines.insert(5, b"what never happened\n"))
    [finding] = told(layout)
    assert "line 6 does not belong there: what never happened" in finding
    path.write_bytes(whole)

    edit(path, lambda lines: lines.pop())
    [finding] = told(layout)
    assert f"line {len(before)} is missing" in finding
    assert repair_run(layout).exit_code == EXIT_DONE
    assert path.read_bytes() == whole
    assert told(layout) == []


def test_a_log_that_was_made_to_fit_its_digest_is_found_by_the_journals(layout: Layout) -> None:
    edit(layout.audit, lambda lines: lines.pop(3))
    written = checked.decode(layout.result(DIGESTS).read_bytes(), Written, "")
    written = msgspec.structs.replace(written, audit=digest(layout.audit.read_bytes()))
    layout.result(DIGESTS).write_bytes(checked.encode(written))

    [finding] = told(layout)

    assert "line 4 is missing" in finding


def test_what_happened_since_the_last_collect_is_no_damage(
    layout: Layout, template: tuple[FsckRun, str, Path]
) -> None:
    made = template[0]
    made.ledger().exit("no work left")

    assert told(layout) == []


def journals(layout: Layout) -> Iterator[tuple[Path, bytes]]:
    for file in history.journal_files(layout):
        if not file.archived:
            yield layout.journal(file.worker, file.segment), file.data


@pytest.mark.parametrize("which", [2, 5, -2, -1])
def test_a_removed_line_of_a_journal_is_found_though_nothing_else_is_touched(
    layout: Layout, which: int
) -> None:
    path, _ = next(journals(layout))
    edit(path, lambda lines: lines.pop(which))

    assert any(path.name in text or "audit.log" in text for text in told(layout))


@pytest.mark.parametrize("which", [2, 5, -2, -1])
def test_a_changed_line_of_a_journal_is_found_even_where_its_checksum_was_made_to_fit(
    layout: Layout, which: int
) -> None:
    path, _ = next(journals(layout))

    def change(lines: list[bytes]) -> None:
        record = journal.parse_line(lines[which].rstrip(b"\n"))
        assert record is not None
        lines[which] = journal.encode_line(msgspec.structs.replace(record, t=record.t + 0.5))

    edit(path, change)

    assert any(path.name in text or "audit.log" in text for text in told(layout))


@pytest.mark.parametrize("which", [3, -2, -1])
def test_lines_of_an_archived_journal_cannot_be_removed_unseen(layout: Layout, which: int) -> None:
    path = layout.archive_file(int(history.archive_paths(layout)[-1]))
    data = path.read_bytes()
    found = []
    for section in archive.sections(data):
        lines = section.content(data).splitlines(keepends=True)
        if section.name.startswith("journal"):
            lines.pop(which)
        found.append(archive.encode_section(section.worker, section.name, b"".join(lines)))
    path.write_bytes(b"".join(found))

    assert told(layout)
