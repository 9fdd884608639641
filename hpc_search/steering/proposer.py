"""From what a run knows to the next point of an adaptive strategy, and the same again from its ledger.

What is seen of a point is its first fold: folds of all points advance together, so the later ones come
after the last proposal, and on the first all points are compared on the same data. A point is done when
all seeds of its first fold are final and one of them is done, its values their means; it is failed when
none is, and pruned when one of them was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from hpc_search.errors import DamagedError, HpcSearchError
from hpc_search.layout import Layout
from hpc_search.ledger.follower import Follower
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.proposals import Proposals
from hpc_search.ledger.proposing import Proposed
from hpc_search.records.journal import FINAL, End
from hpc_search.records.plan import Block, Plan
from hpc_search.records.proposals import Entry, family_of
from hpc_search.records.stages import Opened
from hpc_search.space import canonical
from hpc_search.strategies import make
from hpc_search.strategies.base import Adaptive
from hpc_search.strategies.history import Fate, History, Observation, points_of


class Replayed(NamedTuple):
    """A recorded proposal beside what is proposed again from the ledger: ``params`` and ``history``."""

    entry: Entry
    params: dict[str, Any]
    history: str

    @property
    def equal(self) -> bool:
        """Whether both are the same point from the same history."""
        same = canonical(self.params) == canonical(self.entry.params)
        return same and self.history == self.entry.history


class Proposer:
    """Proposes points of a run, from the journals and the log of proposed points; only reads.

    Its views of both are its own, so that it may work in a thread of its own.
    """

    def __init__(self, layout: Layout, plan: Plan) -> None:
        """Propose for the run at *layout*; nothing is read before that."""
        self._follower = Follower(layout, plan)
        self._log = Proposals(layout)
        self._gates = Gates(layout, plan)
        self._plan = plan
        self._families: dict[str, _Family] = {}

    def __call__(self, point: int, /) -> Proposed:
        """Return the parameters of *point* and the history that they were chosen from.

        Raises:
            HpcSearchError: A library is missing, or the strategy proposes nothing.
            DamagedError: An entry of the log does not verify.
        """
        self._refresh()
        family, block = self._of(point)
        history = family.history(self._log.all, self._follower)
        params = family.propose(block, history, point)
        return Proposed(params, history.digest, history.text)

    def replay(self) -> Iterator[Replayed]:
        """Propose every point of the log again, from its recorded history and the results accepted since.

        Raises:
            HpcSearchError: A library is missing, or a history cannot be made again.
        """
        self._refresh()
        for entry in sorted(self._log.all.values(), key=lambda one: one.entry):
            family, block = self._of(entry.point)
            history = family.recorded(entry, self._log.all, self._follower)
            yield Replayed(entry, family.propose(block, history, entry.point), history.digest)

    def _refresh(self) -> None:
        # In this order: what is known of a point's trials is never newer than the point.
        self._follower.refresh()
        self._log.read()
        self._gates.refresh()
        for place, block in enumerate(self._plan.blocks):
            family = self._families.setdefault(family_of(block), _Family(self._plan))
            opened = self._gates.opened(place)
            family.blocks[place] = block if opened is None else _open(block, opened)

    def _of(self, point: int) -> tuple[_Family, Block]:
        for family in self._families.values():
            for block in family.blocks.values():
                if block.first_point <= point < block.first_point + block.points:
                    return family, block
        raise HpcSearchError(f"the plan has no point {point}")


def replay(layout: Layout, plan: Plan) -> list[Replayed]:
    """Return every proposal of a run beside what its ledger alone gives again.

    Raises:
        HpcSearchError: A library is missing, or a history cannot be made again.
    """
    return list(Proposer(layout, plan).replay())


class _Family:
    """The points of one search and stage, which know of each other: blocks, and what became of each."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        #: By place in the plan, as they were opened.
        self.blocks: dict[int, Block] = {}
        self._strategies: dict[int, Adaptive] = {}
        #: Point -> the ends that its observation was made from, and the observation.
        self._made: dict[int, tuple[list[End | None], Observation]] = {}

    # -- strategies
    def propose(self, block: Block, history: History, point: int) -> dict[str, Any]:
        strategy = self._strategies.get(block.first)
        if strategy is None:
            made = make(block.strategy)
            if not isinstance(made, Adaptive):
                raise HpcSearchError(f"strategy {made.name} proposes no points")
            strategy = self._strategies[block.first] = made
        return strategy.propose(block.space, history, _place(block, point), self._goals(block))

    def _goals(self, block: Block) -> tuple[str, ...]:
        part = self._plan.part(block)
        return tuple(one.goal for one in part.objectives or (part.metric,))

    # -- what is known
    def history(self, log: Mapping[int, Entry], follower: Follower) -> History:
        """Return all points that have parameters, whether or not anybody has begun them."""
        found = []
        for block in self.blocks.values():
            for point in range(block.first_point, block.first_point + block.points):
                params = _params(block, point, log)
                if params is not None:
                    found.append(self._observed(block, point, params, follower))
        return History(tuple(sorted(found, key=lambda seen: seen.point)))

    def _observed(self, block: Block, point: int, params: dict[str, Any], follower: Follower) -> Observation:
        ends = [follower.ends.get(number) for number in _first_fold(block, point)]
        made = self._made.get(point)
        if made is not None and all(one is other for one, other in zip(made[0], ends, strict=True)):
            return made[1]
        fate = _fate(ends)
        seen = self._seen(block, point, params, fate, follower)
        self._made[point] = ends, seen
        return seen

    def _seen(
        self, block: Block, point: int, params: dict[str, Any], fate: Fate, follower: Follower
    ) -> Observation:
        """Return what *point* looks like with this *fate*."""
        numbers = _first_fold(block, point)
        place = _place(block, point)
        if fate == "done":
            ends = [end for number in numbers if (end := follower.ends.get(number)) and end.state == "done"]
            return Observation(place, params, fate, self._values(block, ends))
        if fate == "pruned":
            return Observation(place, params, fate, curve=self._curve(block, numbers[0], follower))
        return Observation(place, params, fate)

    def _values(self, block: Block, ends: list[End]) -> tuple[float, ...]:
        part = self._plan.part(block)
        names = [one.name for one in part.objectives or (part.metric,)]
        if len(names) == 1:
            columns = [[end.value for end in ends]]
        else:
            columns = [[end.metrics.get(name) for end in ends] for name in names]
        found = []
        for column in columns:
            numbers = [float(value) for value in column if isinstance(value, int | float)]
            if not numbers or len(numbers) < len(column):
                trials = ", ".join(str(end.trial) for end in ends)
                raise DamagedError(f"an end record of trial {trials} has no value for {', '.join(names)}")
            found.append(sum(numbers) / len(numbers))
        return tuple(found)

    def _curve(self, block: Block, number: int, follower: Follower) -> tuple[tuple[int, float], ...]:
        metric = self._plan.part(block).metric.name
        reports = follower.reports(number)
        return tuple((step, metrics[metric]) for step, metrics in reports if metric in metrics)

    # -- what was known
    def recorded(self, entry: Entry, log: Mapping[int, Entry], follower: Follower) -> History:
        """Return the history that *entry* was made from, by the points that it names.

        Raises:
            HpcSearchError: The log or the journals do not have one of them any more.
        """
        places = {
            _place(block, point): (block, point)
            for block in self.blocks.values()
            for point in range(block.first_point, block.first_point + block.points)
        }
        found = []
        for fate, numbers in points_of(entry.seen).items():
            for number in numbers:
                block, point = places[number]
                params = _params(block, point, log)
                if params is None:
                    raise HpcSearchError(f"point {point}, of which entry {entry.entry} knew, has no proposal")
                found.append(self._seen(block, point, params, _fate_of(fate), follower))
        return History(tuple(sorted(found, key=lambda seen: seen.point)))


def _open(block: Block, opened: Opened) -> Block:
    return msgspec.structs.replace(block, space=opened.space, given=opened.given)


def _fate(ends: list[End | None]) -> Fate:
    states = [end.state for end in ends if end is not None and end.state in FINAL]
    if len(states) < len(ends):
        return "running"
    for fate in ("pruned", "done"):
        if fate in states:
            return _fate_of(fate)
    return "failed"


def _fate_of(text: str) -> Fate:
    fates: dict[str, Fate] = {"running": "running", "done": "done", "failed": "failed", "pruned": "pruned"}
    return fates[text]


def _place(block: Block, point: int) -> int:
    """Return the place of *point* among those of its search and stage."""
    return block.start + point - block.first_point


def _params(block: Block, point: int, log: Mapping[int, Entry]) -> dict[str, Any] | None:
    """Return the parameters of *point*: those of its proposal, or given ones."""
    place = _place(block, point)
    if place < len(block.given):
        return block.given[place]
    entry = log.get(point)
    return entry.params if entry is not None else None


def _first_fold(block: Block, point: int) -> range:
    """Return the numbers of the trials of *point* in the first fold, one for each seed."""
    seeds = len(block.seeds)
    first = block.first + (point - block.first_point) * seeds
    return range(first, first + seeds)
