"""A cross-validation whose workers are killed gives the results of one that nobody disturbed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import msgspec

from hpc_search.collect import collect
from hpc_search.ledger import history
from tests.faults.site import TIMEOUT, Site
from tests.waiting import wait_until

SEARCH = """
name: folds
trial: train.py:train
metric: {name: val_acc, goal: max}
space: {width: [1, 2, 3, 4]}
strategy: grid
data: {index: data.csv, id: sample, group: patient}
folds: {kfold: 5}
save_interval: 0
heartbeat: 0.2
lease: 20
"""
#: Its state is random, saved at every step; the score of a sample is 0 or 1.
TRAIN = """
import random

def train(trial):
    state = {"sum": 0.0}
    start = trial.restore(state=state)
    for step in range(start, 6):
        state["sum"] += random.random()
        trial.report(step, val_acc=state["sum"] / 6)
        trial.save(step + 1, state=state)
    limit = state["sum"] / 6 * 0.4 + trial.params["width"] / 10
    scores = [float(random.random() < limit) for _ in trial.split.val]
    trial.report_samples(trial.split.val, scores)
    return {"val_acc": sum(scores) / len(scores), "loss": state["sum"]}
"""
PLAIN = ("summary.csv", "folds.csv", "top_k.json", "best_hyperparams.json", "selection.json")
#: Columns of results.csv about where a trial ran.
PROVENANCE = "slice_"


def site(root: Path) -> Site:
    root.mkdir()
    rows = "".join(f"s{row},p{row % 40}\n" for row in range(200))
    (root / "data.csv").write_text(f"sample,patient\n{rows}")
    return Site(root, SEARCH, TRAIN)


def started(found: Site) -> int:
    return sum(1 for _ in history.lines(found.layout, frozenset({b"start"})))


def kill_again_and_again(found: Site, times: int) -> None:
    """Kill workers, each with -9 after two more trials have begun, *times* times; then let one end."""
    for _ in range(times):
        before = started(found)
        with found.worker():
            # Or the trials ran out.
            wait_until(
                lambda before=before: started(found) >= before + 2 or set(found.states()) == {"done"},  # type: ignore[misc]
                timeout=TIMEOUT,
                on_timeout=found.said,
            )
    found.work()


def values(found: Site) -> list[list[str]]:
    """Return results.csv without the columns about where a trial ran."""
    with found.layout.result("results.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    kept = [place for place, name in enumerate(header) if not name.startswith(PROVENANCE)]
    return [[row[place] for place in kept] for row in (header, *rows)]


def test_results_of_killed_workers_are_those_of_an_undisturbed_run_byte_by_byte(tmp_path: Path) -> None:
    calm, disturbed = site(tmp_path / "calm"), site(tmp_path / "disturbed")
    calm.work()

    kill_again_and_again(disturbed, times=4)

    assert set(disturbed.states()) == {"done"}
    collected = collect(disturbed.layout)
    collect(calm.layout)
    assert calm.run.plan.run_id != disturbed.run.plan.run_id
    for name in PLAIN:
        assert calm.layout.result(name).read_bytes() == disturbed.layout.result(name).read_bytes(), name
    assert values(calm) == values(disturbed)
    # It was disturbed, and what that was stands in one place.
    attempts = disturbed.layout.result("attempts.csv").read_text()
    assert started(disturbed) > 20
    assert attempts != calm.layout.result("attempts.csv").read_text()
    # Scores of samples of all workers, those that were killed too, are used.
    found = json.loads(disturbed.layout.result("selection.json").read_text())
    assert (found["sampled"], found["notes"]) == (4, [])
    assert "40 groups" in found["intervals"][0]["method"]
    assert msgspec.json.decode(collected.json())["best"]["n"] == 5
