"""Choosing the points of adaptive strategies from what the journals say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpc_search.errors import UsageError
from hpc_search.layout import Layout
from hpc_search.ledger.follower import Follower
from hpc_search.ledger.proposals import Proposals
from hpc_search.ledger.proposing import Proposed
from hpc_search.planning import Numbering
from hpc_search.records.journal import End
from hpc_search.records.plan import Block, Plan
from hpc_search.records.proposals import family_of
from hpc_search.strategies import Strategy, make
from hpc_search.strategies.base import Adaptive
from hpc_search.strategies.history import Fate, History, Observation


class Proposer:
    """One worker's; it has views of its own of journals and log, and may run in a thread of its own."""

    def __init__(self, layout: Layout, plan: Plan) -> None:
        """Propose for the run at *layout*; nothing is read before that."""
        self._plan = plan
        self._numbering = Numbering(plan)
        self._follower = Follower(layout, plan)
        self._log = Proposals(layout)
        self._strategies: dict[int, Strategy] = {}

    def __call__(self, point: int, /) -> Proposed | None:
        """Choose *point* from all that is known now.

        Raises:
            UsageError: A library is missing, or there is no point left.
        """
        self._follower.refresh()
        self._log.read()
        place, block = next(
            (place, block)
            for place, block in enumerate(self._plan.blocks)
            if block.first_point <= point < block.first_point + block.points
        )
        strategy = self._strategies.setdefault(place, make(block.strategy, block.given))
        own = getattr(strategy, "own", strategy)
        if not isinstance(own, Adaptive):
            raise UsageError(f"strategy {block.strategy.kind} proposes nothing")
        metrics = self._plan.part(block).objectives or (self._plan.part(block).metric,)
        history = History(tuple(self._observations(block, point)))
        index = block.start + point - block.first_point
        params = own.propose(block.space, history, index, tuple(metric.goal for metric in metrics))
        return Proposed(params, history.digest, history.text)

    def _observations(self, wanted: Block, but: int) -> Iterator[Observation]:
        """Yield what became of the known points of the family of *wanted*, by number."""
        for block in self._plan.blocks:
            if family_of(block) != family_of(wanted):
                continue
            for local in range(block.points):
                point = block.first_point + local
                trial = self._numbering(block.first + local * len(block.seeds))
                entry = self._log.of(point)
                params = trial.params if trial.known else entry.params if entry is not None else None
                if params is not None and point != but:
                    yield self._observation(block, point, params)

    def _observation(self, block: Block, point: int, params: dict[str, Any]) -> Observation:
        ends = self._follower.ends
        numbers = self._numbering.of_point(point)
        ended = [ends[number] for number in numbers if number in ends]
        part = self._plan.part(block)
        names = [metric.name for metric in part.objectives or (part.metric,)]
        done = [end for end in ended if end.state == "done"]
        values = [[_value(end, name, part.metric.name) for end in done] for name in names] if done else []
        curve = [
            (step, float(metrics[part.metric.name]))
            for step, metrics in self._follower.reports(numbers[0])
            if part.metric.name in metrics
        ]
        means = tuple(sum(one) / len(one) for one in values)
        return Observation(
            point=block.start + point - block.first_point,
            params=params,
            fate=_fate(ended, len(numbers)),
            values=means,
            curve=tuple(curve),
        )


def _value(end: End, name: str, selected: str) -> float:
    return float(end.value if name == selected and end.value is not None else end.metrics[name])


def _fate(ended: list[End], trials: int) -> Fate:
    states = {end.state for end in ended}
    if "pruned" in states:
        return "pruned"
    if "failed" in states:
        return "failed"
    return "done" if len(ended) == trials else "running"
