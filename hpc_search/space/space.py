"""The search space: dimensions, linked groups and fixed values; points by number (mixed radix).

A space is a plain value that stands in plan.json. A number and its point are the same thing in two
forms: the last dimension runs fastest, as in ``itertools.product``, and linked groups are one digit
each, after the dimensions. All counts are exact Python integers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final

import msgspec
from msgspec.structs import force_setattr

from hpc_search.space.canonical import canonical, find
from hpc_search.space.dimensions import CONTINUOUS, Choice, Dimension

_NOTHING: Final[frozenset[str]] = frozenset()
_SCALARS: Final = (str, int, float, bool, type(None))


class Space(msgspec.Struct, frozen=True, dict=True):
    """Every parameter of a search: dimensions, groups of linked lists, and fixed values.

    A linked group takes the i-th value of each of its lists together.

    Raises:
        ValueError: Two parts name the same parameter, a group is empty or has lists of different
            lengths, or a value has no canonical form.
    """

    dimensions: dict[str, Dimension]
    linked: tuple[dict[str, tuple[Any, ...]], ...] = ()
    fixed: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Keep linked lists as tuples and check what joins the parts."""
        groups = tuple({name: tuple(row) for name, row in group.items()} for group in self.linked)
        force_setattr(self, "linked", groups)
        for group in groups:
            _check_group(group)
        canonical(self.fixed)
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"a parameter stands in more than one part of the space: {', '.join(twice)}")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all parameters: dimensions, then linked, then fixed."""
        linked = (name for group in self.linked for name in group)
        return (*self.dimensions, *linked, *self.fixed)

    def size(self, given: Collection[str] = _NOTHING) -> int | None:
        """Return the exact number of points, not counting the dimensions in *given*.

        None where a dimension that counts is continuous.
        """
        counted = [dimension for name, dimension in self.dimensions.items() if name not in given]
        rows = math.prod(map(_rows, self.linked))
        for dimension in counted:
            if isinstance(dimension, CONTINUOUS):
                return None
            rows *= dimension.count()
        return rows

    def with_fixed(self, fixed: Mapping[str, Any]) -> Space:
        """Return this space with the parameters *fixed* at one value each, whatever they were before."""
        if not fixed:
            return self
        groups = ({name: row for name, row in group.items() if name not in fixed} for group in self.linked)
        return Space(
            {name: dimension for name, dimension in self.dimensions.items() if name not in fixed},
            tuple(filter(None, groups)),
            {**self.fixed, **fixed},
        )

    @property
    def varied(self) -> tuple[str, ...]:
        """The names of the parameters with more than one value: each should have an effect."""
        parts: dict[str, Sequence[object]] = {
            name: dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
            for name, dimension in self.dimensions.items()
        }
        for group in self.linked:
            parts.update(group)
        return tuple(name for name, values in parts.items() if len(set(map(canonical, values))) > 1)

    @cached_property
    def continuous(self) -> tuple[str, ...]:
        """The names of the dimensions that have no finite number of values."""
        return tuple(name for name, d in self.dimensions.items() if isinstance(d, CONTINUOUS))

    def point(self, index: int) -> dict[str, Any]:
        """Return the parameters of point number *index*, in the order of ``names``.

        Raises:
            IndexError: There is no such point.
            ValueError: The space is not finite.
        """
        return self.draw(index, {})

    def draw(self, index: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the point whose dimensions in *given* are as given, the others digits of *index*.

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
            rest, row = divmod(rest, _rows(group))
            params.update({name: values[row] for name, values in group.items()})
        for name, dimension in reversed(self.dimensions.items()):
            if name not in given and not isinstance(dimension, CONTINUOUS):
                rest, digit = divmod(rest, dimension.count())
                params[name] = dimension.value(digit)
        if rest:
            raise IndexError(f"point {index} is outside 0..{(self.size(given) or 1) - 1}")
        return {name: _fresh(value) for name, value in params.items()}

    def index(self, params: Mapping[str, Any]) -> int:
        """Return the number of the point *params*; values are compared in canonical form.

        Raises:
            ValueError: *params* is not a point of this space, or the space is not finite.
        """
        self._check_params(params)
        total = 0
        for name, dimension in self.dimensions.items():
            if isinstance(dimension, CONTINUOUS):
                raise ValueError(f"points cannot be numbered: {name} is continuous")  # noqa: TRY004 - a value
            with _naming(name):
                total = total * dimension.count() + dimension.digit(params[name])
        for group in self.linked:
            rows = [{name: values[row] for name, values in group.items()} for row in range(_rows(group))]
            with _naming(", ".join(group)):
                total = total * len(rows) + find(rows, {name: params[name] for name in group})
        return total

    def _check_given(self, given: Mapping[str, Any]) -> None:
        if not given.keys() <= self.dimensions.keys():
            raise ValueError(f"not dimensions of the space: {sorted(given.keys() - self.dimensions.keys())}")
        free = [name for name in self.continuous if name not in given]
        if free:
            raise ValueError(f"points cannot be numbered: {', '.join(free)} is continuous")

    def _check_params(self, params: Mapping[str, Any]) -> None:
        names = self.names
        missing = [name for name in names if name not in params]
        unknown = [str(name) for name in params if name not in names]
        if missing or unknown:
            raise ValueError(f"not a point of the space: missing {missing}, unknown {unknown}")
        for name, value in self.fixed.items():
            if canonical(params[name]) != canonical(value):
                raise ValueError(f"{name}: {params[name]!r} is not the fixed value {value!r}")


def _fresh(value: Any) -> Any:
    return value if isinstance(value, _SCALARS) else copy.deepcopy(value)


def _rows(group: Mapping[str, Sequence[object]]) -> int:
    return len(next(iter(group.values())))


def _check_group(group: Mapping[str, Sequence[object]]) -> None:
    lengths = {name: len(values) for name, values in group.items()}
    if not group or 0 in lengths.values():
        raise ValueError(f"a linked group needs parameters with values, not {lengths}")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"linked lists have different lengths: {lengths}")
    for values in group.values():
        canonical(values)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
