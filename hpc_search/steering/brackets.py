"""The brackets of a run: who competes with whom for the steps of a training, and where each one stands."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from hpc_search.ledger.follower import Follower
from hpc_search.planning.numbers import split_number, trials_beside
from hpc_search.records.journal import Verdict
from hpc_search.records.plan import Block, Plan
from hpc_search.records.search import PruningSpec
from hpc_search.strategies import pruning
from hpc_search.strategies.pruning import Member, Schedule


class Key(NamedTuple):
    """What the trials of a bracket have in common."""

    part: str
    stage: int
    fold: int | None
    seed: int
    bracket: int


@dataclass(slots=True)
class Bracket:
    """Trials that compete: their rule and metric, how many the plan has, and those that began.

    ``behind`` are those whose point was pruned in another bracket, after so many rungs. ``curves`` has
    step -> value of those that are done, where the rule compares at steps. ``changed`` says that something
    happened since it was last looked at for trials to promote.
    """

    spec: PruningSpec
    goal: str
    metric: str
    trials: int
    schedule: Schedule
    members: dict[int, Member] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    behind: dict[int, int] = field(default_factory=dict)
    curves: dict[int, dict[int, float]] = field(default_factory=dict)
    changed: bool = True

    @property
    def before(self) -> int:
        """How many of its trials neither reached a rung nor ended."""
        return self.trials - len(self.ended | self.members.keys())

    @property
    def settled(self) -> bool:
        """Whether nobody is on the way to a rung or an end."""
        return pruning.settled(list(self.members.values()), self.before)

    def promotions(self) -> list[pruning.Promotion]:
        """Return the paused trials that go on, in order."""
        members = [one for one in self.members.values() if one.number not in self.behind]
        return pruning.promotions(self.spec, self.goal, members, self.before, self.behind)

    @property
    def paused(self) -> list[int]:
        """The trials that wait at a rung."""
        return sorted(number for number, one in self.members.items() if one.fate == "paused")

    def others(self, number: int, rung: int, step: int) -> tuple[dict[int, float], list[int]]:
        """Return trial -> value of those that *number* is compared with at *rung* or *step*; those behind."""
        if not self.schedule.rungs:
            return {one: curve[step] for one, curve in self.curves.items() if step in curve}, []
        alive = (
            one
            for one in self.members.values()
            if one.fate not in ("failed", "pruned") and one.number not in self.behind and one.number != number
        )
        reached = {one.number: one.values[rung] for one in alive if len(one.values) > rung}
        return reached, [one for one, rungs in self.behind.items() if rungs > rung and one != number]


class Brackets:
    """All brackets of a run, as its journals have them."""

    def __init__(self, plan: Plan, follower: Follower) -> None:
        """Look at the run of *plan* through *follower*."""
        self._plan = plan
        self._follower = follower
        self._firsts = [block.first for block in plan.blocks]
        self._brackets: dict[Key, Bracket] = {}
        #: Point -> the first of its trials that was pruned.
        self.given_up: dict[int, int] = {}
        #: Trials that reached a rung, and that nobody runs though they neither wait nor ended.
        self.interrupted: set[int] = set()

    def __iter__(self) -> Iterator[Bracket]:
        """Yield those of which anything is known, in the order of the plan."""
        return iter([self._brackets[key] for key in sorted(self._brackets, key=_order)])

    def block(self, number: int) -> Block:
        """Return the block of trial *number*."""
        return self._plan.blocks[bisect_right(self._firsts, number) - 1]

    def of(self, number: int) -> Bracket | None:
        """Return the bracket of trial *number*; None where nothing ends trials early."""
        block = self.block(number)
        if block.pruning is None:
            return None
        local, fold, seed = split_number(block, number)
        place = pruning.bracket_of(block.pruning, block.start + local)
        key = Key(block.part, block.stage, fold, seed, place)
        found = self._brackets.get(key)
        if found is None:
            metric = self._plan.part(block).metric
            found = self._brackets[key] = Bracket(
                spec=block.pruning,
                goal=metric.goal,
                metric=metric.name,
                trials=self._counts[key],
                schedule=pruning.schedule(block.pruning, place),
            )
        return found

    @cached_property
    def _counts(self) -> Counter[Key]:
        """How many trials the plan has of each bracket."""
        counts: Counter[Key] = Counter()
        for block in self._plan.blocks:
            if block.pruning is None:
                continue
            places = range(block.start, block.start + block.points)
            of_places = Counter(pruning.bracket_of(block.pruning, place) for place in places)
            for place, count in of_places.items():
                for fold in block.folds or (None,):
                    for seed in block.seeds:
                        counts[Key(block.part, block.stage, fold, seed, place)] += count
        return counts

    def point(self, number: int) -> int:
        """Return the point of trial *number*."""
        block = self.block(number)
        return block.first_point + split_number(block, number)[0]

    def take(self, number: int) -> None:
        """Say anew where trial *number* stands."""
        if not 0 <= number < self._plan.trials or (bracket := self.of(number)) is None:
            return
        bracket.changed = True
        bracket.members.pop(number, None)
        bracket.ended.discard(number)
        bracket.curves.pop(number, None)
        self.interrupted.discard(number)
        end = self._follower.ends.get(number)
        if end is not None:
            bracket.ended.add(number)
        if end is not None and end.state == "done" and not bracket.schedule.rungs:
            bracket.curves[number] = dict(self.reported(number, bracket.metric))
        if values := self._values(number, bracket, ended=end is not None):
            waits = number in self._follower.paused
            fate = end.state if end is not None else "paused" if waits else "running"
            promoted = fate == "paused" and self.promoted(number, len(values) - 1)
            bracket.members[number] = Member(number, fate, values, promoted)  # type: ignore[arg-type]
            if fate == "running" and number not in self._follower.live:
                self.interrupted.add(number)
        self._give_up(number, bracket, pruned=end is not None and end.state == "pruned")

    def _give_up(self, number: int, bracket: Bracket, *, pruned: bool) -> None:
        """Take in whether trial *number* was pruned, and its point with it."""
        point = self.point(number)
        known = self.given_up.get(point)
        if not pruned:
            if known == number:
                # Another end record of it counts by now.
                del self.given_up[point]
            return
        self.given_up[point] = number if known is None else min(known, number)
        rungs = len(bracket.members[number].values) if number in bracket.members else 0
        for other in trials_beside(self.block(number), number):
            beside = self.of(other)
            if other != number and beside is not None:
                beside.behind[other] = max(rungs, beside.behind.get(other, 0))
                beside.changed = True

    def promoted(self, number: int, rung: int) -> bool:
        """Return whether it is decided that trial *number* goes on beyond *rung*."""
        verdicts = self._follower.verdicts(number)
        return any(one.decision == "promote" and one.rung >= rung for one in verdicts)

    def verdict(self, number: int, rung: int) -> Verdict | None:
        """Return the decision on trial *number* at *rung*, the latest attempt's; None where there is none."""
        verdicts = reversed(self._follower.verdicts(number))
        return next((one for one in verdicts if one.rung == rung and one.decision != "promote"), None)

    def reported(self, number: int, metric: str, until: int | None = None) -> list[tuple[int, float]]:
        """Return (step, value) of the reports of trial *number* that have *metric*, *until* a step."""
        return [
            (step, metrics[metric])
            for step, metrics in self._follower.reports(number)
            if metric in metrics and (until is None or step <= until)
        ]

    def _values(self, number: int, bracket: Bracket, *, ended: bool) -> tuple[float, ...]:
        """Return the value of *number* at each rung that it reached.

        A decision has it. A program may end before its reports are read: then they have it.
        """
        if not bracket.schedule.rungs:
            return ()
        values: list[float] = []
        for one in self._follower.verdicts(number):
            if one.value is not None and one.decision != "promote":
                values += [one.value] * (one.rung + 1 - len(values))
        for step, value in self.reported(number, bracket.metric) if ended else ():
            values += [value] * (bracket.schedule.rung(step) + 1 - len(values))
        return tuple(values)


def _order(key: Key) -> tuple[int, str, int, int, int]:
    return key.stage, key.part, -1 if key.fold is None else key.fold, key.seed, key.bracket
