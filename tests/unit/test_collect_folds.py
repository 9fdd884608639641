"""collect of folds: folds.csv, refits that are never ranked, scores of samples that are believed or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search.collect import collect
from hpc_search.ledger import fold as folding
from hpc_search.ledger import this_process
from hpc_search.records.journal import Exit
from hpc_search.records.search import StrategySpec
from tests.folded_run import FoldedRun
from tests.unit.test_collect import document, table

#: Point 1 of two is best: 0.75 against 0.3.
VALUES = {0: (0.2, 0.4), 1: (0.8, 0.7)}


def flat(text: str) -> str:
    """Sentences are broken to fit a terminal."""
    return " ".join(text.split())


def test_folds_csv_has_a_row_a_fold_with_sides_trials_and_the_chosen_points_value(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=3, folds=2)
    for point, values in VALUES.items():
        for fold, value in enumerate(values):
            run.end(fold * 3 + point, value, metrics={"val_acc": value, "loss": 1 - value, "name": "x"})
    run.end(2, state="failed", cause="oom")
    layout = run.write()

    collect(layout)

    first, second = table(layout, "folds.csv")
    assert [first[name] for name in ("fold", "train_rows", "val_rows", "test_rows")] == ["0", "10", "10", ""]
    assert first["train_manifest"] == "splits/fold_00/train.csv"
    assert len(first["train_digest"]) == 32
    assert [first[name] for name in ("trials", "done", "failed", "pruned", "left")] == [
        "3",
        "2",
        "1",
        "0",
        "0",
    ]
    assert [second[name] for name in ("trials", "done", "failed", "pruned", "left")] == [
        "3",
        "2",
        "0",
        "0",
        "1",
    ]
    assert (first["point"], first["value"], second["value"]) == ("1", "0.8", "0.7")
    assert float(first["metric_loss"]) == pytest.approx(0.2)
    assert "metric_name" not in first
    # Of the complete points 0 and 1 only.
    assert first["points_complete"] == "2"
    assert float(first["mean"]) == pytest.approx(0.5)
    assert float(first["sd"]) == pytest.approx(0.18**0.5)
    assert first["audit_log"] == "audit/fold_00.log"


def test_folds_csv_is_replaced_and_never_has_a_fold_twice(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=1, folds=5)
    for fold in (0, 1, 2):
        run.end(fold, 0.5)
    collect(run.write())
    for fold in (3, 4):
        run.end(fold, 0.5)

    collect(run.write())
    collect(run.layout)

    assert [row["fold"] for row in table(run.layout, "folds.csv")] == ["0", "1", "2", "3", "4"]


def test_one_point_over_five_folds_is_said_as_mean_and_sd_over_the_folds(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=1, folds=5)
    for fold, value in enumerate((0.1, 0.2, 0.3, 0.4, 0.5)):
        run.end(fold, value)
    layout = run.write()

    text = collect(layout).text()

    assert "point 0, val_acc = 0.3 +- 0.158114 (mean and standard deviation over 5 folds" in text
    assert [row["value"] for row in table(layout, "folds.csv")] == ["0.1", "0.2", "0.3", "0.4", "0.5"]


def test_seeds_of_the_chosen_point_are_averaged_in_a_fold(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=1, folds=2)
    run.add(first_point=0, seeds=(1,))
    for trial, value in enumerate((0.1, 0.2, 0.3, 0.4)):
        run.end(trial, value, point=0, fold=trial % 2, seed=trial // 2)
    layout = run.write()

    collect(layout)

    values = [float(row["value"]) for row in table(layout, "folds.csv")]
    assert values == pytest.approx([0.2, 0.3])


def test_a_refit_is_in_results_csv_and_nowhere_else(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=2, folds=2)
    run.add(
        points=1,
        folds=(1,),
        seeds=(0, 1),
        refit="train+val",
        stage=1,
        stage_name="refit",
        needs=0,
        strategy=StrategySpec("top", {"points": 1, "stage": ""}),
    )
    for point, values in VALUES.items():
        for fold, value in enumerate(values):
            run.end(fold * 2 + point, value)
    # One of them says a number that would win.
    run.end(4, 99.0, point=2, fold=1, seed=0)
    run.end(5, None, point=2, fold=1, seed=1)
    layout = run.write()

    collected = collect(layout)

    assert collected.best is not None
    assert (collected.best.point, collected.points, collected.trials) == (1, 2, 6)
    assert [row["stage"] for row in table(layout, "results.csv")] == ["", "", "", "", "refit", "refit"]
    assert [row["point"] for row in table(layout, "summary.csv")] == ["1", "0"]
    assert [one["point"] for one in document(layout, "top_k.json")["points"]] == [1, 0]
    assert document(layout, "best_hyperparams.json")["point"] == 1
    assert [row["trials"] for row in table(layout, "folds.csv")] == ["2", "2"]
    assert "refit (train+val): 2 of 2 trials finished" in collected.text()
    assert "2 of 2 points complete" in collected.text()


def test_an_incomplete_point_is_shown_below_with_what_is_missing_and_never_averaged(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=2, folds=3)
    for fold, value in enumerate((0.2, 0.3, 0.4)):
        run.end(fold * 2, value)
    # Its two folds are better than any of the other one's.
    run.end(1, 0.9)
    run.end(3, 0.9)
    run.end(5, state="failed", cause="error")
    layout = run.write()

    collected = collect(layout)

    assert collected.best is not None
    assert collected.best.point == 0
    assert "incomplete, not compared:" in collected.text()
    assert "point 1: 2 of 3 values, missing 1 failed(error)" in collected.text()
    assert [one["point"] for one in document(layout, "selection.json")["intervals"]] == [0]


def scored(root: Path, **more: int) -> FoldedRun:
    """Two points over two folds of 40 samples; every score is 0 or 1, point 1 is better."""
    run = FoldedRun(root, points=2, folds=2, rows=80, **more)
    for trial in range(4):
        right = 10 if trial % 2 == 0 else 30
        run.scored(trial, [1.0] * right + [0.0] * (40 - right), worker=trial % 2 + 1)
    return run


def test_scores_of_samples_give_the_interval(tmp_path: Path) -> None:
    layout = scored(tmp_path / "run").write()

    collected = collect(layout)

    found = document(layout, "selection.json")
    assert (found["sampled"], found["notes"]) == (2, [])
    assert "80 samples" in found["intervals"][0]["method"]
    assert "warning" not in collected.text()


def test_groups_of_the_manifests_are_the_units_of_the_interval(tmp_path: Path) -> None:
    layout = scored(tmp_path / "run", groups=25).write()

    collect(layout)

    assert "25 groups" in document(layout, "selection.json")["intervals"][0]["method"]


def test_scores_of_a_worker_that_is_gone_are_read_from_the_archive(tmp_path: Path) -> None:
    run = scored(tmp_path / "run")
    for worker in (1, 2):
        run.append(worker, Exit(reason="done"))
    layout = run.write()
    collect(layout)
    before = layout.result("selection.json").read_bytes()
    assert folding.fold(layout, this_process(), many=1) == 2
    assert not list((layout.root / "samples").iterdir())

    collect(layout)

    assert layout.result("selection.json").read_bytes() == before


def test_a_metric_that_is_not_the_mean_of_its_samples_is_named_with_both_numbers(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=1, folds=2, rows=80)
    run.scored(0, [1.0] * 20 + [0.0] * 20, value=0.52)
    run.scored(1, [1.0] * 20 + [0.0] * 20)
    layout = run.write()

    text = collect(layout).text()

    assert "trial 0 reported val_acc = 0.52, the mean of its 40 samples is 0.5" in flat(text)
    assert document(layout, "selection.json")["sampled"] == 0


def test_scores_of_other_samples_than_the_validation_side_are_named(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=1, folds=2, rows=80)
    run.scored(0, [0.5] * 39, ids=run.val(0)[1:])
    run.scored(1, [0.5] * 40)
    layout = run.write()

    text = collect(layout).text()

    assert "1 trial reported them of other samples" in flat(text)
    assert "trial 0 has 39 scores, of 39 of the 40 samples" in flat(text)
    assert document(layout, "selection.json")["sampled"] == 0


def test_a_run_whose_splits_cannot_be_read_has_its_folds_all_the_same(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=1, folds=2)
    run.end(0, 0.5)
    layout = run.write()
    layout.splits_index.write_bytes(b"{")

    collect(layout)

    assert [row["train_rows"] for row in table(layout, "folds.csv")] == ["", ""]
