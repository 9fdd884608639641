"""Parts of a space whose rules join them: each finite one becomes a table of its combinations."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hpc_search.space.dimensions import CONTINUOUS, Dimension
from hpc_search.space.operations import ExpressionError
from hpc_search.space.rules import Logic, Step
from hpc_search.space.walk import MOST_ROWS, Schedule, Tally, TooManyError, Unit, Walk, key_of


class Component:
    """Units that rules join; ``table`` has the number of each combination that is a point."""

    def __init__(
        self, units: Sequence[Unit], steps: Sequence[Step], fixed: Mapping[str, Any], logic: Logic
    ) -> None:
        """Join *units* by *steps*, those that can be decided without a continuous parameter."""
        self.units = _parents_first(units, steps, logic)
        self.names = tuple(name for unit in self.units for name in unit.names)
        self.steps = tuple(steps)
        self.raw = math.prod(unit.count for unit in self.units)
        self._fixed = fixed
        self._plan = Schedule(self.units, self.steps, fixed)
        self.tally = Tally()
        self._rows: Sequence[int] | None = None
        self._walked = False
        self._places: dict[tuple[Any, ...], int] | None = None

    @property
    def table(self) -> Sequence[int] | None:
        """The numbers of all different combinations, ascending; None where there are more than a million."""
        if not self._walked:
            self._walked = True
            self._rows = self._built()
        return self._rows

    @property
    def weighted(self) -> bool:
        """Whether some combinations are drawn more often than others.

        Where parameters depend on others each value of those has its share, however many combinations
        it comes with: of two sub-spaces the larger one is not drawn more often.
        """
        conditional = any(step.kind == "when" and step.target in self.names for step in self.steps)
        return conditional or any(unit.weighted for unit in self.units)

    def values(self, number: int) -> dict[str, Any]:
        """Return the raw values of combination *number*."""
        found: dict[str, Any] = {}
        for unit in reversed(self.units):
            number, digit = divmod(number, unit.count)
            found.update(zip(unit.names, unit.values(digit), strict=True))
        return found

    def allows(self, values: Mapping[str, Any]) -> bool:
        """Return whether the rules of the component allow these raw values."""
        env = {**self._fixed, **values}
        try:
            return all(step.apply(env) or step.kind != "constraint" for step in self.steps)
        except ExpressionError:
            return False

    def place(self, settled: Mapping[str, Any]) -> int:
        """Return the place in the table of the combination with these final values.

        Raises:
            ValueError: There is none.
        """
        if self._places is None:
            walk = Walk(self.units, self._plan, self._fixed, Tally())
            self._places = {key: place for place, (_, key) in enumerate(walk.rows(keys=True))}
        try:
            return self._places[key_of(settled, self.names)]
        except KeyError:
            values = ", ".join(f"{name}: {settled[name]!r}" for name in self.names)
            raise ValueError(f"no point has {values}") from None

    def _built(self) -> Sequence[int] | None:
        if self._least() > MOST_ROWS:
            return None
        # Numbers beyond 64 bits need Python's own.
        rows: Any = array("Q") if self.raw < 2**63 else []
        tally = Tally()
        try:
            for number, _ in Walk(self.units, self._plan, self._fixed, tally).rows():
                rows.append(number)
        except TooManyError:
            return None
        self.tally = tally
        return rows  # type: ignore[no-any-return]

    def _least(self) -> int:
        """Return a number of combinations that there are at least."""
        if any(step.kind == "constraint" for step in self.steps):
            return 0
        always = [unit for unit in self.units if not self._plan.conditional.intersection(unit.names)]
        return math.prod(unit.count for unit in always)


def _parents_first(units: Sequence[Unit], steps: Sequence[Step], logic: Logic) -> tuple[Unit, ...]:
    """Return *units* with each after those that decide about it, else in their order."""
    home = {name: unit for unit in units for name in unit.names}
    needs: dict[str, set[str]] = {}
    for step in steps:
        if step.target in home:
            needs.setdefault(step.target, set()).update(logic.inputs(step.needs))
    order: dict[tuple[str, ...], Unit] = {}
    for unit in units:
        stack, opened = [unit], {unit.names}
        while stack:
            top = stack[-1]
            wanted = sorted({name for own in top.names for name in needs.get(own, ()) if name in home})
            below = next(
                (home[name] for name in wanted if home[name].names not in opened | order.keys()), None
            )
            if below is None:
                order.setdefault(top.names, stack.pop())
            else:
                opened.add(below.names)
                stack.append(below)
    return tuple(order.values())


def tainted(dimensions: Mapping[str, Dimension], logic: Logic) -> frozenset[str]:
    """Return the names whose final value depends on a continuous parameter."""
    found = {name for name, dimension in dimensions.items() if isinstance(dimension, CONTINUOUS)}
    for step in logic.decisions:
        if not found.isdisjoint(step.needs):
            found.add(step.target)
    return frozenset(found)


def joined(names: Sequence[tuple[str, ...]], steps: Collection[Step], logic: Logic) -> list[list[int]]:
    """Return the positions of *names* (of units, continuous ones included) that the steps join, in order."""
    home = {name: place for place, own in enumerate(names) for name in own}
    root = list(range(len(names)))

    def top(place: int) -> int:
        while root[place] != place:
            root[place] = root[root[place]]
            place = root[place]
        return place

    ruled: set[int] = set()
    for step in steps:
        concerned = {*step.needs, *([step.target] if step.target in home else [])}
        places = sorted({home[name] for name in logic.inputs(concerned) if name in home})
        ruled.update(places)
        for place in places[1:]:
            first, second = sorted((top(places[0]), top(place)))
            root[second] = first
    groups: dict[int, list[int]] = {}
    for place in sorted(ruled):
        groups.setdefault(top(place), []).append(place)
    return list(groups.values())
