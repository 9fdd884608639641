"""From a trial's number to what it is: block, point, fold, seed and parameters."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from msgspec import structs

from hpc_search.errors import UsageError
from hpc_search.records.plan import Block, Plan, PlannedTrial
from hpc_search.space import Space
from hpc_search.strategies import Strategy, make


class Numbering:
    """The trials of a plan by number; numbers never move."""

    def __init__(self, plan: Plan) -> None:
        """Prepare the strategies of the plan's blocks."""
        self._plan = plan
        self._blocks = list(plan.blocks)
        self._firsts = [block.first for block in plan.blocks]
        #: Positions of blocks whose points come from results that are not there yet.
        self._waiting = {place for place, block in enumerate(plan.blocks) if is_derived(block)}
        self._strategies = [_strategy(block) for block in plan.blocks]

    def waits(self, number: int) -> int | None:
        """Return the position of the block of trial *number* where its points are not derived yet."""
        place = bisect_right(self._firsts, number) - 1
        return place if place in self._waiting else None

    def block(self, number: int) -> Block:
        """Return the block of trial *number*, with what was derived for it."""
        return self._blocks[bisect_right(self._firsts, number) - 1]

    def take(self, place: int, space: Space, given: tuple[dict[str, Any], ...]) -> None:
        """Use *space* and *given* for the block at position *place*: what was derived for it."""
        block = self._blocks[place] = structs.replace(self._blocks[place], space=space, given=given)
        self._strategies[place] = _strategy(block)
        self._waiting.discard(place)

    def __call__(self, number: int) -> PlannedTrial:
        """Return trial *number*; it is not known where its block waits for results.

        Raises:
            UsageError: The plan has no such trial.
        """
        if not 0 <= number < self._plan.trials:
            message = f"trial {number} does not exist: the run has the trials 0 to {self._plan.trials - 1}"
            raise UsageError(message, hint="`status RUN` shows the counts")
        place = bisect_right(self._firsts, number) - 1
        block = self._blocks[place]
        local, fold, seed = split_number(block, number)
        strategy = self._strategies[place]
        known = place not in self._waiting and (
            not strategy.adaptive or block.start + local < len(block.given)
        )
        return PlannedTrial(
            number=number,
            point=block.first_point + local,
            fold=fold,
            seed=seed,
            params=strategy.point(block.space, block.start + local) if known else {},
            block=block.digest,
            known=known,
            waits_for=self._blocks[block.needs or 0].stage_name if place in self._waiting else "",
        )

    def of_point(self, point: int) -> list[int]:
        """Return the numbers of all trials of *point*.

        Raises:
            UsageError: The plan has no such point.
        """
        found = [
            block.first + (fold * block.points + point - block.first_point) * len(block.seeds) + seed
            for block in self._plan.blocks
            if block.first_point <= point < block.first_point + block.points
            for fold in range(max(1, len(block.folds)))
            for seed in range(len(block.seeds))
        ]
        # Raises where there is none.
        return found or [self.point(point).number]

    def point(self, point: int) -> PlannedTrial:
        """Return the first trial of *point*."""
        for block in self._plan.blocks:
            if block.first_point <= point < block.first_point + block.points:
                return self(block.first + (point - block.first_point) * len(block.seeds))
        message = f"point {point} does not exist: the run has the points 0 to {self._plan.points - 1}"
        raise UsageError(message)


def is_derived(block: Block) -> bool:
    """Return whether the points of *block* come from results of an earlier one."""
    return block.narrow is not None or block.strategy.kind == "top" or bool(block.refit)


def _strategy(block: Block) -> Strategy:
    if not block.without:
        return make(block.strategy, block.given)
    # Only grids that were amended need it.
    from hpc_search.strategies.rest import Rest

    return Rest(block.without)


def trials_beside(block: Block, number: int) -> list[int]:
    """Return the numbers of the trials of *block* that have the point of trial *number*."""
    seeds, folds = len(block.seeds), max(1, len(block.folds))
    first = block.first + (number - block.first) // seeds % block.points * seeds
    return [first + fold * block.points * seeds + seed for fold in range(folds) for seed in range(seeds)]


def split_number(block: Block, number: int) -> tuple[int, int | None, int]:
    """Return (point within the block, fold, seed) of *number*, which is fold-major (see `Block`)."""
    rest, seed = divmod(number - block.first, len(block.seeds))
    fold, point = divmod(rest, block.points)
    return point, (block.folds[fold] if block.folds else None), block.seeds[seed]
