"""Refit stages: their blocks, the point that is chosen for them, and that numbers never move."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from hpc_search import config
from hpc_search.config import parse_search
from hpc_search.layout import Layout
from hpc_search.ledger.history import Result
from hpc_search.planning.blocks import blocks_of
from hpc_search.planning.refitting import refit_blocks, with_refit
from hpc_search.records.journal import End
from hpc_search.records.plan import Block, Plan, encode_plan, parse_plan
from hpc_search.records.search import DataSpec, FoldsSpec, RefitSpec
from hpc_search.records.splits import DataRecord, FoldRecord, SplitsIndex
from hpc_search.steering import choosing

SEARCH = """
name: x
trial: train.py:train
metric: {name: acc, goal: max}
space: {a: [1, 2, 3]}
strategy: grid
"""
SHARED = tuple(FoldRecord(number=fold, sides={}, test="same") for fold in range(3))
ROTATING = tuple(FoldRecord(number=fold, sides={}, test=f"{fold}") for fold in range(1, 4))
NESTED = tuple(FoldRecord(number=fold, outer=fold // 2, sides={}, test=f"{fold // 2}") for fold in range(4))


def plan_of(folds: tuple[FoldRecord, ...], text: str = SEARCH) -> Plan:
    search = parse_search(text.encode(), "s.yaml")
    blocks = blocks_of(search, folds)
    points, trials = (sum(getattr(block, name) for block in blocks) for name in ("points", "trials"))
    return Plan(
        search_id="x", run_id="x-y", created=1.0, search=search, blocks=blocks, points=points, trials=trials
    )


def ends(block: Block, rows: list[list[float | None]]) -> dict[int, Result]:
    """Return the results of *block*: of each fold the values of its points; None for a failure."""
    found = {}
    for fold, row in enumerate(rows):
        for point, value in enumerate(row):
            number = block.first + fold * block.points + point
            state = "done" if value is not None else "failed"
            params = {"a": point + 1}
            end = End(trial=number, attempt=1, state=state, params=params, value=value)  # type: ignore[arg-type]
            found[number] = Result(end, "w", f"{number:016x}")
    return found


def test_a_refit_comes_last_and_leaves_every_number_as_it_was() -> None:
    plan = plan_of(SHARED)
    more = with_refit(plan, RefitSpec(seeds=(0, 1)), SHARED)
    assert more.blocks[:1] == plan.blocks
    block = more.blocks[1]
    assert (block.first, block.first_point, block.points, block.trials, block.needs) == (9, 3, 1, 2, 0)
    assert (block.folds, block.refit, block.seeds) == ((2,), "train+val", (0, 1))
    assert (more.number, more.trials, more.added) == (2, 11, (9,))
    assert [stage.name for stage in more.search.parts[0].stages] == ["", "refit"]
    assert with_refit(more, RefitSpec(seeds=(1,)), SHARED) is more
    assert parse_plan(encode_plan(more), "plan") == more


def test_seeds_that_are_asked_for_later_are_trials_of_the_same_point() -> None:
    one = with_refit(plan_of(SHARED), RefitSpec(), SHARED)
    more = with_refit(one, RefitSpec(seeds=(0, 1, 2)), SHARED)
    block = more.blocks[2]
    assert (block.first, block.first_point, block.seeds, block.trials) == (10, 3, (1, 2), 2)
    assert more.points == one.points == 4
    stage = more.search.parts[0].stages[1]
    assert stage.seeds == (0, 1, 2)
    assert stage.refit == RefitSpec(seeds=(0, 1, 2))
    assert refit_blocks(more) == refit_blocks(more, "train+val") == [1, 2]


def test_the_point_is_the_best_complete_one_over_all_folds() -> None:
    plan = with_refit(plan_of(SHARED), RefitSpec(), SHARED)
    results = ends(plan.blocks[0], [[1.0, 2.0, 9.0], [1.0, 3.0, 9.0], [1.0, 4.0, None]])
    opened = choosing.chosen(plan, 1, results)
    assert opened is not None
    assert opened.given == ({"a": 2},)
    assert opened.of == {number: f"{number:016x}" for number in range(9)}
    assert opened.why == "point 1, the best of 2 complete points by acc (max), mean 3 of 3 trials"
    asked = choosing.chosen(plan, 1, results, point=0)
    assert asked is not None
    assert asked.given == ({"a": 1},)
    assert "as asked for; by acc (max) it is number 2 of 2 complete points" in asked.why
    assert choosing.chosen(plan, 1, results, point=2) is None, "it is not complete"


def test_points_and_seeds_of_an_amendment_count() -> None:
    plan = plan_of(())
    first = plan.blocks[0]
    seeds = replace(first, first=3, seeds=(5,))
    grown = with_refit(replace(plan, blocks=(first, seeds), trials=6), RefitSpec(), ())
    results = ends(first, [[1.0, 2.0, 3.0]]) | ends(seeds, [[1.0, 4.0, 1.0]])
    opened = choosing.chosen(grown, 2, results)
    assert opened is not None
    assert opened.given == ({"a": 2},), "means over both seeds: 1, 3, 2"
    assert "mean 3 of 2 trials" in opened.why


def test_each_outer_fold_chooses_by_its_own_folds() -> None:
    plan = with_refit(plan_of(NESTED), RefitSpec(), NESTED)
    assert [(block.folds, block.outer) for block in plan.blocks[1:]] == [((1,), 0), ((3,), 1)]
    results = ends(plan.blocks[0], [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [9.0, 2.0, 3.0], [9.0, 2.0, 3.0]])
    splits = SplitsIndex(
        ids="int",
        spec=FoldsSpec(kind="kfold", n=2, outer=2),
        data=DataRecord(spec=DataSpec(), rows=8, table=""),
        folds=NESTED,
        files={},
    )
    first = choosing.chosen(plan, 1, results, splits)
    second = choosing.chosen(plan, 2, results, splits)
    assert first is not None
    assert second is not None
    assert (first.given, second.given) == (({"a": 3},), ({"a": 1},))
    assert sorted(second.of) == [6, 7, 8, 9, 10, 11]
    assert second.why.startswith("outer fold 1: point 0, the best of 3 complete points")


def test_rotating_folds_are_trained_again_one_by_one() -> None:
    plan = with_refit(plan_of(ROTATING), RefitSpec(), ROTATING)
    assert [block.folds for block in plan.blocks[1:]] == [(1, 2, 3)]
    last = with_refit(plan, RefitSpec(on="everything"), ROTATING)
    assert [(block.stage_name, block.folds, block.needs) for block in last.blocks[1:]] == [
        ("refit", (1, 2, 3), 0),
        ("everything", (3,), 1),
    ]
    assert refit_blocks(last, "everything") == [2]


def test_a_search_with_a_refit_is_written_down_and_read_again(tmp_path: Path) -> None:
    plan = with_refit(plan_of(()), RefitSpec(seeds=(0, 1)), ())
    text = config.dump_search(plan.search)
    assert "refit" in text
    assert str(Layout(tmp_path).later_search(2)).endswith("search.002.yaml")
