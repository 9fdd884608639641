"""The point that a refit trains again: the one that the search's rule chooses of its last stage. Pure.

An amendment adds points or seeds to a stage as further blocks: all of them count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from hpc_search.ledger.history import Result
from hpc_search.planning.numbers import split_number
from hpc_search.records.plan import Block, Plan
from hpc_search.records.search import Part
from hpc_search.records.splits import SplitsIndex
from hpc_search.records.stages import Opened
from hpc_search.space import Choice, Space
from hpc_search.stats import Chosen, FoldSizes, PointScore, Row, choose, rank_points, size_ratio

Results = Mapping[int, Result]


def sources(plan: Plan, block: Block) -> list[Block]:
    """Return the blocks whose points the refit *block* chooses from."""
    name = block.strategy.options["stage"]
    return [one for one in plan.blocks if (one.part, one.stage_name, one.refit) == (block.part, name, "")]


def folds_of(block: Block, splits: SplitsIndex | None) -> frozenset[int] | None:
    """Return the folds that choose the point of the refit *block*, None where all do."""
    if block.outer is None or splits is None:
        return None
    return frozenset(fold.number for fold in splits.folds if fold.outer == block.outer)


def sizes_of(splits: SplitsIndex, folds: Collection[int] | None = None) -> list[FoldSizes]:
    """Return how many rows the *folds* train on and validate on, None for all."""
    return [
        FoldSizes(*(splits.files[fold.sides[side]].rows for side in ("train", "val")))
        for fold in splits.folds
        if (folds is None or fold.number in folds) and {"train", "val"} <= fold.sides.keys()
    ]


def orders_of(space: Space) -> dict[str, tuple[Any, ...]]:
    """Return the values of every parameter that has a list of them, in its order."""
    listed = {name: one.values for name, one in space.dimensions.items() if isinstance(one, Choice)}
    return listed | {name: values for group in space.linked for name, values in group.items()}


def by_rule(
    part: Part,
    scores: Sequence[PointScore],
    params: Mapping[int, Mapping[str, Any]],
    sizes: Iterable[FoldSizes],
) -> Chosen | None:
    """Return the choice of the search *part* from *scores*, best first; None without a complete point."""
    if part.choose.rule == "best":
        return choose(scores, part.metric.goal)
    return choose(
        scores,
        part.metric.goal,
        simpler=part.choose.simpler,
        params=params,
        orders=orders_of(part.space),
        ratio=size_ratio(sizes),
    )


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
    plan: Plan, place: int, results: Results, splits: SplitsIndex | None = None, point: int | None = None
) -> Opened | None:
    """Return how the refit block at *place* opens: with the chosen point, or with *point*; None without one.

    Every trial of its source has a result; *splits* are those of the data, None where nothing is split.
    """
    block, part = plan.blocks[place], plan.part(plan.blocks[place])
    folds = folds_of(block, splits)
    scores = ranked(plan, block, results, folds)
    params = {score.point: results[score.rows[0].trial].end.params for score in scores}
    found = by_rule(part, scores, params, sizes_of(splits, folds) if splits is not None else ())
    if found is None:
        return None
    wanted = found.point if point is None else point
    score = next((one for one in scores if one.complete and one.point == wanted), None)
    if score is None:
        return None
    numbers = [
        number
        for one in sources(plan, block)
        for number in range(one.first, one.first + one.trials)
        if folds is None or split_number(one, number)[1] in folds
    ]
    return Opened(
        block=place,
        space=block.space,
        given=(params[score.point],),
        of={number: results[number].checksum for number in numbers},
        why=_why(block, part, scores, score, None if point is not None else found),
        point=score.point,
    )


def _why(
    block: Block, part: Part, scores: Sequence[PointScore], score: PointScore, found: Chosen | None
) -> str:
    """Return in words what was chosen from what; *found* is None where a person did it."""
    whole = sum(one.complete for one in scores)
    where = f" of stage {name}" if (name := block.strategy.options["stage"]) else ""
    of = f"{whole} complete point{'s' if whole > 1 else ''}{where}"
    by = f"{part.metric.name} ({part.metric.goal})"
    if found is None:
        how = f"as asked for; by {by} it is number {score.rank} of {of}"
    elif part.choose.rule == "best":
        how = f"the best of {of} by {by}"
    else:
        how = (
            f"the simplest ({', '.join(part.choose.simpler)}) of {len(found.within)} within one standard "
            f"error of the best, point {found.best}, of {of} by {by}"
        )
    outer = f"outer fold {block.outer}: " if block.outer is not None else ""
    value = f"mean {score.mean:.6g} of {score.n} trial{'s' if score.n > 1 else ''}"
    return f"{outer}point {score.point}, {how}, {value}"
