"""From a trial's number to what it is: block, point, fold, seed and parameters."""

from __future__ import annotations

from bisect import bisect_right

from hpc_search.errors import UsageError
from hpc_search.records.plan import Block, Plan, PlannedTrial
from hpc_search.strategies import Strategy, make


class Numbering:
    """The trials of a plan by number; numbers never move."""

    def __init__(self, plan: Plan) -> None:
        """Prepare the strategies of the plan's blocks."""
        self._plan = plan
        self._firsts = [block.first for block in plan.blocks]
        self._strategies: list[Strategy] = [make(block.strategy, block.given) for block in plan.blocks]

    def __call__(self, number: int) -> PlannedTrial:
        """Return trial *number*.

        Raises:
            UsageError: The plan has no such trial.
        """
        if not 0 <= number < self._plan.trials:
            message = f"trial {number} does not exist: the run has the trials 0 to {self._plan.trials - 1}"
            raise UsageError(message, hint="`status RUN` shows the counts")
        place = bisect_right(self._firsts, number) - 1
        block = self._plan.blocks[place]
        local, fold, seed = split_number(block, number)
        strategy = self._strategies[place]
        known = not strategy.adaptive or block.start + local < len(block.given)
        return PlannedTrial(
            number=number,
            point=block.first_point + local,
            fold=fold,
            seed=seed,
            params=strategy.point(block.space, block.start + local) if known else {},
            block=block.digest,
            known=known,
        )

    def of_point(self, point: int) -> list[int]:
        """Return the numbers of all trials of *point*.

        Raises:
            UsageError: The plan has no such point.
        """
        first = self.point(point).number
        return trials_beside(self._plan.blocks[bisect_right(self._firsts, first) - 1], first)

    def point(self, point: int) -> PlannedTrial:
        """Return the first trial of *point*."""
        for block in self._plan.blocks:
            if block.first_point <= point < block.first_point + block.points:
                return self(block.first + (point - block.first_point) * len(block.seeds))
        message = f"point {point} does not exist: the run has the points 0 to {self._plan.points - 1}"
        raise UsageError(message)


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
