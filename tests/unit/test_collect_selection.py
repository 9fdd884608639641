"""How sure the choice is: selection.json, the keys of the other documents, and the words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from hpc_search.collect import collect
from hpc_search.collect.final import NAME
from hpc_search.ledger import vault
from hpc_search.records import vault as records
from hpc_search.records.search import Choice, Metric, StrategySpec
from hpc_search.records.splits import SplitsIndex
from tests.folded_run import FoldedRun
from tests.run_builder import RunBuilder
from tests.unit.test_collect import document, table
from tests.unit.test_collect_folds import flat

#: Files that say nothing about how the results came to be.
PLAIN = (
    *("summary.csv", "folds.csv", "top_k.json", "best_hyperparams.json", "selection.json"),
    "results.csv",
)


def noisy(root: Path, points: int = 4, **more: int) -> FoldedRun:
    """Points that differ by 0.01 each over five folds that differ by 0.1, with noise of 0.02."""
    run = FoldedRun(root, points=points, folds=5, **more)
    for trial in range(points * 5):
        point, fold = trial % points, trial // points
        run.end(trial, 0.5 + point / 100 + fold / 10 + (trial * 7 % 5 - 2) / 100)
    return run


def test_the_interval_of_a_point_over_folds_is_the_corrected_t_interval(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=1, folds=5)
    for fold, value in enumerate((0.1, 0.2, 0.3, 0.4, 0.5)):
        run.end(fold, value)
    layout = run.write()

    text = collect(layout).text()

    # sd 0.158114; 16 rows train and 4 validate: 0.158114 x sqrt(1/5 + 4/16) = 0.106066, x t(4) = 2.776445.
    best = document(layout, "best_hyperparams.json")
    assert best["se"] == pytest.approx(0.10606602)
    assert best["interval"] == {
        "low": pytest.approx(0.3 - 0.294486, abs=1e-6),
        "high": pytest.approx(0.3 + 0.294486, abs=1e-6),
        "level": 0.95,
        "method": "corrected t on 5 folds",
    }
    assert document(layout, "top_k.json")["points"][0]["interval"] == best["interval"]
    (known,) = document(layout, "selection.json")["intervals"]
    assert (known["n"], known["sd"]) == (5, pytest.approx(0.15811388))
    assert (
        "95 % interval of point 0: 0.005514 to 0.5945 (corrected t on 5 folds; standard error 0.106)"
        in flat(text)
    )
    assert "at the folds' training size (16 samples)" in flat(text)
    # There is nothing to choose from.
    assert "chosen among" not in text


def test_points_that_cannot_be_told_from_the_best_are_named(tmp_path: Path) -> None:
    layout = noisy(tmp_path / "run").write()

    text = flat(collect(layout).text())

    found = document(layout, "selection.json")
    assert found["candidates"] == 4
    assert found["comparison"]["best"] == found["chosen"]["point"]
    others = found["comparison"]["alike"][1:]
    assert f"cannot be told from point {found['chosen']['point']}: {', '.join(map(str, others))}" in text
    assert "chosen among 4 points, it looks better than it is: corrected score" in text
    assert "rough: from the folds' values only" in text
    assert "if all 4 points were equally good" in text


def test_a_point_that_leads_clearly_is_said_to_be_better_than_all_others(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=4, folds=5)
    for trial in range(20):
        point = trial % 4
        run.end(trial, (0.9 if point == 2 else 0.1) + trial // 4 / 100 + (trial * 7 % 5) / 1000)
    layout = run.write()

    text = flat(collect(layout).text())

    assert document(layout, "selection.json")["comparison"]["alike"] == [2]
    assert "point 2 is better than every other complete point" in text


def test_of_one_value_a_point_is_said_what_cannot_be_said(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", folds=0)
    for trial in range(4):
        run.end(trial, trial / 10)
    layout = run.write()

    text = flat(collect(layout).text())

    assert "one value a point: no standard error, no interval" in text
    assert "the best of 4 looks better than it is, by how much cannot be said" in text
    best = document(layout, "best_hyperparams.json")
    assert (best["point"], best["se"], best["interval"]) == (3, None, None)
    assert document(layout, "selection.json")["intervals"] == []


def test_one_value_a_point_needs_no_numpy(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", folds=0)
    run.end(0, 0.5)
    layout = run.write()
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from hpc_search.layout import Layout\n"
        "from hpc_search.collect.outcome import outcome\n"
        "from hpc_search.collect.reading import read_attempts\n"
        "from hpc_search.collect.selection import judge\n"
        "from hpc_search.planning import load_plan\n"
        f"layout = Layout(Path({str(layout.root)!r}))\n"
        "judged = judge(layout, outcome(load_plan(layout), read_attempts(layout)), None)\n"
        "print(judged.point, 'numpy' in sys.modules, 'scipy' in sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.split() == ["0", "False", "False"]


def test_one_standard_error_chooses_the_simplest_and_says_so(tmp_path: Path) -> None:
    run = noisy(tmp_path / "run")
    run.change(choose=Choice(rule="one_standard_error", simpler=("width",)))
    layout = run.write()

    collected = collect(layout)

    # Folds differ by 0.1, so that all four points are within one standard error of the best one.
    assert collected.best is not None
    assert collected.best.point == 0
    best = document(layout, "best_hyperparams.json")
    assert (best["point"], best["params"]["width"], best["choice"]["rule"]) == (0, 0, "one_standard_error")
    assert best["choice"]["best"] == document(layout, "top_k.json")["points"][0]["point"] != 0
    assert "point 0 is the simplest" in flat(collected.text())
    assert document(layout, "selection.json")["selected"]["point"] == 0
    assert [row["point"] for row in table(layout, "folds.csv")] == ["0"] * 5


def test_each_outer_fold_chooses_by_its_own_folds_only(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=2, folds=4, outer=2)
    # Point 0 wins in folds 0 and 1, point 1 in folds 2 and 3, and over all.
    for trial, value in enumerate((0.6, 0.5, 0.7, 0.5, 0.1, 0.9, 0.1, 0.8)):
        run.end(trial, value)
    layout = run.write()

    text = flat(collect(layout).text())

    found = document(layout, "selection.json")
    assert [(one["outer"], one["folds"], one["point"]) for one in found["outer"]] == [
        (0, [0, 1], 0),
        (1, [2, 3], 1),
    ]
    assert found["outer"][0]["mean"] == pytest.approx(0.65)
    assert [row["point"] for row in table(layout, "folds.csv")] == ["0", "0", "1", "1"]
    assert "fold 0: point 0, fold 1: point 1" in text
    assert "what is estimated is the procedure that chooses, not one point" in text


def test_with_several_objectives_it_is_said_what_was_not_tested(tmp_path: Path) -> None:
    run = noisy(tmp_path / "run")
    run.change(objectives=(Metric(name="val_acc", goal="max"), Metric(name="seconds", goal="min")))
    layout = run.write()

    text = flat(collect(layout).text())

    assert "all of this is about val_acc alone; nothing was tested about seconds" in text


def test_a_stage_of_chosen_points_says_which_luck_is_left(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=2, folds=2)
    again = {
        "stage": 1,
        "stage_name": "seeds",
        "needs": 0,
        "strategy": StrategySpec("top", {"points": 1, "stage": ""}),
    }
    run.add(points=1, seeds=(1, 2), **again)
    for trial, value in enumerate((0.5, 0.9, 0.5, 0.9)):
        run.end(trial, value)
    for trial, value in enumerate((0.6, 0.7, 0.6, 0.7), start=4):
        run.end(trial, value, point=2, fold=(trial - 4) // 2, seed=1 + trial % 2)
    layout = run.write()

    collected = collect(layout)

    assert collected.best is not None
    # Of the fresh seeds alone.
    assert collected.best.point == 2
    assert collected.best.mean == pytest.approx(0.65)
    assert "stage seeds trained chosen points again" in flat(collected.text())
    assert "that of the validation data did (the folds are the same)" in flat(collected.text())


def test_two_runs_of_one_search_give_the_same_bytes(tmp_path: Path) -> None:
    calm = noisy(tmp_path / "calm", rows=40)
    other = noisy(tmp_path / "other", rows=40)
    # Another run of the same search: other random digits, another history.
    other.plan = msgspec.structs.replace(other.plan, run_id=other.plan.search_id + "fedcba98", created=9.0)
    other.change()
    other.lines.clear()
    for trial in reversed(range(20)):
        point, fold = trial % 4, trial // 4
        other.end(trial, state="pending", cause="preempted", worker=9, t=5.0)
        value = 0.5 + point / 100 + fold / 10 + (trial * 7 % 5 - 2) / 100
        other.end(trial, value, attempt=2, worker=20 + trial, seconds=77.0, node="other")

    collect(calm.write())
    collect(other.write())

    for name in PLAIN:
        assert calm.layout.result(name).read_bytes() == other.layout.result(name).read_bytes(), name
    assert document(calm.layout, "search_results.json")["run_id"] == calm.plan.run_id


def opened(run: FoldedRun, number: int, reason: str = "") -> records.Opening:
    by = msgspec.structs.replace(vault.person("c0de"), user="ada", host="node-7", when=1_750_000_000.0)
    unit = records.Unit(
        trial=9, point=4, fold=1, seed=0, params={"width": 3}, files={"x.h5": "d"}, on="train+val"
    )
    return records.Opening(
        number=number,
        run_id=run.plan.run_id,
        search_id=run.plan.search_id,
        by=by,
        units=(unit,),
        manifests={"splits/fold_01/test.csv": "m"},
        reason=reason,
    )


def gave(run: FoldedRun, opening: records.Opening, value: float) -> records.Result:
    interval = records.Interval(low=value - 0.1, high=value + 0.1, method="bootstrap", over="200 samples")
    return records.Result(
        opening=opening.number,
        of=vault.digest_of(opening),
        run_id=run.plan.run_id,
        by=opening.by,
        units=(records.Tested(trial=9, metrics={"val_acc": value}, samples=200, digest="s"),),
        values=(records.Value(part="", metric="val_acc", mean=value, sd=None, n=1, interval=interval),),
    )


def test_final_results_say_what_the_test_gave_and_how_often_it_was_opened(tmp_path: Path) -> None:
    run = noisy(tmp_path / "run")
    layout = run.write()
    collect(layout)
    assert not layout.result(NAME).exists()
    first = opened(run, 1)
    vault.publish_opening(layout, first)

    assert "nothing came of it yet" in flat(collect(layout).text())
    vault.publish_result(layout, gave(run, first, 0.75))
    text = flat(collect(layout).text())

    assert "test: val_acc = 0.75 (one value); 95 % interval 0.65 to 0.85 (bootstrap over 200 samples)" in text
    assert "the test side was opened once: 2025-06-15T15:06:40Z by ada on node-7" in text
    found = document(layout, NAME)
    assert (found["opened"], found["opening"], found["openings"][0]["finished"]) == (1, 1, True)
    assert found["units"][0]["metrics"] == {"val_acc": 0.75}
    assert found["units"][0]["params"] == {"width": 3}

    second = opened(run, 2, "the labels of one series were wrong")
    vault.publish_opening(layout, second)
    vault.publish_result(layout, gave(run, second, 0.8))
    text = flat(collect(layout).text())
    assert "opened 2 times" in text
    assert "then 2: the labels of one series were wrong" in text
    assert document(layout, NAME)["values"][0]["mean"] == 0.8


def test_a_vault_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    run = noisy(tmp_path / "run")
    layout = run.write()
    vault.publish_opening(layout, opened(run, 1))
    layout.vault_opening(1).write_bytes(b"{}\n")

    assert "warning:" in collect(layout).text()
    assert not layout.result(NAME).exists()


def test_splits_of_an_earlier_version_cost_only_what_they_say(tmp_path: Path) -> None:
    run = noisy(tmp_path / "run")
    layout = run.write()
    index = msgspec.json.decode(layout.splits_index.read_bytes(), type=SplitsIndex)
    layout.splits_index.write_bytes(msgspec.json.encode({"version": 1, "files": list(index.files)}))

    collect(layout)

    # As many folds as five would have: four fifths train, one validates.
    assert document(layout, "selection.json")["intervals"][0]["method"] == "corrected t on 5 folds"
    assert document(layout, "selection.json")["train"] is None
