"""A walk through the combinations of a component: depth first, back as soon as a constraint does not hold.

A combination is one number, mixed radix over the component's units. What is absent does not branch, so that
the work is about the number of combinations that are left.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from hpc_search.space.canonical import canonical
from hpc_search.space.dimensions import Finite
from hpc_search.space.operations import NOT_APPLICABLE, ExpressionError
from hpc_search.space.rules import Step

#: Combinations that one component may have; more are not put into a table.
MOST_ROWS: Final = 10**6
#: Examples that are kept of each kind.
EXAMPLES: Final = 8


@dataclass(frozen=True, slots=True)
class Unit:
    """What takes one digit of a number: a finite dimension, or a group of linked lists."""

    names: tuple[str, ...]
    count: int
    #: The dimension, or None for a group, whose lists are ``columns``.
    dimension: Finite | None
    columns: tuple[tuple[Any, ...], ...] = ()

    def values(self, digit: int) -> tuple[Any, ...]:
        """Return the value of each name."""
        if self.dimension is not None:
            return (self.dimension.value(digit),)
        return tuple(column[digit] for column in self.columns)

    @property
    def weighted(self) -> bool:
        """Whether some values are drawn more often than others."""
        return self.dimension is not None and self.dimension.weighted


class Example(NamedTuple):
    """Parameters of a combination, and what some became (of another combination: what it equals)."""

    values: dict[str, Any]
    became: dict[str, Any]


@dataclass(slots=True)
class Count:
    """How many combinations a rule concerned, with the first few."""

    number: int = 0
    #: Of a condition: how often it held.
    held: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """What the walk found, by the path of a rule; numbers are of raw combinations, absent ones included."""

    excluded: dict[str, Count] = field(default_factory=dict)
    changed: dict[str, Count] = field(default_factory=dict)
    conditions: dict[str, Count] = field(default_factory=dict)
    #: Different raw combinations that normalisation, or the absence of a linked value, made equal to others.
    merged: Count = field(default_factory=Count)
    #: Those that differ from others only in what is absent.
    absent: int = 0
    #: Path -> what went wrong for which parameters.
    failed: dict[str, tuple[ExpressionError, dict[str, Any]]] = field(default_factory=dict)


class Schedule:
    """Which rules are applied once which unit is bound: each as soon as its names are final."""

    def __init__(self, units: Sequence[Unit], steps: Sequence[Step], fixed: Mapping[str, Any]) -> None:
        self.conditional = frozenset(step.target for step in steps if step.kind == "when")
        self._pending = list(steps)
        self._bound = set(fixed)
        self._names = {name for unit in units for name in unit.names}
        gated = {unit.names[0]: place for place, unit in enumerate(units) if len(unit.names) == 1}
        #: Before any unit is bound, and after each.
        self.after: list[list[Step]] = []
        #: Conditions of later units, decided then: (unit, step).
        self.gates: list[list[tuple[int, Step]]] = []
        #: Raw values that the rules applied then may have changed before.
        self.resets: list[list[str]] = []
        #: Whether two numbers can be one combination.
        self.merges = False
        self._round(gated, range(len(units)))
        for place, unit in enumerate(units):
            self._bound.update(unit.names)
            self._round(gated, range(place + 1, len(units)))
            # Of a continuous parameter only the condition stands here: it has no value in the walk.
            here = [name for name in self._targets(-1) if name not in unit.names and name in self._names]
            self.resets.append(here)
        self.merges |= any(step.kind == "normalise" for step in steps)
        #: After which unit (+ 1) each unit's condition is decided; -1 where it has none.
        self.decided = [-1] * len(units)
        for place, decided in enumerate(self.gates):
            for other, _ in decided:
                self.decided[other] = place
        #: Units after which something is decided, so that they are visited even where they are absent.
        self.busy = [
            bool(after or gates) for after, gates in zip(self.after[1:], self.gates[1:], strict=True)
        ]

    def _targets(self, place: int) -> list[str]:
        return [step.target for step in self.after[place] if step.kind in ("when", "normalise")]

    def _round(self, gated: Mapping[str, int], later: range) -> None:
        after: list[Step] = []
        gates: list[tuple[int, Step]] = []
        self.after.append(after)
        self.gates.append(gates)
        while True:
            step = next((step for step in self._pending if self._ready(step, gated, later)), None)
            if step is None:
                return
            self._pending.remove(step)
            if step.kind == "when" and gated.get(step.target, -1) in later:
                gates.append((gated[step.target], step))
                continue
            self.merges |= step.kind == "when" and step.target in self._names
            after.append(step)
            if step.kind == "derived":
                self._bound.add(step.target)

    def _ready(self, step: Step, gated: Mapping[str, int], later: range) -> bool:
        if not all(self._final(name) for name in step.needs):
            return False
        if step.kind in ("constraint", "derived") or step.target not in self._names:
            return True
        first = next(other for other in self._pending if other.target == step.target)
        bound = step.target in self._bound or (step.kind == "when" and gated.get(step.target, -1) in later)
        return first is step and bound

    def _final(self, name: str) -> bool:
        return name in self._bound and not any(step.target == name for step in self._pending)


class TooManyError(Exception):
    """There are more combinations than a table may have."""


class _Frame:
    """A unit that is being bound: the units after it, its next digit, and what holds above it."""

    __slots__ = ("before", "digit", "left", "number", "place", "times")

    def __init__(self, left: tuple[int, ...], number: int, times: int, before: tuple[Any, ...]) -> None:
        self.place, self.left = left[0], left[1:]
        self.digit = 0
        self.number = number
        #: How many raw combinations one digit stands for, by what is absent above.
        self.times = times
        #: Values that the rules after this unit may change.
        self.before = before


class Walk:
    """One depth-first walk through the combinations of a component."""

    def __init__(
        self, units: Sequence[Unit], schedule: Schedule, fixed: Mapping[str, Any], tally: Tally
    ) -> None:
        self._units = units
        self._schedule = schedule
        self._names = tuple(name for unit in units for name in unit.names)
        self._tally = tally
        self._env: dict[str, Any] = {**dict.fromkeys(self._names, NOT_APPLICABLE), **fixed}
        self._raw: dict[str, Any] = {}
        self._active = [True] * len(units)
        # One more than a table may have: the walk ends before it asks for another.
        ends = [min(unit.count, MOST_ROWS + 1) for unit in units]
        self._digits = [
            unit.values(digit) for unit, end in zip(units, ends, strict=True) for digit in range(end)
        ]
        self._starts = [0, *itertools.accumulate(ends)]
        products = itertools.accumulate([unit.count for unit in units[:0:-1]], operator.mul, initial=1)
        self._weights = [*products][::-1]
        self._ends = 0
        self._seen: set[tuple[Any, ...]] = set()

    def rows(self, *, keys: bool = False) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield the number of each different combination; its key too, where *keys* or some may be equal.

        Raises:
            TooManyError: There are more than a table may have.
        """
        merges = self._schedule.merges
        for number, times in self._leaves():
            key = key_of(self._env, self._names) if keys or merges else ()
            # What differs only in absent parameters is one.
            self._tally.absent += times - 1
            if merges:
                if key in self._seen:
                    self._merged()
                    continue
                self._seen.add(key)
            yield number, key

    def _leaves(self) -> Iterator[tuple[int, int]]:
        """Yield (number, how many raw combinations it stands for) of what no constraint excludes."""
        stack: list[_Frame] = []
        found = self._settled(-1, tuple(range(len(self._units))), 1)
        number = 0
        while True:
            if found is not None and found[0]:
                left, times = found
                resets = self._schedule.resets[left[0]]
                before = tuple([self._env[name] for name in resets]) if resets else ()
                stack.append(_Frame(left, number, times, before))
            else:
                self._ends += 1
                if self._ends > MOST_ROWS:
                    raise TooManyError
                if found is not None:
                    yield number, found[1]
            while stack and stack[-1].digit == self._count(stack[-1].place):
                self._restore(stack.pop())
            if not stack:
                return
            frame = stack[-1]
            number = frame.number + frame.digit * self._weights[frame.place]
            found = self._bound(frame)

    def _count(self, place: int) -> int:
        return self._units[place].count if self._active[place] else 1

    def _bound(self, frame: _Frame) -> tuple[tuple[int, ...], int] | None:
        place = frame.place
        if self._active[place]:
            values = self._digits[self._starts[place] + frame.digit]
            for name, value in zip(self._units[place].names, values, strict=True):
                self._env[name] = self._raw[name] = value
        frame.digit += 1
        self._restore(frame)
        return self._settled(place, frame.left, frame.times)

    def _restore(self, frame: _Frame) -> None:
        """Undo what the rules after a unit made of parameters that were bound before it."""
        if frame.before:
            self._env.update(zip(self._schedule.resets[frame.place], frame.before, strict=True))

    def _settled(self, place: int, left: tuple[int, ...], times: int) -> tuple[tuple[int, ...], int] | None:
        """Apply what can be decided now; return what is left to bind, or None where it is excluded."""
        for step in self._schedule.after[place + 1]:
            if not self._applied(step, place, left, times):
                return None
        gates = self._schedule.gates[place + 1]
        if not gates:
            return left, times
        for other, step in gates:
            self._active[other] = self._condition(step, self._raws(place, left, times))
            if not self._active[other]:
                self._env[step.target] = self._raw[step.target] = NOT_APPLICABLE
        for other, _ in gates:
            times *= 1 if self._active[other] else self._units[other].count
        busy = self._schedule.busy
        return tuple([other for other in left if busy[other] or self._open(other, place + 1)]), times

    def _open(self, other: int, place: int) -> bool:
        """Return whether unit *other* may take several values, as far as is known after unit *place*."""
        return self._active[other] or self._schedule.decided[other] > place

    def _raws(self, place: int, left: tuple[int, ...], times: int) -> int:
        """Return how many raw combinations what is bound stands for."""
        for other in left:
            times *= self._units[other].count if self._open(other, place) else 1
        return times

    def _condition(self, step: Step, times: int) -> bool:
        count = self._tally.conditions.setdefault(step.path, Count())
        holds = self._tried(step)
        count.number += times
        count.held += times if holds else 0
        return bool(holds)

    def _applied(self, step: Step, place: int, left: tuple[int, ...], times: int) -> bool:
        """Apply one rule; return whether the combination is still one."""
        if step.kind == "when":
            self._condition(step, self._raws(place, left, times))
            return True
        before = self._env.get(step.target)
        held = self._tried(step)
        if not held:
            if held is not None and step.kind == "constraint":
                self._note(self._tally.excluded, step, self._raws(place, left, times), ())
            return step.kind != "constraint" and held is not None
        if step.kind == "normalise":
            self._note(self._tally.changed, step, self._raws(place, left, times), (before,))
        return True

    def _tried(self, step: Step) -> bool | None:
        try:
            return step.apply(self._env)
        except ExpressionError as error:
            self._tally.failed.setdefault(step.path, (error, self._shown(step)))
            return None

    def _note(self, counts: dict[str, Count], step: Step, times: int, before: tuple[Any, ...]) -> None:
        count = counts.get(step.path) or counts.setdefault(step.path, Count())
        count.number += times
        if len(count.examples) < EXAMPLES:
            target = (step.target,)
            became = {name: self._env[name] for name, _ in zip(target, before, strict=False)}
            example = Example({**self._shown(step), **dict(zip(target, before, strict=False))}, became)
            if example not in count.examples:
                count.examples.append(example)

    def _shown(self, step: Step) -> dict[str, Any]:
        return {name: self._env.get(name, NOT_APPLICABLE) for name in step.names}

    def _merged(self) -> None:
        merged = self._tally.merged
        merged.number += 1
        if len(merged.examples) < EXAMPLES:
            raw = {name: self._raw[name] for name in self._names if self._raw[name] is not NOT_APPLICABLE}
            env = self._env
            became = {name: env[name] for name, value in raw.items() if form(value) != form(env[name])}
            merged.examples.append(Example(raw, became))


_PLAIN: Final = frozenset({int, float, str, type(None), type(NOT_APPLICABLE)})


def key_of(env: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    """Return what is equal exactly for equal values: 1 and 1.0 are, 1 and True are not."""
    values = [env[name] for name in names]
    return tuple([value if value.__class__ in _PLAIN else form(value) for value in values])


def form(value: Any) -> Any:
    """Return what is equal, and hashed alike, exactly for equal values."""
    # Equal numbers of Python have one canonical form and one hash.
    return value if value.__class__ in _PLAIN else canonical(value)
