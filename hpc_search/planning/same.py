"""Whether a search is the one that is planned: a refit that was added to the run does not make it another."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from hpc_search.layout import Layout
from hpc_search.planning.blocks import stages_of
from hpc_search.records.plan import Plan
from hpc_search.records.search import Part, Search, StageSpec, search_id


def same(planned: Plan, wanted: Plan) -> bool:
    """Return whether *wanted*, a first plan, is of the search that is *planned*, or was amended to."""
    mine, other = search_id(planned.search), search_id(with_refits_of(planned.search, wanted.search))
    return (mine, planned.splits_digest) == (other, wanted.splits_digest)


def with_refits_of(planned: Search, wanted: Search) -> Search:
    """Return *wanted* with the refits of *planned* where it has none, or fewer seeds of them.

    `refit RUN` adds them to the plan, and the search file does not know of it.
    """
    before = {part.name: part for part in planned.parts}
    parts = [_with_refits(before[part.name], part) if part.name in before else part for part in wanted.parts]
    if wanted.searches:
        return replace(wanted, searches=tuple(parts))
    return replace(wanted, stages=parts[0].stages)


def _with_refits(old: Part, new: Part) -> Part:
    kept = [stage for stage in old.stages if stage.refit is not None]
    asked = [stage for stage in new.stages if stage.refit is not None]
    if not kept or not all(_has(kept, stage) for stage in asked):
        return new
    own = [stage for stage in stages_of(new) if stage.refit is None]
    return replace(new, stages=(*own, *kept))


def _has(kept: Sequence[StageSpec], stage: StageSpec) -> bool:
    """Return whether a refit of *kept* is on what *stage* is on, with all of its seeds."""
    on = {one.refit.on: set(one.refit.seeds) for one in kept if one.refit is not None}
    return stage.refit is not None and set(stage.refit.seeds) <= on.get(stage.refit.on, set())


def refitted(plan: Plan, layout: Layout) -> tuple[str, ...]:
    """Return the searches of *plan* whose point is chosen: it is trained again."""
    places = (place for place, block in enumerate(plan.blocks) if block.refit)
    return tuple({plan.blocks[place].part: 1 for place in places if layout.stage(place).exists()})
