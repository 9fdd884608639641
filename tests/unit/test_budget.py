"""What of a budget counts as used, and what follows when nothing is left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hpc_search import durable
from hpc_search.config.profile import parse_profile
from hpc_search.ledger import used_up
from hpc_search.records.journal import Checkpoint, Claim, End, Exit, Start
from hpc_search.records.search import Budget
from hpc_search.status import budget, read_status
from hpc_search.status.model import Use
from hpc_search.status.slots import share_of
from hpc_search.worker.allowance import Allowance
from tests.run_builder import RunBuilder


def limited(root: Path, **limits: float) -> RunBuilder:
    run = RunBuilder(root)
    search = msgspec.structs.replace(run.plan.search, budget=Budget(**limits))
    run.plan = msgspec.structs.replace(run.plan, search=search)
    return run


def began(run: RunBuilder, hours: float) -> None:
    """Let the first trial have started so long ago, by the file server's clock."""
    run.layout.began.write_bytes(b"")
    now = durable.now(run.layout.ledger) - 3600 * hours
    os.utime(run.layout.began, (now, now))


def uses(run: RunBuilder) -> dict[str, Use]:
    return {one.kind: one for one in budget.Meter(run.layout, run.plan).look().uses}


def attempt(run: RunBuilder, trial: int, **fields: Any) -> None:
    run.append(1, Claim(trial=trial, attempt=1, params={}))
    run.append(1, Start(trial=trial, attempt=1))
    if fields:
        run.append(1, End(trial=trial, attempt=1, params={}, node="node-a", **fields))


def test_every_attempt_counts_whatever_became_of_it(tmp_path: Path) -> None:
    run = limited(tmp_path / "run", gpu_hours=1.0)
    attempt(run, 0, state="done", value=0.5, seconds=600.0)
    attempt(run, 1, state="failed", cause="error", seconds=900.0)
    attempt(run, 2, state="pending", cause="preempted", seconds=1200.0)
    run.append(1, Exit(reason="no work left"))
    run.write()

    used = uses(run)["gpu_hours"]

    assert used.used == pytest.approx(0.75)
    assert used.cpu
    assert "0.75 of 1 GPU-hours (a worker without a GPU counts as one)" in used.text


def test_a_running_attempt_counts_up_to_the_last_sign_of_its_worker(tmp_path: Path) -> None:
    run = limited(tmp_path / "run", gpu_hours=10.0)
    attempt(run, 0)
    run.append(1, Checkpoint(trial=0, attempt=1, step=1, slot=0), t=1000.0 + 3600)
    layout = run.write()
    journal = layout.journal("0" * 15 + "1", 1)
    layout.heartbeat("0" * 15 + "1").write_bytes(b"")
    # The worker beat half an hour, by the file server's clock, after it wrote its last line.
    os.utime(journal, (5000.0, 5000.0))
    os.utime(layout.heartbeat("0" * 15 + "1"), (6800.0, 6800.0))

    assert uses(run)["gpu_hours"].used == pytest.approx(1.5, abs=0.01)


def test_a_share_of_a_gpu_counts_as_that_share_and_several_gpus_as_several() -> None:
    packed = parse_profile(b"name: p\ngres: gpu:1\ncpus: 1\nslice: {kind: packed, pack: {workers: 4}}\n", "p")
    whole = parse_profile(b"name: w\ngres: gpu:2\ncpus: 1\nslice: {kind: whole}\n", "w")

    assert budget.devices(share_of(packed, "cuda", 1)) == 0.25
    assert budget.devices(share_of(whole, "cuda", 1)) == 2.0
    assert budget.devices(share_of(None, "cpu", 8)) == 1.0


def test_hours_begin_with_the_first_trial_by_the_file_servers_clock(tmp_path: Path) -> None:
    run = limited(tmp_path / "run", hours=24.0)
    run.write()
    assert uses(run)["hours"].used == 0.0

    began(run, 6.0)

    assert uses(run)["hours"].used == pytest.approx(6.0, abs=0.1)
    assert budget.Meter(run.layout, run.plan).look().over == ""


def test_a_worker_that_finds_the_budget_used_up_stops_all(tmp_path: Path) -> None:
    run = limited(tmp_path / "run", hours=2.0, gpu_hours=5.0)
    layout = run.write()
    allowance = Allowance(layout, run.plan)
    allowance.begin()
    assert not allowance.over()

    began(run, 3.0)

    assert Allowance(layout, run.plan).over()
    assert used_up(layout).startswith("budget used up: 3 of 2 hours since the first trial started")
    seen = read_status(layout, run.plan)
    assert seen.state == "stopped"
    assert seen.next == "hpc-search collect RUN"
    assert any("--amend" in note and "what runs goes on" in note for note in seen.notes)
    assert "budget: 3 of 2 hours" in seen.text(200)


def test_without_a_budget_nothing_is_looked_at(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run")
    layout = run.write()
    began(run, 1e6)

    assert not Allowance(layout, run.plan).over()
    assert read_status(layout, run.plan).budget == ()
