"""The search space: dimensions, linked groups and fixed values; points by number (mixed radix).

A space is a plain value that stands in plan.json. A number and its point are the same thing in two
forms: the last dimension runs fastest, as in ``itertools.product``, and linked groups are one digit
each, after the dimensions. All counts are exact Python integers.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Context, Decimal
from functools import cached_property
from typing import Any, Final

import msgspec
from msgspec.structs import force_setattr

_NOTHING: Final[frozenset[str]] = frozenset()
#: Below it, 1e-12 of an integer is far less than 1.
_SMALL: Final = 2**32
_SCALARS: Final = (str, int, float, bool, type(None))


class Choice(msgspec.Struct, frozen=True, tag="choice"):
    """One of ``values``, which can be any YAML value: numbers, texts, null, lists, mappings.

    Raises:
        ValueError: There is no value, or one that has no canonical form (nan, inf, a date).
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Keep the values as a tuple and check them."""
        force_setattr(self, "values", tuple(self.values))
        if not self.values:
            raise ValueError("a choice needs at least one value")
        for value in self.values:
            canonical(value)

    def count(self) -> int:
        """Return the number of values."""
        return len(self.values)

    def value(self, digit: int) -> Any:
        """Return value number *digit*."""
        return self.values[digit]

    def digit(self, value: object) -> int:
        """Return the number of the first value equal to *value* in canonical form."""
        return _find(self.values, value)


class Uniform(msgspec.Struct, frozen=True, tag="uniform"):
    """A float, uniform in [low, high).

    Raises:
        ValueError: An end is not finite, or ``low`` is not below ``high``.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Make the ends floats and check them."""
        _float_ends(self)

    def quantile(self, u: float) -> float:
        """Return the value below which a share *u* of the distribution lies, 0 <= u < 1."""
        return min(max(self.low * (1.0 - u) + self.high * u, self.low), self.high)


class LogUniform(msgspec.Struct, frozen=True, tag="log_uniform"):
    """A float whose logarithm is uniform in [log low, log high).

    Raises:
        ValueError: An end is not finite or not positive, or ``low`` is not below ``high``.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Make the ends floats and check them."""
        _float_ends(self)
        _positive(self.low)

    def quantile(self, u: float) -> float:
        """Return the value below which a share *u* of the distribution lies, 0 <= u < 1."""
        between = _log_between(Decimal(self.low), Decimal(self.high), u, 30)
        return min(max(float(between), self.low), self.high)


class _Integers(msgspec.Struct, frozen=True):
    """What both ranges of integers share: ``low`` to ``high``, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        """Check the ends."""
        if self.low > self.high:
            raise ValueError(f"a range needs low not above high, not [{self.low}, {self.high}]")

    def count(self) -> int:
        """Return the number of integers."""
        return self.high - self.low + 1

    def value(self, digit: int) -> int:
        """Return integer number *digit*."""
        return self.low + digit

    def digit(self, value: object) -> int:
        """Return the number of *value*; 3.0 is 3, True is not 1."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise ValueError(f"{value!r} is not an integer between {self.low} and {self.high}")
        return value - self.low


class Int(_Integers, frozen=True, tag="int"):
    """An integer, uniform between ``low`` and ``high``, both included.

    Raises:
        ValueError: ``low`` is above ``high``.
    """


class LogInt(_Integers, frozen=True, tag="log_int"):
    """An integer between ``low`` and ``high``, both included; k has mass log((k + 1) / k).

    In a grid and in ``size`` it is a plain range of integers; only random draws see the logarithm.

    Raises:
        ValueError: ``low`` is below 1 or above ``high``.
    """

    def __post_init__(self) -> None:
        """Check the ends."""
        _Integers.__post_init__(self)
        _positive(self.low)

    def quantile(self, u: float) -> int:
        """Return the integer part of a log-uniform value in [low, high + 1) at the share *u*."""
        if self.high < _SMALL:
            guess = self.low * math.exp(u * math.log((self.high + 1) / self.low))
            # No libm errs by 1e-12: away from an integer, every machine finds the same integer part.
            if abs(guess - round(guess)) > guess * 1e-12:
                return int(guess)
        precision = 30 + self.high.bit_length() // 3
        between = _log_between(Decimal(self.low), Decimal(self.high + 1), u, precision)
        return min(max(int(between), self.low), self.high)


Dimension = Choice | Uniform | LogUniform | Int | LogInt
_CONTINUOUS: Final = (Uniform, LogUniform)


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
            if isinstance(dimension, _CONTINUOUS):
                return None
            rows *= dimension.count()
        return rows

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
        return tuple(name for name, d in self.dimensions.items() if isinstance(d, _CONTINUOUS))

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
            if name not in given and not isinstance(dimension, _CONTINUOUS):
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
            if isinstance(dimension, _CONTINUOUS):
                raise ValueError(f"points cannot be numbered: {name} is continuous")  # noqa: TRY004 - a value
            with _naming(name):
                total = total * dimension.count() + dimension.digit(params[name])
        for group in self.linked:
            rows = [{name: values[row] for name, values in group.items()} for row in range(_rows(group))]
            with _naming(", ".join(group)):
                total = total * len(rows) + _find(rows, {name: params[name] for name in group})
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


def canonical(params: object) -> bytes:
    """Return the one text of *params*, an ASCII JSON: equal values give equal bytes everywhere.

    1, 1.0 and 1e0 are equal, so are 0 and -0.0; 1, true and "1" differ; null differs from absent.
    Mappings are sorted by key. Integers of any size are exact.

    Raises:
        ValueError: A number is nan or infinite, a key is no text, or a type is not of YAML's.
    """
    return _text(params).encode("ascii")


def point_hash(params: object) -> str:
    """Return 16 hexadecimal digits of blake2b over the canonical form of *params*."""
    return hashlib.blake2b(canonical(params), digest_size=8).hexdigest()


def duplicates(values: Sequence[object]) -> list[tuple[int, int]]:
    """Return pairs (first, later) of positions, from 0, of *values* equal in canonical form."""
    first: dict[bytes, int] = {}
    earlier = [first.setdefault(canonical(value), place) for place, value in enumerate(values)]
    return [(before, place) for place, before in enumerate(earlier) if before != place]


def _text(value: object) -> str:
    if value is None or isinstance(value, (bool, str)):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(key)}:{_text(value[key])}" for key in _keys(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_text, value)) + "]"
    raise ValueError(f"a value of type {type(value).__name__} is not a YAML value: {value!r}")


def _number(value: float) -> str:
    if isinstance(value, int):
        return int.__repr__(value)
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return str(int(value)) if value.is_integer() else float.__repr__(value)


def _keys(mapping: Mapping[Any, Any]) -> list[str]:
    for key in mapping:
        if not isinstance(key, str):
            raise ValueError(f"a key of a mapping must be a text, not {key!r}")  # noqa: TRY004 - as for values
    return sorted(mapping)


def _fresh(value: Any) -> Any:
    return value if isinstance(value, _SCALARS) else copy.deepcopy(value)


def _find(values: Sequence[object], value: object) -> int:
    wanted = canonical(value)
    for place, candidate in enumerate(values):
        if canonical(candidate) == wanted:
            return place
    raise ValueError(f"{value!r} is not one of the {len(values)} values")


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


def _float_ends(ends: Uniform | LogUniform) -> None:
    low, high = float(ends.low), float(ends.high)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"a range needs finite ends, low below high, not [{low}, {high}]")
    # 1 and 1.0 give the same plan text, and so the same search id.
    force_setattr(ends, "low", low)
    force_setattr(ends, "high", high)


def _positive(low: float) -> None:
    if low <= 0:
        raise ValueError(f"a logarithmic range must start above 0, not at {low}")


def _log_between(low: Decimal, high: Decimal, u: float, precision: int) -> Decimal:
    # Decimal's ln and exp are correctly rounded on every machine; those of libm are not, and a point
    # would depend on the node that asks for it.
    context = Context(prec=precision)
    share = context.create_decimal_from_float(u)
    step = context.multiply(share, context.ln(context.divide(high, low)))
    return context.multiply(low, context.exp(step))


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
