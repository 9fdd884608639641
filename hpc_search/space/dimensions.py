"""Dimensions: what one parameter can be, its values by number or by a share of its distribution."""

from __future__ import annotations

import math
from decimal import Context, Decimal
from typing import Any, Final

import msgspec
from msgspec.structs import force_setattr

from hpc_search.space.canonical import canonical, find

#: Below it, 1e-12 of an integer is far less than 1.
_SMALL: Final = 2**32


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
        return find(self.values, value)


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
#: Those without a finite number of values.
CONTINUOUS: Final = (Uniform, LogUniform)


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
