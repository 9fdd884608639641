"""The point that a refit trains again: the best of all complete points of the last stage.

Pure, but for the folds of an outer fold, which stand in splits.json.

An amendment adds points or seeds to a stage as further blocks: all of them count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from hpc_search.layout import Layout
from hpc_search.ledger.history import Result
from hpc_search.planning.numbers import split_number
from hpc_search.planning.reading import load_splits
from hpc_search.records.plan import Block, Plan
from hpc_search.records.stages import Opened
from hpc_search.stats import PointScore, Row, rank_points

Results = Mapping[int, Result]


def sources(plan: Plan, block: Block) -> list[Block]:
    """Return the blocks whose points the refit *block* chooses from."""
    name = block.strategy.options["stage"]
    return [one for one in plan.blocks if (one.part, one.stage_name, one.refit) == (block.part, name, "")]


def folds_of(layout: Layout, block: Block) -> frozenset[int] | None:
    """Return the folds that choose the point of the refit *block*, None where all do.

    Raises:
        DamagedError: splits.json cannot be read.
    """
    if block.outer is None:
        return None
    return frozenset(fold.number for fold in load_splits(layout).folds if fold.outer == block.outer)


def ranked(
    plan: Plan, block: Block, results: Results, folds: Collection[int] | None = None
) -> list[PointScore]:
    """Return the points that the refit *block* chooses from, best first, as `collect` ranks them."""
    before = sources(plan, block)
    expected: dict[int, int] = {}
    for one in before:
        count = len(one.seeds) * sum(fold is None or folds is None or fold in folds for fold in _folds(one))
        for point in range(one.first_point, one.first_point + one.points):
            expected[point] = expected.get(point, 0) + count
    goal = plan.part(block).metric.goal
    return rank_points(_rows(before, results, folds), goal, lambda point: expected[point])


def _folds(block: Block) -> Sequence[int | None]:
    return block.folds or (None,)


def _rows(blocks: Sequence[Block], results: Results, folds: Collection[int] | None) -> Iterator[Row]:
    for block in blocks:
        for number in range(block.first, block.first + block.trials):
            local, fold, seed = split_number(block, number)
            if number in results and (fold is None or folds is None or fold in folds):
                end = results[number].end
                yield Row(number, block.first_point + local, fold, seed, end.state, end.cause, end.value)


def chosen(
    plan: Plan, place: int, results: Results, folds: Collection[int] | None = None, point: int | None = None
) -> Opened | None:
    """Return how the refit block at *place* opens: with the best point, or with *point*; None without one.

    *folds* are those that choose, None for all. Every trial of its source has a result.
    """
    block = plan.blocks[place]
    scores = ranked(plan, block, results, folds)
    whole = [score for score in scores if score.complete]
    score = next((one for one in whole if point in (None, one.point)), None)
    if score is None:
        return None
    metric = plan.part(block).metric
    where = f" of stage {name}" if (name := block.strategy.options["stage"]) else ""
    by = f"{metric.name} ({metric.goal})"
    of = f"{len(whole)} complete point{'s' if len(whole) > 1 else ''}{where}"
    how = f"the best of {of} by {by}"
    if point is not None:
        how = f"as asked for; by {by} it is number {score.rank} of {of}"
    outer = f"outer fold {block.outer}: " if block.outer is not None else ""
    value = f"mean {score.mean:.6g} of {score.n} trial{'s' if score.n > 1 else ''}"
    numbers = [
        number
        for one in sources(plan, block)
        for number in range(one.first, one.first + one.trials)
        if folds is None or split_number(one, number)[1] in folds
    ]
    return Opened(
        block=place,
        space=block.space,
        given=(results[score.rows[0].trial].end.params,),
        of={number: results[number].checksum for number in numbers},
        why=f"{outer}point {score.point}, {how}, {value}",
        point=score.point,
    )
