"""Points by search and stage: those of a later stage stand before those of an earlier one. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from hpc_search.collect.columns import Column
from hpc_search.collect.pareto import settled
from hpc_search.collect.reading import Attempt
from hpc_search.records.plan import Block, Plan
from hpc_search.records.search import Part
from hpc_search.stats import PointScore, rank_points


def ranked(plan: Plan, blocks: Sequence[Block], ends: Sequence[Attempt]) -> list[PointScore]:
    """Return the points of *ends*, search by search; in each the complete ones first, the last stage first.

    Epochs and seeds may differ between stages, so that only points of one stage are compared by their values.
    """
    groups: dict[tuple[str, int], list[Block]] = {}
    for block in blocks:
        groups.setdefault((block.part, block.stage), []).append(block)
    expected = _Expected(blocks)
    if not blocks:
        return []
    if len(groups) == 1:
        return _best_first(plan, blocks[0], ends, expected)
    found = split(blocks, ends)
    scores: list[PointScore] = []
    for part in dict.fromkeys(block.part for block in blocks):
        stages = sorted((key for key in groups if key[0] == part), key=lambda key: -key[1])
        mine = [_best_first(plan, groups[key][0], found[key], expected) for key in stages]
        whole = [score for stage in mine for score in stage if score.complete]
        rest = [score for stage in mine for score in stage if not score.complete]
        for rank, score in enumerate([*whole, *rest], start=1):
            score.rank = rank
        scores += [*whole, *rest]
    return scores


def _best_first(plan: Plan, block: Block, ends: Sequence[Attempt], expected: _Expected) -> list[PointScore]:
    part = plan.part(block)
    return settled(rank_points(ends, part.metric.goal, expected), part.objectives)


class _Expected:
    """How many trials a point has: folds x seeds, over every block that has it."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks
        self._only = blocks[0].trials // max(1, blocks[0].points) if len(blocks) == 1 else 0

    def __call__(self, point: int) -> int:
        return self._only or sum(
            max(1, len(block.folds)) * len(block.seeds)
            for block in self._blocks
            if block.first_point <= point < block.first_point + block.points
        )


def within(blocks: Sequence[Block], ends: Iterable[Attempt]) -> list[Attempt]:
    """Return those of *ends* whose trials are of one of *blocks*, which are some of all."""
    return [end for mine in split(blocks, ends).values() for end in mine]


def split(blocks: Sequence[Block], ends: Iterable[Attempt]) -> dict[tuple[str, int], list[Attempt]]:
    """Return (search, stage) -> those of *ends* whose trials are of its *blocks*."""
    firsts = [block.first for block in blocks]
    found: defaultdict[tuple[str, int], list[Attempt]] = defaultdict(list)
    for end in ends:
        block = blocks[bisect_right(firsts, end.trial) - 1]
        if block.first <= end.trial < block.first + block.trials:
            found[block.part, block.stage].append(end)
    return found


class Stage(NamedTuple):
    """One stage of one search: what the plan has, what ended, its points, best first."""

    part: Part
    name: str
    trials: int
    points: int
    finished: int
    scores: list[PointScore]


def stages(
    plan: Plan, blocks: Sequence[Block], ends: Sequence[Attempt], scores: Sequence[PointScore]
) -> Iterator[Stage]:
    """Yield the stages, search by search; none where there is only one."""
    keys = dict.fromkeys((block.part, block.stage) for block in blocks)
    if len(keys) < 2:
        return
    found = split(blocks, ends)
    for part in plan.search.parts:
        for key in sorted(key for key in keys if key[0] == part.name):
            mine = [block for block in blocks if (block.part, block.stage) == key]
            numbers = {
                number for one in mine for number in range(one.first_point, one.first_point + one.points)
            }
            of_stage = [score for score in scores if score.point in numbers]
            trials = sum(block.trials for block in mine)
            yield Stage(part, mine[0].stage_name, trials, len(numbers), len(found[key]), of_stage)


def last_stage(blocks: Sequence[Block], scores: Sequence[PointScore]) -> list[PointScore]:
    """Return those of *scores* that are of the stage of the first one."""
    if len({block.stage for block in blocks}) < 2:
        return list(scores)
    if not scores:
        return []
    last = block_of(blocks, scores[0].point).stage
    return [score for score in scores if block_of(blocks, score.point).stage == last]


def block_of(blocks: Sequence[Block], point: int) -> Block:
    """Return the first of *blocks* that has *point*."""
    return next(block for block in blocks if block.first_point <= point < block.first_point + block.points)


def labels(plan: Plan, blocks: Sequence[Block], point: int) -> dict[str, str]:
    """Return the ``search`` and the ``stage`` of *point*, where the plan has several."""
    block = block_of(blocks, point)
    found = {"search": block.part} if plan.search.searches else {}
    return {**found, "stage": block.stage_name} if has_stages(blocks) else found


def has_stages(blocks: Sequence[Block]) -> bool:
    """Return whether *blocks* are stages."""
    return any(block.stage_name for block in blocks)


def columns(plan: Plan, blocks: Sequence[Block], points: Sequence[int]) -> list[Column]:
    """Return the columns ``search`` and ``stage`` of rows about *points*, where the plan has several."""
    if not plan.search.searches and not has_stages(blocks):
        return []
    known = {point: labels(plan, blocks, point) for point in set(points)}
    names = ["search"] * bool(plan.search.searches) + ["stage"] * has_stages(blocks)
    return [Column(name, [known[point][name] for point in points], kind="str") for name in names]
