"""Opening the stages of a plan, each from the sealed results of an earlier one.

Anybody does it who finds all trials of a block final: a worker with nothing to claim, or `submit`. The
results are sealed before anything is derived from them, and what is derived is published once, so that two
who do it at the same moment, or one who is killed in between, change only who has done it.

A search whose stage ended without a complete point stops; the others go on, unless ``stop_on_error``.

A refit stage has the point that `choosing` finds; it opens when all blocks of the stage before it have ended.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import structs

from hpc_search import durable
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.ledger import read_state
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.history import Result
from hpc_search.ledger.sealing import seal_results
from hpc_search.planning.blocks import source_of
from hpc_search.planning.reading import load_splits
from hpc_search.records import checked
from hpc_search.records.index import Entry
from hpc_search.records.plan import Block, Plan
from hpc_search.records.stages import Opened, StoppedPart
from hpc_search.space import Excluded, Space, point_hash
from hpc_search.steering import choosing
from hpc_search.strategies import narrowing
from hpc_search.strategies.given import Given
from hpc_search.strategies.narrowing import Scored
from hpc_search.strategies.random import Random

Results = Mapping[int, Result]


# -- which blocks are next
def advance(layout: Layout, plan: Plan, gates: Gates) -> int:
    """Open every block whose predecessor has ended, or stop its search; return how many there were.

    Raises:
        IndexDamagedError: The index does not verify.
        TemporaryError: Others sealed results every time.
    """
    gates.refresh()
    waiting = [*waits(layout, plan, gates)]
    if not waiting:
        return 0
    entries = read_state(layout, plan.trials)[1]
    ready = [
        place
        for place in waiting
        if plan.blocks[place].needs not in waiting
        and all(_ended(before, entries) for before in _before(plan, plan.blocks[place]))
    ]
    results = seal_results(layout) if ready else {}
    # A mark is seen before the journal's line where a mount keeps an old copy: then it is too early.
    sure = [
        place
        for place in ready
        if all(_all_there(before, results) for before in _before(plan, plan.blocks[place]))
    ]
    for place in sure:
        _open(layout, plan, gates, place, results)
    return len(sure)


def waits(layout: Layout, plan: Plan, gates: Gates) -> Iterator[int]:
    """Yield the positions of the blocks that will open, as far as anybody knows."""
    if all(block.needs is None for block in plan.blocks):
        return
    names = [part.name for part in plan.search.parts]
    stopped = {names[part] for part in stops(layout, plan)}
    for place, block in enumerate(plan.blocks):
        if block.needs is not None and gates.opened(place) is None and block.part not in stopped:
            yield place


def _before(plan: Plan, block: Block) -> list[Block]:
    """Return the blocks that have to end before *block* opens."""
    needed = plan.blocks[block.needs or 0]
    if not block.refit:
        return [needed]
    return [needed, *(one for one in choosing.sources(plan, block) if one is not needed)]


def _ended(block: Block, entries: Sequence[Entry]) -> bool:
    return all(entry.final for entry in entries[block.first : block.first + block.trials])


def _all_there(block: Block, results: Results) -> bool:
    return all(number in results for number in range(block.first, block.first + block.trials))


def _open(layout: Layout, plan: Plan, gates: Gates, place: int, results: Results) -> None:
    block = plan.blocks[place]
    if block.refit:
        _open_refit(layout, plan, gates, place, results)
        return
    source = source_of(plan.blocks, block)
    for before in dict.fromkeys(one for one in (block.needs, source) if one is not None):
        if not _points(plan, plan.blocks[before], results).scored:
            stop_search(layout, plan, gates, block.part, _fruitless([plan.blocks[before]], results))
            return
    gates.publish(derived(plan, place, results))


def _open_refit(layout: Layout, plan: Plan, gates: Gates, place: int, results: Results) -> None:
    block = plan.blocks[place]
    splits = load_splits(layout) if plan.search.folds is not None else None
    opened = refitted(plan, gates, place) or choosing.chosen(plan, place, results, splits)
    if opened is None:
        stop_search(layout, plan, gates, block.part, _fruitless(choosing.sources(plan, block), results))
    else:
        gates.publish(opened)


def refitted(plan: Plan, gates: Gates, place: int) -> Opened | None:
    """Return how the refit block at *place* opens where its search has one already: with the same point."""
    block = plan.blocks[place]
    for other, one in enumerate(plan.blocks):
        opened = gates.opened(other)
        same = (one.part, bool(one.refit), one.outer) == (block.part, True, block.outer)
        if other != place and same and opened is not None:
            return structs.replace(opened, block=place, space=block.space)
    return None


# -- what is derived
class _Points(NamedTuple):
    """The complete points of a block, and the parameters of all of them by number."""

    scored: list[Scored]
    params: dict[int, dict[str, Any]]


def derived(plan: Plan, place: int, results: Results) -> Opened:
    """Return how the block at *place* opens; every trial of the blocks before it is in *results*."""
    block = plan.blocks[place]
    source = source_of(plan.blocks, block)
    if source is None:
        return Opened(block=place, space=block.space, why="as planned: nothing is derived")
    before = plan.blocks[source]
    found = _points(plan, before, results)
    objectives = plan.objectives_of(block)
    ranked = narrowing.best(found.scored, [one.goal for one in objectives])
    by = ", ".join(f"{one.name} ({one.goal})" for one in objectives)
    of = {number: results[number].checksum for number in range(before.first, before.first + before.trials)}
    if block.strategy.kind == "top":
        again = _best_given(block, ranked, found.params)
        given = _filled(block, again)
        more = f", and {len(given) - len(again)} random ones: it has no others" if again != given else ""
        why = f"the best {len(again)} points of stage {before.stage_name} by {by}{more}"
        return Opened(block=place, space=block.space, given=given, of=of, why=why)
    share = block.narrow.top if block.narrow is not None else 1.0
    top = ranked[: narrowing.quantile(len(ranked), share)]
    narrowed = narrowing.narrow(block.space, before.space, [one.params for one in top], block.points)
    why = f"from the best {len(top)} of {len(ranked)} complete points of stage {before.stage_name} by {by}"
    return Opened(block=place, space=narrowed.space, of=of, why=f"{why}: {narrowed.why}")


def _points(plan: Plan, block: Block, results: Results) -> _Points:
    names = [one.name for one in plan.objectives_of(block)]
    scored = []
    params: dict[int, dict[str, Any]] = {}
    folds, seeds = max(1, len(block.folds)), len(block.seeds)
    for local in range(block.points):
        numbers = [
            block.first + (fold * block.points + local) * seeds + seed
            for fold in range(folds)
            for seed in range(seeds)
        ]
        ends = [results[number].end for number in numbers if number in results]
        # One that was skipped before it was known has none.
        if known := next((one.params for one in ends if one.params), None):
            params[local] = known
        rows = [_values(names, one.metrics, one.value) for one in ends if one.state == "done"]
        whole = [row for row in rows if row]
        if len(whole) == len(numbers):
            means = tuple(math.fsum(column) / len(column) for column in zip(*whole, strict=True))
            scored.append(Scored(local, ends[0].params, means))
    return _Points(scored, params)


def _values(names: Sequence[str], metrics: Mapping[str, Any], value: float | None) -> tuple[float, ...]:
    """Return a trial's objectives, the first one being its *value*; () where one is missing or not finite."""
    row = [value, *(metrics.get(name) for name in names[1:])]
    numbers = tuple(float(one) for one in row if one is not None and math.isfinite(one))
    return numbers if len(numbers) == len(names) else ()


def _best_given(
    block: Block, ranked: Sequence[Scored], params: Mapping[int, dict[str, Any]]
) -> tuple[dict[str, Any], ...]:
    """Return the points of a ``top`` stage: the best ones; where too few are complete, others by number."""
    best = [one.point for one in ranked]
    order = [*best, *(local for local in sorted(params) if local not in best)]
    kept: dict[str, dict[str, Any]] = {}
    for local in order:
        point = _as_point(block.space, params[local])
        if point is not None and len(kept) < block.points:
            kept.setdefault(point_hash(point), point)
    return tuple(kept.values())


def _filled(block: Block, given: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """Return *given* with random points, so that there are as many as were planned.

    Points that were skipped before they were known, that differ only in what this stage holds fixed, or
    that its rules exclude leave it with fewer.
    """
    strategy = Given(given, Random(block.points, seed=block.stage))
    return tuple(strategy.point(block.space, index) for index in range(block.points))


def _as_point(space: Space, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return *params* as a point of *space*, which fixes other values; None where it cannot be one."""
    try:
        found = space.resolve({name: params[name] for name in space.searched if name in params})
    except ValueError:
        return None
    return None if isinstance(found, Excluded) else found


# -- searches that stop
def stop_search(layout: Layout, plan: Plan, gates: Gates, part: str, why: str) -> None:
    """Let nothing more of the search *part* be claimed; of none where one stops all, or is the only one."""
    names = [one.name for one in plan.search.parts]
    if len(names) == 1 or plan.search.stop_on_error:
        head = f"search {part}: " if part else ""
        durable.publish(layout.stop, f"{head}{why}\n".encode())
    else:
        gates.stop_part(names.index(part), why)


def stops(layout: Layout, plan: Plan) -> dict[int, str]:
    """Return why the searches stopped that did, by their position."""
    found = {}
    for position in range(len(plan.search.parts)) if len(plan.search.parts) > 1 else ():
        path = layout.stopped_part(position)
        try:
            record = checked.decode(durable.read_bytes(path), StoppedPart, str(path))
        except FileNotFoundError:
            continue
        except DamagedError:
            found[position] = "its mark does not verify"
        else:
            found[position] = record.why
    return found


def let_go_on(layout: Layout, plan: Plan, trials: Sequence[int]) -> None:
    """Remove the marks of the searches that *trials* belong to."""
    names = [one.name for one in plan.search.parts]
    for part in {names.index(plan.block_at(number).part) for number in trials}:
        layout.stopped_part(part).unlink(missing_ok=True)


def _fruitless(blocks: Sequence[Block], results: Results) -> str:
    """Return in words that no point of *blocks*, those of one stage, is complete."""
    block = blocks[0]
    ends = [results[one].end for block in blocks for one in range(block.first, block.first + block.trials)]
    counts = Counter(f"{one.state} ({one.cause})" if one.cause else one.state for one in ends)
    said = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    name = f"stage {block.stage_name}" if block.stage_name else "it"
    return (
        f"{name} ended without a complete point ({said}), so the next stage has nothing to go by\n"
        "  next: put the cause right, `retry RUN` lets what failed run again, `submit RUN` starts workers"
    )
