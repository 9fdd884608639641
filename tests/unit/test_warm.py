"""Points of other searches, best first: of a run, and of a study of Optuna in either kind of file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hpc_search.errors import UsageError
from hpc_search.records import journal
from hpc_search.search.warm import ranked
from tests.run_builder import RunBuilder

optuna.logging.set_verbosity(optuna.logging.WARNING)


def run_with(root: Path, values: list[float | None], goal: str = "max") -> RunBuilder:
    """Make a run whose point i ended with values[i], not at all where that is None."""
    builder = RunBuilder(root, points=len(values), folds=0, goal=goal)
    for trial, value in enumerate(values):
        if value is not None:
            end = journal.End(
                t=0.0, trial=trial, attempt=1, point=trial, fold=None, seed=0, state="done", cause="",
                params={"width": trial, "epochs": 3}, metrics={"val_acc": value}, value=value, step=1,
                seconds=1.0, log=(0, 0),
            )  # fmt: skip
            builder.append(0, end)
    builder.write()
    return builder


@pytest.mark.parametrize(("goal", "order"), [("max", [3, 0, 1]), ("min", [1, 0, 3])])
def test_points_of_a_run_come_by_its_metric_without_incomplete_ones(
    tmp_path: Path, goal: str, order: list[int]
) -> None:
    run_with(tmp_path / "first", [0.5, 0.1, None, 0.9], goal)
    found = list(ranked("run", "first", {}, tmp_path))
    assert [name for name, _, _ in found] == [f"point {point}" for point in order]
    assert found[0][1:] == ({"width": order[0], "epochs": 3}, {"epochs", "experiment"})


def test_run_is_found_by_its_name_and_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = run_with(tmp_path / "runs" / "first", [0.5, 0.9])
    monkeypatch.setenv("HPC_SEARCH_ROOT", str(tmp_path / "runs"))
    before = contents(builder.layout.root)
    assert len(list(ranked("run", "first", {}, tmp_path / "elsewhere"))) == 2
    assert contents(builder.layout.root) == before


def contents(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_run_without_results_and_missing_run_are_refused(tmp_path: Path) -> None:
    run_with(tmp_path / "first", [None, None])
    with pytest.raises(UsageError, match="has no best points: nothing is finished yet"):
        list(ranked("run", "first", {}, tmp_path))
    with pytest.raises(UsageError, match="there is no run 'secnd'"):
        list(ranked("run", "secnd", {}, tmp_path))


def objective(trial: optuna.Trial) -> float:
    lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    layers = trial.suggest_int("layers", 1, 4)
    if trial.suggest_categorical("opt", ["adamw", "sgd"]) == "sgd" and trial.number % 4 == 0:
        raise optuna.TrialPruned
    return lr * layers


def sqlite(base: Path) -> tuple[str, Any]:
    return "study.db", f"sqlite:///{base / 'study.db'}"


def journalled(base: Path) -> tuple[str, Any]:
    return "study.log", JournalStorage(JournalFileBackend(str(base / "study.log")))


@pytest.mark.parametrize("storage", [sqlite, journalled])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_points_of_a_study_come_by_its_values_as_they_were_suggested(
    tmp_path: Path, storage: Any, direction: Literal["minimize", "maximize"]
) -> None:
    name, where = storage(tmp_path)
    study = optuna.create_study(
        storage=where, study_name="one", direction=direction, sampler=optuna.samplers.RandomSampler(1)
    )
    study.optimize(objective, n_trials=15)
    before = contents(tmp_path)
    found = list(ranked("optuna", name, {}, tmp_path))
    assert contents(tmp_path) == before
    assert found[0] == (f"trial {study.best_trial.number}", study.best_params, ())
    values = [params["lr"] * params["layers"] for _, params, _ in found]
    assert values == sorted(values, reverse=direction == "maximize")
    pruned = [one for one in study.trials if one.state is optuna.trial.TrialState.PRUNED]
    assert pruned
    assert len(found) == 15 - len(pruned)


def test_study_of_several_objectives_gives_its_front_first(tmp_path: Path) -> None:
    study = optuna.create_study(storage=sqlite(tmp_path)[1], directions=["minimize", "maximize"])
    for first, second in [(3, 1), (1, 1), (2, 5), (1.5, 0)]:
        trial = optuna.trial.create_trial(
            params={"x": first},
            distributions={"x": optuna.distributions.FloatDistribution(0, 9)},
            values=[first, second],
        )
        study.add_trial(trial)
    assert [name for name, _, _ in ranked("optuna", "study.db", {}, tmp_path)] == [
        *("trial 1", "trial 2"),
        *("trial 3", "trial 0"),
    ]


def test_study_is_found_by_name_or_url_and_near_misses_are_named(tmp_path: Path) -> None:
    _, where = sqlite(tmp_path)
    for name in ("coarse", "fine"):
        study = optuna.create_study(storage=where, study_name=name)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert len(list(ranked("optuna", where, {"study": "fine"}, tmp_path / "elsewhere"))) == 1
    with pytest.raises(UsageError, match="there are 2 studies in it") as caught:
        list(ranked("optuna", "study.db", {}, tmp_path))
    assert caught.value.hint == "add study: 'coarse' or 'fine'"
    with pytest.raises(UsageError, match="no study 'coars'; did you mean 'coarse'"):
        list(ranked("optuna", "study.db", {"study": "coars"}, tmp_path))


def test_what_is_no_storage_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("a,b\n1,2\n")
    (tmp_path / "torn.db").write_bytes(b"SQLite format 3\0" + bytes(500))
    for place, words in {
        "p.csv": "neither an SQLite database nor a journal",
        "torn.db": "no Optuna storage that can be read",
        "no.db": "there is no such file",
        "nosuch://host/db": "no Optuna storage that can be read",
    }.items():
        with pytest.raises(UsageError, match=words):
            list(ranked("optuna", place, {}, tmp_path))
