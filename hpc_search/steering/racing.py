"""The races of a run: which points lose over the folds that are done, as its journals have them."""

from __future__ import annotations

import math
from collections.abc import Collection
from statistics import fmean
from typing import NamedTuple

from hpc_search.layout import Layout
from hpc_search.ledger import Claimed
from hpc_search.ledger.follower import Follower
from hpc_search.planning.numbers import split_number
from hpc_search.planning.reading import load_splits
from hpc_search.records.journal import End, Verdict
from hpc_search.records.plan import Block, Plan
from hpc_search.stats import FoldSizes, size_ratio
from hpc_search.strategies import narrowing, racing


class Key(NamedTuple):
    """What the points of a race have in common."""

    part: str
    stage: int


class Races:
    """All races of a run: one for each stage of each search."""

    def __init__(self, layout: Layout, plan: Plan, follower: Follower) -> None:
        """Look at the run at *layout* through *follower*."""
        self._layout = layout
        self._plan = plan
        self._follower = follower
        self._blocks: dict[Key, list[Block]] = {}
        for block in plan.blocks:
            if block.racing is not None and not block.refit:
                self._blocks.setdefault(Key(block.part, block.stage), []).append(block)
        self._races: dict[Key, racing.Race] = {}
        #: Point -> the decision by which it is out, of several that on the lowest trial.
        self.lost: dict[int, Verdict] = {}

    def take(self, number: int) -> None:
        """Say anew what is known of the point of trial *number*."""
        if (key := self._key(number)) is None:
            return
        point = self._point(number)
        for verdict in self._follower.verdicts(number):
            known = self.lost.get(point)
            if verdict.race is not None and (known is None or verdict.trial < known.trial):
                self.lost[point] = verdict
        values, able = self._values(key, point)
        self._race(key).put(point, values, able=able and point not in self.lost)

    def decide(self, claimed: Claimed) -> Verdict | None:
        """Return the decision by which *claimed* shall not begin, None where its point is in the race.

        What was decided before is said again, also of another trial of the point.
        """
        number, point = claimed.trial.number, claimed.trial.point
        key = self._key(number)
        if key is None or point in self.lost:
            return self.lost.get(point)
        race = self._race(key)
        loss = race.loss(point)
        if loss is None:
            return None
        peers = self._peers(key, loss)
        return racing.recorded(race.rules, loss, trial=number, attempt=claimed.attempt, peers=peers)

    def _key(self, number: int) -> Key | None:
        """Return the race of trial *number*, None where it is in none."""
        if not self._blocks or not 0 <= number < self._plan.trials:
            return None
        block = self._plan.block_at(number)
        key = Key(block.part, block.stage)
        return key if key in self._blocks else None

    def _race(self, key: Key) -> racing.Race:
        if key not in self._races:
            self._races[key] = racing.Race(rules_of(self._layout, self._plan, self._blocks[key]))
        return self._races[key]

    def _point(self, number: int) -> int:
        block = self._plan.block_at(number)
        return block.first_point + split_number(block, number)[0]

    def _trials(self, key: Key, point: int) -> dict[int, list[int]]:
        """Return fold -> the trials of *point*, one a seed."""
        found: dict[int, list[int]] = {}
        for block in self._blocks[key]:
            local = point - block.first_point
            if not 0 <= local < block.points:
                continue
            for place, fold in enumerate(block.folds):
                first = block.first + (place * block.points + local) * len(block.seeds)
                found.setdefault(fold, []).extend(range(first, first + len(block.seeds)))
        return found

    def _values(self, key: Key, point: int) -> tuple[dict[int, float], bool]:
        """Return fold -> mean over the seeds, of those done; whether the point can still be complete."""
        values: dict[int, float] = {}
        able = True
        for fold, numbers in self._trials(key, point).items():
            ends = [self._follower.ends.get(number) for number in numbers]
            found = [end.value for end in ends if end is not None and _counts(end)]
            if len(found) == len(numbers):
                values[fold] = fmean(value for value in found if value is not None)
            able = able and sum(end is not None for end in ends) == len(found)
        return values, able

    def _peers(self, key: Key, loss: racing.Loss) -> dict[int, float]:
        """Return trial -> value of the better point, in the folds that were compared."""
        trials = self._trials(key, loss.against)
        ends = self._follower.ends
        return {
            number: value
            for fold in loss.folds
            for number in trials[fold]
            if (value := ends[number].value) is not None
        }


def _counts(end: End) -> bool:
    return end.state == "done" and end.value is not None and math.isfinite(end.value)


def rules_of(layout: Layout, plan: Plan, blocks: list[Block]) -> racing.Rules:
    """Return the rules of the race of *blocks*: a stage of a search, and what was added to it."""
    first = blocks[0]
    if first.racing is None:
        raise LookupError(first.stage_name)
    part = plan.part(first)
    points = {point for one in blocks for point in range(one.first_point, one.first_point + one.points)}
    folds = {fold for one in blocks for fold in one.folds}
    return racing.Rules(
        goal=part.metric.goal,
        folds=len(folds),
        points=len(points),
        error=first.racing.error,
        least=first.racing.folds,
        keep=_kept(plan, first, len(points)),
        near=_ratio(layout, folds) if part.choose.rule == "one_standard_error" else None,
    )


def _kept(plan: Plan, block: Block, points: int) -> int:
    """Return how many points of the stage of *block* later stages take: so many have to be complete."""
    taken = [1]
    for later in plan.blocks:
        if later.part != block.part or later.stage <= block.stage:
            continue
        if later.narrow is not None and later.narrow.stage == block.stage_name:
            taken.append(narrowing.quantile(points, later.narrow.top))
        if later.strategy.kind == "top" and later.strategy.options["stage"] == block.stage_name:
            taken.append(later.points)
    return min(max(taken), points)


def _ratio(layout: Layout, folds: Collection[int]) -> float:
    """Return the size of the validation sides of *folds* over that of their training sides."""
    splits = load_splits(layout)
    sizes = [
        FoldSizes(*(splits.files[fold.sides[side]].rows for side in ("train", "val")))
        for fold in splits.folds
        if fold.number in folds
    ]
    return size_ratio(sizes)
