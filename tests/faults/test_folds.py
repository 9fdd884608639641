"""Folds with real workers: some folds alone, one that fails, a refit that is killed and keeps its state."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from hpc_search import checkpoint, fsck
from hpc_search.ledger import history
from hpc_search.records import journal as lines
from tests.faults.site import TIMEOUT, Site

SEARCH: Final = """
name: folds
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [1, 2, 3, 4]}
strategy: grid
data: {index: data.csv, id: sample}
folds: {kfold: 3, test_share: 0.25}
save_interval: 0
heartbeat: 0.2
lease: 20
"""
REFIT: Final = f"{SEARCH}refit: {{seeds: [5]}}\n"
#: Holds each trial until another worker has begun one too, or for all that it knows is alone.
TOGETHER: Final = """
import os, time
from pathlib import Path

ROOT = Path(os.environ["HPC_TEST_ROOT"])

def train(trial):
    (ROOT / f"fold-{trial.fold}").touch()
    while (ROOT / "gate").exists() and len(list(ROOT.glob("fold-*"))) < 2:
        time.sleep(0.01)
        trial.alive()
    if trial.fold == 1 and (ROOT / "bad").exists():
        return {"acc": float("nan")}
    return {"acc": trial.params["x"] + len(trial.split.val)}
"""
#: The refit waits before step 3 as long as the gate is there.
STEPS: Final = """
import os, random, time
from pathlib import Path

ROOT = Path(os.environ["HPC_TEST_ROOT"])

def train(trial):
    state = {"numbers": [], "sum": float(len(trial.split.train))}
    start = trial.restore(state=state)
    (ROOT / f"start-{trial.number}-{trial.attempt}").write_text(str(start))
    for step in range(start, 5):
        if step == 3 and trial.refit:
            (ROOT / "waiting").touch()
            while (ROOT / "gate").exists():
                trial.alive()
                time.sleep(0.01)
                trial.save(step, state=state)
        state["numbers"].append(random.random() * trial.params["x"])
        state["sum"] += state["numbers"][-1]
        trial.save(step + 1, state=state)
    return None if trial.refit else {"acc": state["sum"]}
"""


def site(root: Path, code: str, text: str = SEARCH) -> Site:
    root.mkdir(exist_ok=True)
    (root / "data.csv").write_text("sample\n" + "".join(f"s{row}\n" for row in range(16)))
    return Site(root, text, code)


def done_by(made: Site) -> dict[str, set[int | None]]:
    """Return worker -> the folds of the trials that it ended."""
    found: dict[str, set[int | None]] = {}
    for result in made.results().values():
        found.setdefault(result.worker, set()).add(result.end.fold)
    return found


@pytest.mark.parametrize("claiming", ["lock", "exclusive"])
def test_two_workers_at_once_keep_to_their_folds_and_a_third_does_the_rest(
    tmp_path: Path, claiming: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_SEARCH_CLAIMING", claiming)
    made = site(tmp_path, TOGETHER)
    assert made.run.plan.claiming == claiming
    made.gate.touch()
    with made.worker("--folds", "0") as one, made.worker("--folds", "2") as other:
        assert [one.wait(TIMEOUT), other.wait(TIMEOUT)] == [0, 0], made.said()
    assert sorted(done_by(made).values(), key=str) == [{0}, {2}]
    assert sorted(made.results()) == [0, 1, 2, 3, 8, 9, 10, 11]
    assert "have ended; 4 trials are left of other folds" in made.said()
    made.work()
    assert sorted(done_by(made).values(), key=str) == [{0}, {1}, {2}]
    assert all(len(made.ends(number)) == 1 for number in range(12)), "none was tried twice"


@pytest.mark.parametrize("claiming", ["lock", "exclusive"])
def test_a_worker_for_a_fold_takes_over_what_a_killed_one_had_of_it(
    tmp_path: Path, claiming: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_SEARCH_CLAIMING", claiming)
    made = site(tmp_path, TOGETHER)
    made.gate.touch()
    with made.worker("--folds", "2"):
        made.wait_for("fold-2")
    made.gate.unlink()
    made.work(0, "--folds", "0", "1")
    assert sorted(made.results()) == [*range(8)]
    made.work(0, "--folds", "2")
    assert [made.results()[number].end.state for number in range(12)] == ["done"] * 12
    assert made.results()[8].end.attempt == 2


def test_a_fold_whose_metric_is_not_finite_fails_alone(tmp_path: Path) -> None:
    made = site(tmp_path, TOGETHER, f"{SEARCH}stop_after: 0\n")
    (tmp_path / "bad").touch()
    made.work()
    ends = [result.end for _, result in sorted(made.results().items())]
    assert [end.state for end in ends] == ["done"] * 4 + ["failed"] * 4 + ["done"] * 4
    assert {(end.cause, end.value, end.detail) for end in ends[4:8]} == {
        ("nonfinite", None, "the trial returned acc = nan")
    }


# -- training the chosen point again
@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> object:
    made = site(tmp_path_factory.mktemp("undisturbed"), STEPS, REFIT)
    made.work()
    return kept(made)


def kept(made: Site) -> object:
    """Return the state that the refit kept, which is that of its last save."""
    number = refitted(made)
    slots = checkpoint.Slots(made.layout, made.run.plan.run_id, number, 99, "f" * 16)
    loaded = slots.newest(checkpoint.check)
    assert loaded is not None
    assert loaded.step == 5
    return loaded.state["objects"]["state"]


def refitted(made: Site) -> int:
    """Return the number of the trial that trains again."""
    return next(block.first for block in made.run.plan.blocks if block.refit)


def test_a_refit_that_is_killed_resumes_and_ends_with_the_same_state(
    tmp_path: Path, undisturbed: object
) -> None:
    made = site(tmp_path, STEPS, REFIT)
    number = refitted(made)
    made.gate.touch()
    with made.worker() as worker:
        made.wait_for("waiting")
        worker.kill()
        worker.wait()
    made.gate.unlink()
    made.work()
    assert (tmp_path / f"start-{number}-2").read_text() == "3"
    end = made.results()[number].end
    assert (end.state, end.value, end.metrics, end.attempt) == ("done", None, {}, 2)
    assert repr(kept(made)) == repr(undisturbed)

    # Nothing but that is kept, whoever comes later; and it is missed where it goes.
    made.work()
    assert [int(name) for name in os.listdir(made.layout.checkpoints)] == [number]
    assert fsck.check_run(made.layout).findings == ()
    for path in made.layout.checkpoint_dir(number).glob("*.h5"):
        path.unlink()
    found = fsck.check_run(made.layout).findings
    assert {(one.what, one.lost) for one in found} >= {
        ("it is missing", f"the checkpoint of trial {number} at step 5")
    }


def test_a_refit_that_never_saves_keeps_its_own_files_and_a_search_does_not(tmp_path: Path) -> None:
    code = """
    def train(trial):
        rows = len(trial.split.train)
        (trial.directory / "model.txt").write_text(f"{trial.params['x']} {rows}")
        return {"acc": trial.params["x"], "rows": rows}
    """
    made = site(tmp_path, code, REFIT)
    made.work()
    number = refitted(made)
    assert (made.layout.trial_files(number) / "model.txt").read_text() == "4 12"
    assert os.listdir(made.layout.checkpoints) == [f"{number:06}"]
    assert made.results()[number].end.metrics == {"acc": 4, "rows": 12}
    assert {made.results()[one].end.metrics["rows"] for one in range(12)} == {8}


PROGRAM: Final = """
import json, os, pathlib
trial = json.loads(os.environ["HPC_SEARCH_TRIAL"])
rows = len(pathlib.Path(trial["split"]["train"]).read_text().splitlines()) - 1
place = pathlib.Path(trial["checkpoint_dir"])
(place / "seen.json").write_text(json.dumps([trial["refit"], sorted(trial["split"]), rows]))
if not trial["refit"]:
    (place / "metrics.json").write_text(json.dumps({"acc": trial["params"]["x"]}))
"""


def test_a_program_trains_again_on_one_manifest_and_needs_no_metric(tmp_path: Path) -> None:
    (tmp_path / "train_program.py").write_text(PROGRAM)
    command = "command: [python, train_program.py]\nmetric_file: metrics.json"
    made = site(tmp_path, "", REFIT.replace("trial: train.py:train", command))
    made.work()
    number = refitted(made)
    assert (made.layout.trial_files(number) / "seen.json").read_text() == '["train+val", ["train"], 12]'
    ends: list[lines.End] = [result.end for _, result in sorted(history.results(made.layout).items())]
    assert [end.state for end in ends] == ["done"] * 13
    assert (ends[number].value, ends[0].value) == (None, 1.0)
