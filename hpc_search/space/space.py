"""The search space: dimensions, linked groups, fixed values and rules; points by number (mixed radix).

A space is a plain value that stands in plan.json. A number and its point are the same thing in two
forms: the last dimension runs fastest, as in ``itertools.product``, and linked groups are one digit
each, after the dimensions. What rules join is one digit too, at the place of its first parameter: a table of
the combinations that are left (`components`). All counts are exact Python integers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec
from msgspec.structs import force_setattr

from hpc_search.space.audit import Audit, audit
from hpc_search.space.canonical import canonical
from hpc_search.space.dimensions import CONTINUOUS, Choice, Dimension
from hpc_search.space.groups import check_group, naming, row_of, rows_of, without
from hpc_search.space.operations import NOT_APPLICABLE
from hpc_search.space.ruled import Ruled
from hpc_search.space.rules import Excluded, Rules

_NOTHING: Final[frozenset[str]] = frozenset()
_NO_RULES: Final = Rules()
_SCALARS: Final = (str, int, float, bool, type(None))


class Space(msgspec.Struct, frozen=True, dict=True):
    """Every parameter of a search: dimensions, groups of linked lists, fixed values, and rules about them.

    A linked group takes the i-th value of each of its lists together.

    Raises:
        ValueError: Two parts name the same parameter, a group is empty or has lists of different
            lengths, a value has no canonical form, or a rule cannot be used.
    """

    dimensions: dict[str, Dimension]
    linked: tuple[dict[str, tuple[Any, ...]], ...] = ()
    fixed: dict[str, Any] = {}
    #: Left out where there are none, so that such a space has the text it always had.
    rules: Rules | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        """Keep linked lists as tuples and check what joins the parts."""
        groups = tuple({name: tuple(row) for name, row in group.items()} for group in self.linked)
        force_setattr(self, "linked", groups)
        for group in groups:
            check_group(group)
        canonical(self.fixed)
        if self.rules == _NO_RULES:
            force_setattr(self, "rules", msgspec.UNSET)
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"a parameter stands in more than one part of the space: {', '.join(twice)}")
        _ = self.ruled

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all parameters: dimensions, then linked, then fixed, then derived."""
        return (*self.searched, *self.fixed, *self._rules.derived)

    @cached_property
    def searched(self) -> tuple[str, ...]:
        """The names of the dimensions and of the linked parameters."""
        return (*self.dimensions, *(name for group in self.linked for name in group))

    @property
    def _rules(self) -> Rules:
        return _NO_RULES if isinstance(self.rules, msgspec.UnsetType) else self.rules

    @cached_property
    def ruled(self) -> Ruled | None:
        """The parts as the rules join them; None where there are no rules."""
        if isinstance(self.rules, msgspec.UnsetType):
            return None
        return Ruled(self.dimensions, self.linked, self.fixed, self.rules)

    @cached_property
    def conditional(self) -> frozenset[str]:
        """The parameters that some points do not have."""
        return frozenset(self._rules.when)

    @cached_property
    def implied(self) -> dict[str, tuple[str, ...]]:
        """By name, the parameters that count as read with it: see `rules.Logic.implied`."""
        return {} if self.ruled is None else self.ruled.logic.implied()

    def size(self, given: Collection[str] = _NOTHING) -> int | None:
        """Return the exact number of points, not counting the dimensions in *given*.

        None where a dimension that counts is continuous, or where a part has too many combinations for a
        table (`large`). With rules, none can be *given*.
        """
        if self.ruled is not None:
            return self.ruled.size()
        counted = [dimension for name, dimension in self.dimensions.items() if name not in given]
        rows = math.prod(map(rows_of, self.linked))
        for dimension in counted:
            if isinstance(dimension, CONTINUOUS):
                return None
            rows *= dimension.count()
        return rows

    def counts(self) -> list[tuple[tuple[str, ...], int]] | None:
        """Return names and exact number of combinations of each finite part; None where one has too many."""
        if self.ruled is not None:
            return self.ruled.counts()
        finite = {n: d.count() for n, d in self.dimensions.items() if not isinstance(d, CONTINUOUS)}
        return [*(((n,), c) for n, c in finite.items()), *((tuple(g), rows_of(g)) for g in self.linked)]

    @property
    def raw_size(self) -> int | None:
        """The number of combinations before any rule; None where a dimension is continuous."""
        if self.continuous:
            return None
        counts = (d.count() for d in self.dimensions.values() if not isinstance(d, CONTINUOUS))
        return math.prod(counts) * math.prod(map(rows_of, self.linked))

    @property
    def large(self) -> tuple[tuple[str, ...], ...]:
        """The names of each part whose combinations are too many to be listed."""
        return () if self.ruled is None else self.ruled.large

    @property
    def varied(self) -> tuple[str, ...]:
        """The names of the parameters with more than one value: each should have an effect."""
        parts: dict[str, Sequence[object]] = {name: _some(d) for name, d in self.dimensions.items()}
        for group in self.linked:
            parts.update(group)
        return tuple(name for name, values in parts.items() if len(set(map(canonical, values))) > 1)

    def required(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the varied parameters that the point *params* has: a trial of it has to read each."""
        return tuple(name for name in self.varied if name in params)

    @cached_property
    def continuous(self) -> tuple[str, ...]:
        """The names of the dimensions that have no finite number of values."""
        return tuple(name for name, d in self.dimensions.items() if isinstance(d, CONTINUOUS))

    @cached_property
    def free(self) -> dict[str, Dimension]:
        """What a sampler chooses, in order: dimensions with several values by name, and linked groups.

        A group stands under its names joined by " + ", as a choice of its rows, which are mappings.
        """
        free: dict[str, Dimension] = {
            name: d for name, d in self.dimensions.items() if isinstance(d, CONTINUOUS) or d.count() > 1
        }
        for group in self.linked:
            if rows_of(group) > 1:
                rows = [
                    {name: values[row] for name, values in group.items()} for row in range(rows_of(group))
                ]
                free[" + ".join(group)] = Choice(tuple(rows))
        return free

    def at(self, us: Sequence[float]) -> dict[str, Any]:
        """Return the raw values (for `resolve`) at these quantiles in [0, 1), one for each in ``free``."""
        pairs = zip(self.free.items(), us, strict=True)
        return self.raw({name: dimension.quantile(u) for (name, dimension), u in pairs})

    def raw(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the raw values (for `resolve`) of what was *chosen* for each in ``free``."""
        values: dict[str, Any] = {}
        for name, dimension in self.dimensions.items():
            single = not isinstance(dimension, CONTINUOUS) and name not in self.free
            values[name] = _first(dimension) if single else chosen[name]
        for group in self.linked:
            key = " + ".join(group)
            values.update(chosen[key] if key in self.free else {name: row[0] for name, row in group.items()})
        return values

    def chosen(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what *params* have for each in ``free``; what is absent, or of no row, is left out."""
        found = {name: params[name] for name in self.free if name in params}
        for group in self.linked:
            key = " + ".join(group)
            if key in self.free and all(name in params for name in group):
                found[key] = {name: params[name] for name in group}
        return found

    def point(self, index: int) -> dict[str, Any]:
        """Return the parameters of point number *index*, in the order of ``names``.

        Raises:
            IndexError: There is no such point.
            ValueError: The space is not finite.
        """
        if self.ruled is None:
            return self.draw(index, {})
        if self.size() is None:
            self._check_given({})
            raise ValueError(f"points cannot be numbered: too many combinations of {self.large}")
        found = self.settled(self.ruled.raw(index))
        if isinstance(found, Excluded):
            raise ValueError(f"point {index} is excluded by {found.path}: {found.text}")  # noqa: TRY004 - a bug
        return found

    def draw(self, index: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the point whose dimensions in *given* are as given, the others digits of *index*.

        Only of a space without rules.

        Raises:
            IndexError: *index* is outside the number of points of the other dimensions.
            ValueError: One of the other dimensions is continuous, or *given* names no dimension.
        """
        self._check_given(given)
        rest = index
        params: dict[str, Any] = dict.fromkeys(self.names)
        params.update(self.fixed)
        params.update(given)
        for group in reversed(self.linked):
            rest, row = divmod(rest, rows_of(group))
            params.update({name: values[row] for name, values in group.items()})
        for name, dimension in reversed(self.dimensions.items()):
            if name not in given and not isinstance(dimension, CONTINUOUS):
                rest, digit = divmod(rest, dimension.count())
                params[name] = dimension.value(digit)
        if rest:
            raise IndexError(f"point {index} is outside 0..{(self.size(given) or 1) - 1}")
        return {name: _fresh(value) for name, value in params.items()}

    def settled(self, values: Mapping[str, Any]) -> dict[str, Any] | Excluded:
        """Return the point that *values*, one of each searched parameter and unchecked, are by the rules.

        Raises:
            ValueError: A rule has no value for them (a division by zero).
        """
        env = {**values, **self.fixed} if self.ruled is None else self.ruled.settle(values)
        if isinstance(env, Excluded):
            return env
        return {name: _fresh(env[name]) for name in self.names if env[name] is not NOT_APPLICABLE}

    def resolve(self, params: Mapping[str, Any]) -> dict[str, Any] | Excluded:
        """Return *params* as a point: normalised, with derived and fixed values, without what is absent.

        Fixed and derived values may be left out of *params*, and what is absent may stand in it. A point
        resolves to itself. `Excluded` says which constraint it breaks.

        Raises:
            ValueError: It is no combination of values of this space; the parameter is named.
        """
        self._check_params(params)
        found = self.settled({name: params.get(name, NOT_APPLICABLE) for name in self.searched})
        if isinstance(found, Excluded):
            return found
        missing = [name for name in self.searched if name not in params and self._present(name, found)]
        if missing:
            raise ValueError(f"not a point of the space: lacks {', '.join(map(repr, missing))}")
        for name in self._rules.derived:
            if name in params and canonical(params[name]) != canonical(found[name]):
                raise ValueError(f"{name}: {params[name]!r} is not the derived value {found[name]!r}")
        return found

    def _present(self, name: str, found: Mapping[str, Any]) -> bool:
        """Return whether a point with the final values *found* has the parameter *name*."""
        if self.ruled is None or name not in self.conditional:
            return True
        env = {**dict.fromkeys(self.names, NOT_APPLICABLE), **found}
        return self.ruled.logic.holds(name, env)

    def index(self, params: Mapping[str, Any]) -> int:
        """Return the number of the point that *params* resolve to; values are compared in canonical form.

        Raises:
            ValueError: *params* is not a point of this space, or the space is not finite.
        """
        if self.continuous:
            raise ValueError(f"points cannot be numbered: {self.continuous[0]} is continuous")
        found = self.resolve(params)
        if isinstance(found, Excluded):
            raise ValueError(f"not a point of the space: excluded by {found.path} ({found.text})")  # noqa: TRY004
        if self.ruled is not None:
            if self.large:
                raise ValueError(f"points cannot be numbered: too many combinations of {self.large}")
            return self.ruled.index({**dict.fromkeys(self.names, NOT_APPLICABLE), **found})
        total = 0
        for name, dimension in self.dimensions.items():
            with naming(name):
                total = total * _count(dimension) + _digit(dimension, found[name])
        for group in self.linked:
            total = total * rows_of(group) + row_of(group, found)
        return total

    def audit(self) -> Audit:
        """Return what the rules do: exact counts, examples, and what goes wrong; the tables are built."""
        return audit(self)

    def with_fixed(self, values: Mapping[str, Any]) -> Space:
        """Return the space where these parameters have one value each, and no rules of their own.

        Raises:
            ValueError: A rule cannot be used any more.
        """
        if not values:
            return self
        dimensions = {name: d for name, d in self.dimensions.items() if name not in values}
        linked = [without(group, values) for group in self.linked]
        rules = self._rules
        kept = Rules(
            when={name: text for name, text in rules.when.items() if name not in values},
            constraints=rules.constraints,
            derived={name: text for name, text in rules.derived.items() if name not in values},
            normalise={name: several for name, several in rules.normalise.items() if name not in values},
        )
        return Space(dimensions, tuple(group for group in linked if group), {**self.fixed, **values}, kept)

    def _check_given(self, given: Mapping[str, Any]) -> None:
        if not given.keys() <= self.dimensions.keys():
            raise ValueError(f"not dimensions of the space: {sorted(given.keys() - self.dimensions.keys())}")
        free = [name for name in self.continuous if name not in given]
        if free:
            raise ValueError(f"points cannot be numbered: {', '.join(free)} is continuous")

    def _check_params(self, params: Mapping[str, Any]) -> None:
        missing = [name for name in self.searched if name not in params and name not in self.conditional]
        unknown = [str(name) for name in params if name not in self.names]
        if missing or unknown:
            faults = {"lacks ": missing, "the space has no ": unknown}
            told = [f"{what}{', '.join(map(repr, names))}" for what, names in faults.items() if names]
            raise ValueError(f"not a point of the space: {'; '.join(told)}")
        for name, value in self.fixed.items():
            if name in params and canonical(params[name]) != canonical(value):
                raise ValueError(f"{name}: {params[name]!r} is not the fixed value {value!r}")
        for name, dimension in self.dimensions.items():
            if name in params and not self.becomes(name, params[name]):
                with naming(name):
                    _digit(dimension, params[name])
        for group in self.linked:
            if all(name in params and not self.becomes(name, params[name]) for name in group):
                row_of(group, params)

    def becomes(self, name: str, value: object) -> bool:
        """Return whether a rule can make *value* of *name*."""
        rules = self._rules.normalise.get(name, ())
        return any(canonical(rule.to) == canonical(value) for rule in rules)


def _fresh(value: Any) -> Any:
    return value if isinstance(value, _SCALARS) else copy.deepcopy(value)


def _some(dimension: Dimension) -> Sequence[object]:
    """Return values of *dimension*, two where it has two."""
    if isinstance(dimension, CONTINUOUS):
        return (0, 1)
    return dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)


def _first(dimension: Dimension) -> Any:
    return None if isinstance(dimension, CONTINUOUS) else dimension.value(0)


def _count(dimension: Dimension) -> int:
    return 1 if isinstance(dimension, CONTINUOUS) else dimension.count()


def _digit(dimension: Dimension, value: object) -> int:
    if not isinstance(dimension, CONTINUOUS):
        return dimension.digit(value)
    if dimension.has(value):
        return 0
    raise ValueError(f"{value!r} is not a number in the range")
