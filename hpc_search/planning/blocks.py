"""The blocks of a plan: every stage of every search, numbered at plan time. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from msgspec import structs

from hpc_search import strategies
from hpc_search.errors import UsageError
from hpc_search.records.plan import Block
from hpc_search.records.search import Part, Search, StageSpec, canonical_json
from hpc_search.records.splits import FoldRecord
from hpc_search.space import Excluded, Space, point_hash


def blocks_of(search: Search, folds: Sequence[FoldRecord]) -> tuple[Block, ...]:
    """Return the blocks of *search*: the first stage of every search, then the second of every search, ...

    Its data are split into *folds*; there are none where nothing is split. All budgets are exact, so that
    numbers exist before a stage's bounds do; a stage ``needs`` the block of the one before it in its search.

    Raises:
        UsageError: A strategy cannot search its space.
    """
    made: list[Block] = []
    last: dict[str, int] = {}
    for part, place, stage in _in_order(search):
        needs = last.get(part.name)
        for block in stage_blocks(part, place, stage, folds):
            first = made[-1].first + made[-1].trials if made else 0
            first_point = made[-1].first_point + made[-1].points if made else 0
            _check_source(tuple(made), block)
            last[part.name] = len(made)
            made.append(structs.replace(block, first=first, first_point=first_point, needs=needs))
    return tuple(made)


def _check_source(blocks: tuple[Block, ...], block: Block) -> None:
    """Raise UsageError where a stage takes more points from an earlier one than that has."""
    source = source_of(blocks, block)
    if source is not None and block.strategy.kind == "top" and block.points > blocks[source].points:
        message = (
            f"stage {block.stage_name} takes {block.points} points from stage {blocks[source].stage_name}, "
            f"which has {blocks[source].points}"
        )
        raise UsageError(message, hint="fewer points, or another stage to take them from")


def _in_order(search: Search) -> Iterator[tuple[Part, int, StageSpec]]:
    """Yield every stage with its search and its place in it, stage by stage over all searches."""
    every = [(part, stages_of(part)) for part in search.parts]
    for place, row in enumerate(zip_longest(*(stages for _, stages in every))):
        for (part, _), stage in zip(every, row, strict=True):
            if stage is not None:
                yield part, place, stage


def stages_of(part: Part) -> tuple[StageSpec, ...]:
    """Return the stages of *part*; one without a name where it has none."""
    return part.stages or (StageSpec(name="", strategy=part.strategy, pruning=part.pruning),)


def stage_blocks(part: Part, place: int, stage: StageSpec, folds: Sequence[FoldRecord]) -> list[Block]:
    """Return the blocks of one *stage* of *part*, numbered from 0: one, but for a refit of nested folds."""
    block = _block(part, place, stage, tuple(fold.number for fold in folds))
    if stage.refit is None:
        return [block]
    return [
        _with_digest(structs.replace(block, refit=stage.refit.on, folds=numbers, outer=outer))
        for numbers, outer in refit_folds(folds, stage.refit.on)
    ]


def refit_folds(folds: Sequence[FoldRecord], on: str) -> list[tuple[tuple[int, ...], int | None]]:
    """Return the folds that each block of a refit trains on, and the outer fold that chooses its point.

    Where all folds share the test side, the last one has, with its validation side, all there is beside it
    (folds over time grow). Where each has its own, each is trained on and tested. Nested folds choose a point
    in each outer fold.
    """
    if not folds:
        return [((), None)]
    if on == "everything":
        return [((folds[-1].number,), None)]
    if folds[0].outer is not None:
        last = {fold.outer: fold.number for fold in folds}
        return [((number,), outer) for outer, number in last.items()]
    own = len({fold.test for fold in folds}) > 1
    return [(tuple(fold.number for fold in (folds if own else folds[-1:])), None)]


def _with_digest(block: Block) -> Block:
    return structs.replace(block, digest=digest_of(block))


def _block(part: Part, place: int, stage: StageSpec, folds: tuple[int, ...]) -> Block:
    space = part.space.with_fixed(stage.fixed)
    # Points that the user gives come first in the search, not again in every stage.
    given = () if place else _given(part, space)
    block = Block(
        first=0,
        first_point=0,
        points=strategies.make(stage.strategy, given).count(space),
        folds=folds,
        seeds=part.seeds if stage.seeds is None else stage.seeds,
        space=space,
        strategy=stage.strategy,
        stage=place,
        part=part.name,
        stage_name=stage.name,
        narrow=stage.narrow,
        pruning=stage.pruning,
        given=given,
        racing=None if stage.refit is not None else part.racing,
    )
    return _with_digest(block)


def _given(part: Part, space: Space) -> tuple[dict[str, Any], ...]:
    """Return the points that the user gives as they are in *space*, of the first stage; each once.

    Raises:
        UsageError: What the stage fixes makes one of them none.
    """
    found: dict[str, dict[str, Any]] = {}
    for number, point in enumerate(part.given):
        try:
            own = space.resolve({name: point[name] for name in space.searched if name in point})
            why = f"excluded by {own.path}: {own.text}" if isinstance(own, Excluded) else ""
        except ValueError as error:
            why = str(error)
        if why or isinstance(own, Excluded):
            message = f"points[{number}] is no point of the first stage: {why}"
            raise UsageError(message, hint="change what the stage fixes, or leave the point out")
        found.setdefault(point_hash(own), own)
    return tuple(found.values())


def digest_of(block: Block) -> str:
    """Return the digest of what a block's points are; its place among the others does not count."""
    own = structs.replace(block, first=0, first_point=0, needs=None, digest="")
    return hashlib.blake2b(canonical_json(own), digest_size=8).hexdigest()


def source_of(blocks: tuple[Block, ...], block: Block) -> int | None:
    """Return the position of the block whose results *block* is derived from, None where it is from none."""
    name = block.narrow.stage if block.narrow is not None else ""
    if block.strategy.kind == "top":
        name = block.strategy.options["stage"]
    found = (
        place
        for place, one in enumerate(blocks)
        if (one.part, one.stage_name) == (block.part, name) and one.stage < block.stage
    )
    return next(found, None) if name or block.strategy.kind == "top" else None
