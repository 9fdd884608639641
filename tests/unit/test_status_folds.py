"""status of folds: how the trials of each stand, and refits that are never the best."""

from __future__ import annotations

from pathlib import Path

from hpc_search.records import index
from hpc_search.records.search import StrategySpec
from hpc_search.status import read_status
from tests.folded_run import FoldedRun


def test_every_fold_has_its_counts_and_a_failed_one_is_seen(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=3, folds=2)
    for trial in (0, 1, 3):
        run.end(trial, 0.5)
    run.end(2, state="failed", cause="oom")
    layout = run.write()

    status = read_status(layout, run.plan)

    assert [(one.fold, one.trials, one.done, one.failed, one.finished) for one in status.folds] == [
        (0, 3, 2, 1, 3),
        (1, 3, 1, 0, 1),
    ]
    assert "folds 0: 2 of 3 done, 1 failed; 1: 1 of 3 done" in status.text()


def test_what_a_race_left_out_is_told_from_what_was_pruned(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=3, folds=3)
    for trial in range(6):
        run.end(trial, 0.5)
    for trial in (6, 7):
        run.mark(trial, state=index.PRUNED, flags=index.FLAG_LEFT_OUT, attempt=1, changed=1100)
    run.mark(8, state=index.PRUNED, attempt=1, changed=1100)
    layout = run.write()

    status = read_status(layout, run.plan)

    assert (status.pruned, status.left_out, [one.left_out for one in status.folds]) == (3, 2, [0, 0, 2])
    assert "6 done, 0 failed, 3 pruned (2 left out by racing)" in status.text()
    assert "2: 0 of 3 done, 3 pruned (2 left out by racing)" in status.text(1000)


def test_many_folds_are_counted_and_not_listed(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=1, folds=20, rows=40)
    for trial in range(15):
        run.end(trial, 0.5)
    layout = run.write()

    assert "20 folds: 15 finished" in read_status(layout, run.plan).text()


def test_a_refit_is_never_the_best_and_counts_in_no_fold(tmp_path: Path) -> None:
    run = FoldedRun(tmp_path / "run", points=1, folds=2)
    top = StrategySpec("top", {"points": 1, "stage": ""})
    run.add(folds=(1,), refit="train+val", stage=1, stage_name="refit", needs=0, strategy=top)
    for trial, value in enumerate((0.5, 0.6, 99.0)):
        run.end(trial, value, point=trial // 2, fold=trial % 2)
    layout = run.write()

    status = read_status(layout, run.plan)

    assert status.best is not None
    assert status.best.value == 0.6
    assert [one.trials for one in status.folds] == [1, 1]
    assert [one.best for one in status.stages if one.stage == "refit"] == [None]
