"""The names of a run's files, and what is read back from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search.layout import WORKER_ID, Layout, parse_journal, parse_slot
from hpc_search.search.runs import runs_root

WORKER = "0123456789abcdef"
LAYOUT = Layout(Path("RUN"))


def test_every_path_lies_below_the_run() -> None:
    paths = [getattr(LAYOUT, name) for name in dir(Layout) if isinstance(getattr(Layout, name), property)]
    paths += [
        LAYOUT.archive_file(1), LAYOUT.journal(WORKER, 1), LAYOUT.log(WORKER), LAYOUT.heartbeat(WORKER),
        LAYOUT.samples(WORKER, 1), LAYOUT.checkpoint_slot(3, 1, WORKER, 0), LAYOUT.trial_files(3),
        LAYOUT.seal(1), LAYOUT.submit_intent(1), LAYOUT.submit_record(1), LAYOUT.split_manifest(0, "val"),
        LAYOUT.coarse_lock("submit"), LAYOUT.reserve(WORKER), LAYOUT.report_file(WORKER),
    ]  # fmt: skip
    assert all(path.is_relative_to("RUN") for path in paths)
    assert len(set(paths)) == len(paths)


def test_a_slot_is_read_back_from_its_name() -> None:
    name = LAYOUT.checkpoint_slot(12, 3, WORKER, 1).name
    assert parse_slot(name) == (3, WORKER, 1)


@pytest.mark.parametrize(
    "name", [f"a1-{WORKER}.2.h5", f"a-{WORKER}.0.h5", "a1-xyz.0.h5", f".a1-{WORKER}.0.h5"]
)
def test_another_name_is_no_slot(name: str) -> None:
    assert parse_slot(name) is None


def test_a_segment_is_read_back_from_its_name() -> None:
    assert parse_journal(LAYOUT.journal(WORKER, 12).name) == 12


@pytest.mark.parametrize(
    "name", ["journal.jsonl", "journal.1.jsonl.bak", "journal.x.jsonl", ".journal.1.jsonl"]
)
def test_another_name_is_no_segment(name: str) -> None:
    assert parse_journal(name) is None


@pytest.mark.parametrize("name", ["0123456789ABCDEF", "0123", f".t-{WORKER}", f"{WORKER}0"])
def test_only_16_hexadecimal_digits_name_a_worker(name: str) -> None:
    assert WORKER_ID.fullmatch(WORKER)
    assert not WORKER_ID.fullmatch(name)


def test_numbers_sort_as_their_names_do() -> None:
    assert LAYOUT.archive_file(9).name < LAYOUT.archive_file(10).name
    assert LAYOUT.seal(9).name < LAYOUT.seal(10).name
    assert LAYOUT.checkpoint_dir(9).name < LAYOUT.checkpoint_dir(10).name


def test_runs_lie_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HPC_SEARCH_ROOT", raising=False)
    assert runs_root() == Path("runs")
    monkeypatch.setenv("HPC_SEARCH_ROOT", "elsewhere")
    assert runs_root() == Path("elsewhere")
    monkeypatch.setenv("HPC_SEARCH_ROOT", "")
    assert runs_root() == Path("runs")
