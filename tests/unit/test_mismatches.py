"""Workers that are missing because their slice was not the one that was asked for."""

from __future__ import annotations

from pathlib import Path

from hpc_search.ledger.mismatches import (
    ELSEWHERE,
    MISMATCH,
    NODE,
    WARNED,
    Seat,
    missing,
    nodes_of_task,
    seat_of_task,
)
from tests.ledger_run import LedgerRun

TOKEN = "search-01234567-0001"


def visit(run: LedgerRun, seat: str, node: str, restart: int = 0, *events: str) -> None:
    ledger = run.ledger(token=TOKEN, seat=seat, restart=restart)
    ledger.note(NODE, node)
    for event in events:
        ledger.note(event, f"words on {node}")


def test_a_seat_that_left_is_missing_until_a_worker_sits_on_it_again(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run", trials=4)
    visit(run, "slurm:0:0", "n1", 0, MISMATCH, ELSEWHERE)
    visit(run, "slurm:1:0", "n2", 0, MISMATCH)

    found = missing(run.layout)

    assert found.by_node == {"n1": 1, "n2": 1}
    assert found.coming_back == (Seat(TOKEN, "slurm:0:0", "n1", "words on n1"),)
    assert found.gave_up == (Seat(TOKEN, "slurm:1:0", "n2", "words on n2"),)
    assert found.workers == 2

    visit(run, "slurm:0:0", "n3", 1)

    assert missing(run.layout).coming_back == ()


def test_a_worker_that_only_warned_is_not_missing(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run", trials=4)
    visit(run, "slurm:0:0", "n1", 0, WARNED)

    assert missing(run.layout).workers == 0
    assert missing(run.layout).by_node == {}


def test_the_runs_of_a_task_are_counted_once_for_all_its_packed_workers(tmp_path: Path) -> None:
    run = LedgerRun(tmp_path / "run", trials=4)
    for process in ("0.0", "0.1"):
        visit(run, f"slurm:3:{process}", "n1", 0, MISMATCH)
    visit(run, "slurm:3:0.1", "n2", 1, MISMATCH)
    visit(run, "slurm:4:0.1", "n9", 0, MISMATCH)

    assert nodes_of_task(run.layout, TOKEN, "slurm:3:0.0") == (["n1", "n2"], 2)
    assert seat_of_task("slurm:3:0.11") == seat_of_task("slurm:3:0") == "slurm:3:0"
