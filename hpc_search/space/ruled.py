"""A space with rules: its parts, the tables of those that rules join, and points settled by the rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from hpc_search.space.canonical import find
from hpc_search.space.components import Component, joined, tainted
from hpc_search.space.dimensions import CONTINUOUS, Dimension
from hpc_search.space.operations import ExpressionError
from hpc_search.space.rules import Excluded, Logic, Rules, Step
from hpc_search.space.walk import Tally, Unit

#: Draws of one component before a row of its table is taken as it comes.
_TRIES: Final = 64


class Ruled:
    """The parts of a space by what its rules join; numbers are mixed radix over them.

    Raises:
        ValueError: A rule cannot be used; it is named.
    """

    def __init__(
        self,
        dimensions: Mapping[str, Dimension],
        linked: Sequence[Mapping[str, tuple[Any, ...]]],
        fixed: Mapping[str, Any],
        rules: Rules,
    ) -> None:
        """Look at all parts of a space."""
        self._dimensions = dimensions
        self._linked = linked
        self._fixed = fixed
        searched = (*dimensions, *(name for group in linked for name in group))
        self.logic = Logic(rules, searched, fixed)
        self.searched = searched
        self._tainted = tainted(dimensions, self.logic)

    @cached_property
    def parts(self) -> tuple[Unit | Component, ...]:
        """What takes a digit each: units that no rule joins, and components."""
        units = _units(self._dimensions, self._linked)
        places = [(name,) for name in self._dimensions] + [tuple(group) for group in self._linked]
        components = joined(places, self._joining, self.logic)
        first = {group[0]: group for group in components}
        within = {place for group in components for place in group}
        parts: list[Unit | Component] = []
        for place, names in enumerate(places):
            if place in first:
                inside = [units[places[other]] for other in first[place] if places[other] in units]
                parts += [self._component(inside)] if inside else []
            elif place not in within and names in units:
                parts.append(units[names])
        return tuple(parts)

    @property
    def _joining(self) -> list[Step]:
        """The rules that join what they are about: of the derived values only those that can fail."""
        steps = [*self.logic.decisions, *self.logic.constraints]
        return [step for step in steps if self._decided(step) and (step.kind != "derived" or step.divides)]

    def _decided(self, step: Step) -> bool:
        """Return whether *step* depends on no continuous parameter."""
        return self._tainted.isdisjoint(step.needs) and (
            step.kind != "normalise" or step.target not in self._tainted
        )

    def _component(self, units: list[Unit]) -> Component:
        names = {name for unit in units for name in unit.names}
        steps = [*self.logic.decisions, *self.logic.constraints]
        inside = [step for step in steps if self._decided(step) and self._about(step, names)]
        return Component(units, inside, self._fixed, self.logic)

    def _about(self, step: Step, names: set[str]) -> bool:
        targets = [] if step.kind in ("derived", "constraint") else [step.target]
        concerned = self.logic.inputs([*step.needs, *targets]) - self._fixed.keys()
        if step.kind == "when" and isinstance(self._dimensions.get(step.target), CONTINUOUS):
            concerned -= {step.target}
        return bool(concerned) and concerned <= names

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """The parts that are joined by rules."""
        return tuple(part for part in self.parts if isinstance(part, Component))

    @cached_property
    def late(self) -> tuple[Step, ...]:
        """The conditions and constraints that are decided only at a draw."""
        steps = [*self.logic.decisions, *self.logic.constraints]
        return tuple(step for step in steps if step.kind != "derived" and not self._decided(step))

    @cached_property
    def large(self) -> tuple[tuple[str, ...], ...]:
        """The names of each component that has too many combinations for a table."""
        return tuple(part.names for part in self.components if part.table is None)

    @cached_property
    def weighted(self) -> bool:
        """Whether some values are drawn more often than others."""
        return any(part.weighted for part in self.parts)

    @cached_property
    def impossible(self) -> Step | None:
        """A constraint over fixed values alone that does not hold."""
        env = dict(self._fixed)
        for step in (*self.logic.decisions, *self.logic.constraints):
            if self.logic.inputs(step.needs) <= self._fixed.keys() and step.kind in ("derived", "constraint"):
                try:
                    if not step.apply(env):
                        return step
                except ExpressionError:
                    return step
        return None

    def counts(self) -> list[tuple[tuple[str, ...], int]] | None:
        """Return names and number of combinations of each part; None where one has too many."""
        if self.large:
            return None
        return [(part.names, _count(part)) for part in self.parts]

    def size(self) -> int | None:
        """Return the exact number of points; None where it is not finite, or too large to be counted."""
        if self.impossible is not None:
            return 0
        if any(isinstance(dimension, CONTINUOUS) for dimension in self._dimensions.values()) or self.large:
            return None
        return math.prod(map(_count, self.parts))

    def raw(self, index: int) -> dict[str, Any]:
        """Return the values, before the rules, of point number *index* of a finite space.

        Raises:
            IndexError: There is no such point.
        """
        rest, values = index, dict[str, Any]()
        for part in reversed(self.parts):
            rest, digit = divmod(rest, _count(part))
            values.update(_row(part, digit))
        if rest:
            raise IndexError(f"point {index} is outside 0..{(self.size() or 1) - 1}")
        return values

    def composed(self, uniform: Callable[[str], float], permuted: Callable[[int], int]) -> dict[str, Any]:
        """Return one draw, before the rules that depend on continuous parameters, of a space of any kind.

        What has no table or is weighted comes from *uniform* by name; *permuted* gives a number below the
        count of all the rest.
        """
        values: dict[str, Any] = {
            name: dimension.quantile(uniform(name))
            for name, dimension in self._dimensions.items()
            if isinstance(dimension, CONTINUOUS)
        }
        rest: list[Unit | Component] = []
        for part in self.parts:
            if isinstance(part, Component) and (part.weighted or part.table is None):
                values.update(self._drawn(part, uniform))
            elif part.weighted:
                values.update(_unit_draw(part, uniform) if isinstance(part, Unit) else {})
            else:
                rest.append(part)
        number = permuted(math.prod(map(_count, rest)))
        for part in reversed(rest):
            number, digit = divmod(number, _count(part))
            values.update(_row(part, digit))
        return values

    def _drawn(self, part: Component, uniform: Callable[[str], float]) -> dict[str, Any]:
        """Return a combination as its weights have it, of those that the component's rules allow."""
        values: dict[str, Any] = {}
        for attempt in range(_TRIES if part.table is not None else 1):
            values = {}
            for unit in part.units:
                values.update(_unit_draw(unit, uniform, f"#{attempt}" if attempt else ""))
            if part.allows(values):
                return values
        if part.table:
            # The lowest digits of a share are as even as the highest.
            return part.values(part.table[int(uniform(f"#{part.names[0]}") * len(part.table))])
        return values

    def environment(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the names that expressions see, as raw *values* have them."""
        return {**values, **self._fixed}

    def settle(self, values: Mapping[str, Any]) -> dict[str, Any] | Excluded:
        """Return the point that raw *values* are by the rules: what is absent is left out.

        Raises:
            ExpressionError: A rule has no value for them.
        """
        env = self.environment(values)
        step = self.logic.settle(env)
        if step is not None:
            return Excluded(step.path, {name: env[name] for name in step.names})
        return env

    def index(self, env: Mapping[str, Any]) -> int:
        """Return the number of a point with these final values (absent ones marked).

        Raises:
            ValueError: There is none.
        """
        total = 0
        for part in self.parts:
            digit = part.place(env) if isinstance(part, Component) else _digit(part, env)
            total = total * _count(part) + digit
        return total

    def tallies(self) -> list[tuple[Component, Tally]]:
        """Return what building each table found."""
        return [(part, part.tally) for part in self.components if part.table is not None]


def _units(
    dimensions: Mapping[str, Dimension], linked: Sequence[Mapping[str, tuple[Any, ...]]]
) -> dict[tuple[str, ...], Unit]:
    units: dict[tuple[str, ...], Unit] = {
        (name,): Unit((name,), dimension.count(), dimension)
        for name, dimension in dimensions.items()
        if not isinstance(dimension, CONTINUOUS)
    }
    for group in linked:
        units[tuple(group)] = Unit(tuple(group), len(next(iter(group.values()))), None, tuple(group.values()))
    return units


def _count(part: Unit | Component) -> int:
    return part.count if isinstance(part, Unit) else len(part.table or ())


def _row(part: Unit | Component, digit: int) -> dict[str, Any]:
    if isinstance(part, Unit):
        return dict(zip(part.names, part.values(digit), strict=True))
    return part.values((part.table or ())[digit])


def _unit_draw(unit: Unit, uniform: Callable[[str], float], again: str = "") -> dict[str, Any]:
    u = uniform(unit.names[0] + again)
    if unit.dimension is not None:
        return {unit.names[0]: unit.dimension.quantile(u)}
    return dict(zip(unit.names, unit.values(int(u * unit.count)), strict=True))


def _digit(unit: Unit, env: Mapping[str, Any]) -> int:
    if unit.dimension is not None:
        return unit.dimension.digit(env[unit.names[0]])
    rows = [dict(zip(unit.names, unit.values(row), strict=True)) for row in range(unit.count)]
    return find(rows, {name: env[name] for name in unit.names})
