"""Early stopping on real workers: each rule, functions and programs, folds, several workers, torch."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hpc_search import search
from hpc_search.collect import collect
from hpc_search.fsck import check_run
from hpc_search.ledger import history
from hpc_search.records import journal as lines
from hpc_search.search.trialtext import as_text
from tests.faults.site import TIMEOUT, Site
from tests.waiting import wait_until

SEARCH = """
name: rules
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [5, 3, 8, 1, 9, 2, 7, 6, 4]}
strategy: grid
heartbeat: 0.2
lease: 20
"""
TRAIN = """
def train(trial):
    state = {"sum": 0.0}
    for step in range(trial.restore(state=state), 9):
        state["sum"] += trial.params["x"]
        trial.report(step, acc=state["sum"], step=step)
        trial.save(step + 1, state=state)
    return {"acc": state["sum"]}
"""
#: Counts its steps in its directory; after two of them it waits until the journals say what becomes of it,
#: and until it is told where that is its end.
PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path

trial = json.loads(os.environ["HPC_SEARCH_TRIAL"])
state = Path(trial["checkpoint_dir"]) / "step"
code, waits = int(sys.argv[1]), len(sys.argv) > 2
signal.signal(signal.SIGTERM, lambda *_: sys.exit(code))

def wait(step):
    mine = f'"trial":{trial["number"]},', f'"step":{step},'
    while True:
        for journal in Path(trial["run"]).glob("workers/*/journal.*"):
            for line in journal.read_text().splitlines():
                if line.startswith('{"k":"verdict"') and all(part in line for part in mine):
                    while '"continue"' not in line:
                        time.sleep(0.02)
                    return
        time.sleep(0.02)

start = int(state.read_text()) if state.exists() else 0
with open(os.environ["HPC_SEARCH_REPORT"], "a") as report:
    for step in range(start, 9):
        print(json.dumps({"step": step, "acc": trial["params"]["x"] * (step + 1)}), file=report, flush=True)
        state.write_text(str(step + 1))
        if waits and step in (0, 2):
            wait(step)
"""


def verdicts(site: Site) -> list[lines.Verdict]:
    found = [lines.parse_line(line.data) for line in history.lines(site.layout, frozenset({b"verdict"}))]
    return [one for one in found if isinstance(one, lines.Verdict)]


def ended(site: Site) -> dict[str, list[int]]:
    """Return state -> trials, after fsck found nothing wrong."""
    assert not [finding for finding in check_run(site.layout).findings if finding.level != "note"]
    found: dict[str, list[int]] = {}
    for number, result in sorted(site.results().items()):
        found.setdefault(result.end.state, []).append(number)
    return found


def shown(site: Site, number: int) -> str:
    view = search.view_trial(site.run, number)
    return as_text(site.run.plan, view)


def site_of(root: Path, rule: str, text: str = SEARCH, code: str = TRAIN) -> Site:
    return Site(root, f"{text}\npruning: {rule}\n", code)


@pytest.mark.parametrize(
    ("rule", "claiming", "done", "decisions"),
    [
        ("{asha: {max_steps: 9}}", "lock", [4], {"pause", "continue", "promote"}),
        ("{asha: {max_steps: 9}}", "exclusive", [4], {"pause", "continue", "promote"}),
        ("{successive_halving: {max_steps: 9}}", "lock", [4], {"pause", "promote"}),
        # Of the brackets 0 1 0 2 0 1 0 0 1 the best one each.
        ("{hyperband: {max_steps: 9}}", "exclusive", [3, 4, 8], {"pause", "continue", "promote"}),
        ("{median: {startup: 2}}", "lock", [0, 1, 2, 4, 6], {"continue", "prune"}),
        ("{percentile: {keep: 25, startup: 2, warmup: 2}}", "lock", [0, 1, 2, 4], {"continue", "prune"}),
        ("{patient: {patience: 1, rule: {median: {startup: 2}}}}", "lock", [*range(9)], {"continue"}),
    ],
)
def test_each_rule_ends_all_trials_and_keeps_their_curves(
    rule: str, claiming: str, done: list[int], decisions: set[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("HPC_SEARCH_CLAIMING", claiming)
    site = site_of(tmp_path, rule)
    site.work()
    found = ended(site)
    assert found["done"] == done
    assert sorted(found["done"] + found.get("pruned", [])) == list(range(9))
    assert {one.decision for one in verdicts(site)} == decisions
    for result in site.results().values():
        end = result.end
        if end.state == "pruned":
            assert end.value is None
            assert end.cause == ""
            assert end.metrics["acc"] == (end.metrics["step"] + 1) * end.params["x"]
    assert not list(site.layout.checkpoints.iterdir())


def test_what_was_decided_is_collected_shown_and_counted(tmp_path: Path) -> None:
    site = site_of(tmp_path, "{asha: {max_steps: 9}}")
    site.work()
    collected = collect(site.layout)
    assert (collected.done, collected.failed, collected.pruned) == (1, 0, 8)
    assert collected.best is not None
    assert collected.best.params == {"x": 9}
    rows = list(csv.DictReader(site.layout.result("verdicts.csv").read_text().splitlines()))
    assert len(rows) == len(verdicts(site))
    first = rows[0]
    assert [first[key] for key in ("trial", "rung", "step", "value", "decision", "rule")] == [
        *("0", "0", "0", "5.0", "pause", "asha")
    ]
    status = search.status(site.run)
    assert (status.done, status.pruned, status.paused) == (1, 8, 0)
    assert "asha at step 0 (rung 0): goes on: acc 8" in shown(site, 2)
    assert "never promoted: its bracket has ended" in shown(site, 3)


CATCHES = """
def train(trial):
    state = {"sum": 0.0}
    try:
        for step in range(trial.restore(state=state), 9):
            state["sum"] += trial.params["x"]
            trial.report(step, acc=state["sum"])
            trial.save(step + 1, state=state)
    except BaseException:
        state["sum"] = 1000.0
        if trial.params["x"] % 2:
            raise RuntimeError("while it cleaned up")
    return {"acc": state["sum"]}
"""


def test_a_trial_that_catches_what_it_was_told_is_paused_and_pruned_all_the_same(tmp_path: Path) -> None:
    for rule, done in (("{asha: {max_steps: 9}}", [4]), ("{median: {startup: 2}}", [0, 1, 2, 4, 6])):
        site = site_of(tmp_path / rule.split(":", maxsplit=1)[0].strip("{"), rule, code=CATCHES)
        site.work()
        found = ended(site)
        assert found["done"] == done
        assert sorted(found["done"] + found["pruned"]) == list(range(9))
        assert max(result.end.value or 0.0 for result in site.results().values()) == 81.0


RETURNS_UNSET = """
def train(trial):
    state = {}
    for step in range(trial.restore(state=state), 3):
        acc = float(trial.params["x"])
        trial.report(step, acc=acc)
        trial.save(step + 1, state=state)
    return {"acc": acc}
"""


def test_a_trial_that_has_no_step_left_is_told_how_to_keep_its_value(tmp_path: Path) -> None:
    # Its training has three steps, and a rung is there.
    site = site_of(tmp_path, "{asha: {min_steps: 3, max_steps: 9}}", code=RETURNS_UNSET)
    site.work()
    details = {result.end.detail for result in site.results().values() if result.end.state == "failed"}
    assert details
    assert all("it resumed after its last step, and had no step left" in detail for detail in details)


def test_programs_are_paused_and_pruned_by_sigterm_whatever_they_exit_with(tmp_path: Path) -> None:
    for rule, code in (("{asha: {max_steps: 9}}", 0), ("{median: {startup: 1}}", 7)):
        command = f"command: [{sys.executable}, train.py, '{code}', waits]"
        text = SEARCH.replace("trial: train.py:train", command)
        text = text.replace("[5, 3, 8, 1, 9, 2, 7, 6, 4]", "[2, 3, 1]")
        site = site_of(tmp_path / str(code), rule, text, PROGRAM)
        site.work()
        assert ended(site) == {"done": [[1], [0, 1]][code > 0], "pruned": [[0, 2], [2]][code > 0]}
        assert all(end.cause == "" for end in site.ends())
        # Its directory was there when it was promoted: no step was done twice.
        reports = Counter(
            (report.trial, report.step)
            for line in history.lines(site.layout, frozenset({b"report"}))
            if isinstance(report := lines.parse_line(line.data), lines.Report)
        )
        assert set(reports.values()) == {1}


def test_a_program_that_ends_before_it_is_told_is_done_and_takes_part(tmp_path: Path) -> None:
    text = SEARCH.replace("trial: train.py:train", f"command: [{sys.executable}, train.py, '0']")
    site = site_of(tmp_path, "{asha: {max_steps: 9}}", text, PROGRAM)
    site.work()
    assert ended(site)["done"] == list(range(9))


@pytest.mark.parametrize("call", ["", "trial.report(0, loss=1.0)"])
def test_a_trial_that_never_reports_the_metric_fails_in_words(call: str, tmp_path: Path) -> None:
    code = f"def train(trial):\n    {call or 'pass'}\n    return {{'acc': trial.params['x']}}\n"
    for rule in ("median", "{asha: {max_steps: 9}}"):
        text = SEARCH.replace("[5, 3, 8, 1, 9, 2, 7, 6, 4]", "[1]")
        site = site_of(tmp_path / rule[:5], rule, text, code)
        site.work()
        end = site.results()[0].end
        assert (end.state, end.cause) == ("failed", "error")
        wanted = "this report has no acc" if call and rule != "median" else "the trial ended without one"
        assert wanted in end.detail


def test_a_trial_that_never_saves_starts_anew_when_it_is_promoted(tmp_path: Path) -> None:
    code = TRAIN.replace("trial.restore(state=state)", "0").replace(
        "trial.save(step + 1, state=state)", "pass"
    )
    site = site_of(tmp_path, "{successive_halving: {max_steps: 9}}", code=code)
    site.work()
    assert ended(site)["done"] == [4]
    assert site.results()[4].end.value == 81.0
    paused = [end for end in site.ends(4) if end.state == "paused"]
    assert [(end.rung, end.step) for end in paused] == [(0, 0), (1, 0)]


FOLDS = """
name: folds
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [5, 3, 8, 1, 9, 2]}
strategy: grid
data: {index: data.csv, id: id, label: y}
folds: {kfold: 2}
heartbeat: 0.2
lease: 20
"""


def test_a_pruned_trial_prunes_its_point_and_the_best_one_is_whole(tmp_path: Path) -> None:
    rows = "".join(f"s{number},{number % 2}\n" for number in range(12))
    (tmp_path / "data.csv").write_text(f"id,y\n{rows}")
    site = site_of(tmp_path, "{asha: {max_steps: 9}}", FOLDS)
    site.work()
    found = ended(site)
    assert found["done"] == [4, 10]
    # Fold 1 of all others never ran.
    never = [end for end in site.ends() if end.detail.startswith("its point was pruned at fold 0")]
    assert sorted(end.trial for end in never) == [6, 7, 8, 9, 11]
    started = history.lines(site.layout, frozenset({b"start"}))
    assert {json.loads(line.data)["trial"] for line in started} == {0, 1, 2, 3, 4, 5, 10}
    best = collect(site.layout).best
    assert best is not None
    assert (best.params, best.n) == ({"x": 9}, 2)


def test_a_running_trial_whose_point_was_pruned_stops_at_its_next_report(tmp_path: Path) -> None:
    rows = "".join(f"s{number},{number % 2}\n" for number in range(12))
    (tmp_path / "data.csv").write_text(f"id,y\n{rows}")
    code = TRAIN.replace(
        "    state =",
        "    import os, pathlib, time\n    root = pathlib.Path(os.environ['HPC_TEST_ROOT'])\n"
        "    if trial.number == 3:\n        (root / 'begun').touch()\n"
        "        while not (root / 'go').exists():\n            time.sleep(0.01)\n"
        "    elif trial.number == 1:\n"
        "        while not (root / 'begun').exists():\n            time.sleep(0.01)\n    state =",
    )
    # Trial 1 is pruned against trial 0 while fold 1 of its point, trial 3, runs.
    text = FOLDS.replace("[5, 3, 8, 1, 9, 2]", "[5, 3]")
    site = site_of(tmp_path, "{median: {startup: 1}}", text, code)
    with site.worker() as one, site.worker() as two:
        site.wait_for("begun")
        wait_until(lambda: 1 in site.results(), timeout=TIMEOUT, on_timeout=site.said)
        (site.root / "go").touch()
        assert [one.wait(TIMEOUT), two.wait(TIMEOUT)] == [0, 0]
    assert ended(site) == {"done": [0, 2], "pruned": [1, 3]}
    assert "its point was pruned in trial 1" in site.results()[3].end.detail


def test_several_workers_end_all_and_one_trial_of_each_bracket_is_whole(tmp_path: Path) -> None:
    text = SEARCH.replace("[5, 3, 8, 1, 9, 2, 7, 6, 4]", "{int: [1, 40]}")
    site = site_of(tmp_path, "{hyperband: {max_steps: 9}}", text)
    with site.worker() as one, site.worker() as two, site.worker() as three:
        assert [process.wait(TIMEOUT) for process in (one, two, three)] == [0, 0, 0]
    found = ended(site)
    assert sum(map(len, found.values())) == 40
    assert set(found) == {"done", "pruned"}


TORCH = """
import hashlib
import torch

def train(trial):
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=trial.params["lr"])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.9)
    inputs = torch.linspace(-1, 1, 128).reshape(32, 4)
    start = trial.restore(model=model, optimizer=optimizer, schedule=schedule)
    for epoch in range(start, 9):
        batch = inputs[torch.randperm(32)[:8]]
        loss = (model(batch) - batch.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        trial.report(epoch, loss=loss.item())
        trial.save(epoch + 1, model=model, optimizer=optimizer, schedule=schedule)
    content = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    weights = int.from_bytes(hashlib.blake2b(content, digest_size=6).digest(), "big")
    return {"loss": loss.item(), "weights": weights}
"""


def test_a_torch_training_that_was_paused_and_promoted_is_bit_identical(tmp_path: Path) -> None:
    text = SEARCH.replace("{name: acc, goal: max}", "{name: loss, goal: min}")
    text = text.replace("x: [5, 3, 8, 1, 9, 2, 7, 6, 4]", "lr: [1e-4, 1e-2, 1e-3]")
    site = site_of(tmp_path, "{successive_halving: {max_steps: 9}}", text, TORCH)
    site.work()
    [number] = ended(site)["done"]
    assert [end.state for end in site.ends(number)] == ["paused", "paused", "done"]
    again = search.rerun(site.run, number)
    assert again.equal
    assert again.end is not None
    assert again.end.attempt == 1
    assert again.end.metrics == site.results()[number].end.metrics


def test_a_worker_without_work_stays_for_those_that_are_promoted_next(tmp_path: Path) -> None:
    # The last trial comes to its rung a moment after the first one, whose worker has nothing to do then.
    code = TRAIN.replace(
        "        state[",
        "        import os, pathlib, time\n        root = pathlib.Path(os.environ['HPC_TEST_ROOT'])\n"
        "        name = f'run-{trial.number}-{step}'\n        (root / name).touch()\n"
        "        if step == 1:\n"
        "            while len(list(root.glob('run-*-1'))) < 2:\n                time.sleep(0.01)\n"
        "        if step == 0 and trial.number == 0:\n            time.sleep(1)\n"
        "            (root / 'first').touch()\n"
        "        if step == 0 and trial.number == 3:\n"
        "            while not (root / 'first').exists():\n                time.sleep(0.01)\n"
        "            time.sleep(0.2)\n"
        "        state[",
    )
    text = SEARCH.replace("[5, 3, 8, 1, 9, 2, 7, 6, 4]", "[1, 2, 4, 3]")
    site = site_of(tmp_path, "{successive_halving: {max_steps: 2, eta: 2}}", text, code.replace("9)", "2)"))
    with site.worker() as one, site.worker() as two:
        # Each of the promoted ones waits until the other one runs, too.
        assert [one.wait(TIMEOUT), two.wait(TIMEOUT)] == [0, 0]
    assert ended(site) == {"done": [2, 3], "pruned": [0, 1]}
