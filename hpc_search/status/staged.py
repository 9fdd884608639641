"""The searches and stages of a plan as they stand: what waits, what has stopped, and the best of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from hpc_search.layout import Layout
from hpc_search.ledger.gates import Gates
from hpc_search.records import index as codec
from hpc_search.records.index import Entry
from hpc_search.records.plan import Block, Plan
from hpc_search.status import index
from hpc_search.status.model import Best, BestPoint, Stage
from hpc_search.steering import stages

#: States of trials that nobody has.
_FREE = (codec.PENDING, codec.PAUSED)


State = Literal["waiting", "open", "finished", "stopped"]


class Staged(NamedTuple):
    """Trials that wait for a stage, and of searches that stopped; the stages; why searches stopped."""

    waiting: int = 0
    closed: int = 0
    stages: tuple[Stage, ...] = ()
    stopped: tuple[str, ...] = ()


def look(layout: Layout, plan: Plan, entries: Sequence[Entry | None]) -> Staged:
    """Return how the stages stand; nothing where the plan has one search without stages."""
    if not plan.search.searches and not any(block.stage_name for block in plan.blocks):
        return Staged()
    gates = Gates(layout, plan)
    why = stages.stops(layout, plan)
    names = [part.name for part in plan.search.parts]
    stopped = {names[position]: words for position, words in why.items()}
    groups: dict[tuple[str, int], list[int]] = {}
    for place, block in enumerate(plan.blocks):
        groups.setdefault((block.part, block.stage), []).append(place)
    found = []
    waiting = closed = 0
    for part in plan.search.parts:
        for key in sorted(key for key in groups if key[0] == part.name):
            mine = [plan.blocks[place] for place in groups[key]]
            waits = all(plan.blocks[p].needs is not None and gates.opened(p) is None for p in groups[key])
            never = part.name in stopped
            stage = _stage(plan, mine, entries, waits=waits, stopped=never)
            found.append(stage)
            free = sum(entry is not None and entry.state in _FREE for entry in _entries(mine, entries))
            closed += free if never else 0
            waiting += free if waits and not never else 0
    words = tuple(f"search {name} stopped: {text}" for name, text in stopped.items())
    return Staged(waiting, closed, tuple(found), words)


def _entries(blocks: Sequence[Block], entries: Sequence[Entry | None]) -> list[Entry | None]:
    return [entry for block in blocks for entry in entries[block.first : block.first + block.trials]]


def _stage(
    plan: Plan, blocks: Sequence[Block], entries: Sequence[Entry | None], *, waits: bool, stopped: bool
) -> Stage:
    mine = [entry for entry in _entries(blocks, entries) if entry is not None]
    counts = Counter(entry.state for entry in mine)
    finished = sum(counts[state] for state in (codec.DONE, codec.FAILED, codec.PRUNED))
    trials = sum(block.trials for block in blocks)
    metric = plan.part(blocks[0]).metric
    # A refit has no value that could be compared.
    ranked = [block for block in blocks if not block.refit]
    best = index.best_trial(ranked, metric.goal, entries)
    point = index.best_point(ranked, metric.goal, entries, best)
    return Stage(
        search=blocks[0].part,
        stage=blocks[0].stage_name,
        state=_state(finished=finished == trials, stopped=stopped, waits=waits),
        trials=trials,
        finished=finished,
        done=counts[codec.DONE],
        failed=counts[codec.FAILED],
        pruned=counts[codec.PRUNED],
        left_out=index.left_out(mine, counts),
        metric=metric.name,
        best=best,
        best_point=point,
    )


def _state(*, finished: bool, stopped: bool, waits: bool) -> State:
    if finished:
        return "finished"
    if stopped:
        return "stopped"
    return "waiting" if waits else "open"


def best_of(plan: Plan, entries: Sequence[Entry | None]) -> tuple[Best | None, BestPoint | None]:
    """Return the best trial and point of the last stage that has one, for a plan of one search."""
    if plan.search.searches:
        return None, None
    ranked = [block for block in plan.blocks if not block.refit]
    for stage in sorted({block.stage for block in ranked}, reverse=True):
        blocks = [block for block in ranked if block.stage == stage]
        best = index.best_trial(blocks, plan.metric.goal, entries)
        if best is not None:
            return best, index.best_point(blocks, plan.metric.goal, entries, best)
    return None, None
