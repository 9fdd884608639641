"""`refit`: the plan of a run with a stage that trains the chosen point again, after everything else.

Numbers never move: the stage comes last, and so do the trials of seeds that are asked for later.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from hpc_search import durable
from hpc_search.errors import TemporaryError
from hpc_search.layout import Layout
from hpc_search.planning.amending import later_files
from hpc_search.planning.blocks import digest_of, stage_blocks, stages_of
from hpc_search.planning.reading import load_plan, load_splits
from hpc_search.records.plan import Block, Plan, encode_plan
from hpc_search.records.search import Part, RefitSpec, Search, StageSpec, StrategySpec
from hpc_search.records.splits import FoldRecord

#: Names of the stages: of the one that is tested, and of the last one on all there is.
REFIT: Final = "refit"
EVERYTHING: Final = "everything"
#: Others that may change the plan first.
_TRIES: Final = 10


def refit_blocks(plan: Plan, on: str = "") -> list[int]:
    """Return the positions of the blocks that train the chosen points again; of those *on* it, "" for all."""
    return [place for place, block in enumerate(plan.blocks) if block.refit and on in ("", block.refit)]


def publish_refit(layout: Layout, spec: RefitSpec) -> Plan:
    """Return the plan of the run with the refit *spec* in all its searches, published where it was not.

    Raises:
        TemporaryError: Others change the plan all the time.
        DamagedError: splits.json cannot be read.
    """
    for _ in range(_TRIES):
        planned = load_plan(layout)
        folds = load_splits(layout).folds if planned.search.folds is not None else ()
        found = with_refit(planned, spec, folds)
        if found is planned:
            return planned
        if durable.publish(layout.later_plan(found.number), encode_plan(found)):
            for path, content in later_files(found, layout).items():
                durable.publish(path, content)
            return found
    raise TemporaryError("others change the plan of this run all the time", hint="the same command again")


def with_refit(planned: Plan, spec: RefitSpec, folds: Sequence[FoldRecord]) -> Plan:
    """Return *planned* with the refit *spec* in all its searches; itself where it has all of it."""
    blocks = list(planned.blocks)
    for part in planned.search.parts:
        known = [block for block in blocks if block.part == part.name and block.refit == spec.on]
        if known:
            _add_seeds(blocks, known, spec.seeds)
        else:
            _add_stage(blocks, part, spec, folds)
    if len(blocks) == len(planned.blocks):
        return planned
    trials = sum(block.trials for block in blocks)
    return replace(
        planned,
        created=round(time.time(), 3),
        search=_search_with(planned.search, spec),
        blocks=tuple(blocks),
        points=_points(blocks),
        trials=trials,
        number=planned.number + 1,
        added=(*planned.added, planned.trials),
    )


def _points(blocks: Sequence[Block]) -> int:
    return max(block.first_point + block.points for block in blocks)


def _add_stage(blocks: list[Block], part: Part, spec: RefitSpec, folds: Sequence[FoldRecord]) -> None:
    place = len(stages_of(part))
    needs = max(at for at, block in enumerate(blocks) if block.part == part.name)
    for block in stage_blocks(part, place, stage_of(part, spec), folds):
        _append(blocks, replace(block, needs=needs), _points(blocks))


def _add_seeds(blocks: list[Block], known: Sequence[Block], seeds: Sequence[int]) -> None:
    for outer in dict.fromkeys(block.outer for block in known):
        mine = [block for block in known if block.outer == outer]
        there = {seed for block in mine for seed in block.seeds}
        if more := tuple(seed for seed in seeds if seed not in there):
            _append(blocks, replace(mine[0], seeds=more), mine[0].first_point)


def _append(blocks: list[Block], block: Block, first_point: int) -> None:
    block = replace(block, first=blocks[-1].first + blocks[-1].trials, first_point=first_point)
    blocks.append(replace(block, digest=digest_of(block)))


def stage_of(part: Part, spec: RefitSpec) -> StageSpec:
    """Return the stage of the refit *spec* of *part*, which takes the best point of its last own stage."""
    own = [stage for stage in stages_of(part) if stage.refit is None]
    name = EVERYTHING if spec.on == "everything" and len(own) < len(stages_of(part)) else REFIT
    strategy = StrategySpec("top", {"points": 1, "stage": own[-1].name})
    return StageSpec(name=name, strategy=strategy, fixed=own[-1].fixed, seeds=spec.seeds, refit=spec)


def _search_with(search: Search, spec: RefitSpec) -> Search:
    if search.searches:
        return replace(search, searches=tuple(_part_with(part, spec) for part in search.searches))
    return replace(search, stages=_part_with(search.parts[0], spec).stages)


def _part_with(part: Part, spec: RefitSpec) -> Part:
    before = stages_of(part)
    mine = [
        place for place, stage in enumerate(before) if stage.refit is not None and stage.refit.on == spec.on
    ]
    if not mine:
        return replace(part, stages=(*before, stage_of(part, spec)))
    old = before[mine[0]].refit
    seeds = tuple(dict.fromkeys((*(old.seeds if old is not None else ()), *spec.seeds)))
    more = replace(before[mine[0]], seeds=seeds, refit=replace(spec, seeds=seeds))
    return replace(part, stages=(*before[: mine[0]], more, *before[mine[0] + 1 :]))
