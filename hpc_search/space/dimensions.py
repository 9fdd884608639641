"""Dimensions: what one parameter can be, its values by number or by a share of its distribution."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from decimal import Context, Decimal
from typing import Any, Final

import msgspec
from msgspec.structs import force_setattr

from hpc_search.space import normal
from hpc_search.space.canonical import canonical, find
from hpc_search.space.shares import log_between, log_normal, step_at

#: Below it, 1e-12 of an integer is far less than 1.
_SMALL: Final = 2**32


class Prior(msgspec.Struct, frozen=True):
    """Where the best values are thought to be: a normal distribution, cut to the range.

    In a logarithmic range the logarithm is normal, and ``sd`` is a factor above 1.

    Raises:
        ValueError: A number is not finite, or ``sd`` is not above 0.
    """

    at: float
    sd: float

    def __post_init__(self) -> None:
        """Make the numbers floats and check them."""
        _finite(self, "at", "sd")
        if self.sd <= 0:
            raise ValueError(f"the sd of a prior must be above 0, not {self.sd}")


class Choice(msgspec.Struct, frozen=True, tag="choice", omit_defaults=True):
    """One of ``values``, which can be any YAML value: numbers, texts, null, lists, mappings.

    ``weights`` say how often each is drawn; () is equally often.

    Raises:
        ValueError: There is no value, or one that has no canonical form (nan, inf, a date); the weights are
            not as many as the values, or not above 0.
    """

    values: tuple[Any, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Keep the values as a tuple and check them."""
        force_setattr(self, "values", tuple(self.values))
        force_setattr(self, "weights", tuple(map(float, self.weights)))
        if not self.values:
            raise ValueError("a choice needs at least one value")
        for value in self.values:
            canonical(value)
        if self.weights and len(self.weights) != len(self.values):
            raise ValueError(f"{len(self.values)} values have {len(self.weights)} weights")
        if not all(weight > 0 and math.isfinite(weight) for weight in self.weights):
            raise ValueError(f"weights must be finite and above 0, not {list(self.weights)}")

    @property
    def weighted(self) -> bool:
        """Whether some values are drawn more often than others."""
        return bool(self.weights)

    def count(self) -> int:
        """Return the number of values."""
        return len(self.values)

    def value(self, digit: int) -> Any:
        """Return value number *digit*."""
        return self.values[digit]

    def digit(self, value: object) -> int:
        """Return the number of the first value equal to *value* in canonical form."""
        return find(self.values, value)

    def quantile(self, u: float) -> Any:
        """Return the value below which a share *u* of the distribution lies, 0 <= u < 1."""
        if not self.weights:
            return self.values[min(int(u * len(self.values)), len(self.values) - 1)]
        sums = list(itertools.accumulate(self.weights))
        return self.values[min(bisect_right(sums, u * sums[-1]), len(sums) - 1)]


class Uniform(msgspec.Struct, frozen=True, tag="uniform", omit_defaults=True):
    """A float, uniform in [low, high), or as its prior says.

    Raises:
        ValueError: An end is not finite, ``low`` is not below ``high``, or the prior is outside.
    """

    low: float
    high: float
    prior: Prior | None = None

    def __post_init__(self) -> None:
        """Make the ends floats and check them."""
        _float_ends(self)
        _check_prior(self.prior, self.low, self.high)

    def quantile(self, u: float) -> float:
        """Return the value below which a share *u* of the distribution lies, 0 <= u < 1."""
        if self.prior is not None:
            return normal.truncated(u, self.prior.at, self.prior.sd, self.low, self.high)
        return min(max(self.low * (1.0 - u) + self.high * u, self.low), self.high)

    def has(self, value: object) -> bool:
        """Return whether *value* is a number in the range."""
        return _between(value, self.low, self.high)


class LogUniform(msgspec.Struct, frozen=True, tag="log_uniform", omit_defaults=True):
    """A float whose logarithm is uniform in [log low, log high), or as its prior says.

    Raises:
        ValueError: An end is not finite or not positive, ``low`` is not below ``high``, or the prior is
            outside, or its ``sd`` no factor above 1.
    """

    low: float
    high: float
    prior: Prior | None = None

    def __post_init__(self) -> None:
        """Make the ends floats and check them."""
        _float_ends(self)
        _positive(self.low)
        _check_prior(self.prior, self.low, self.high, factor=True)

    def quantile(self, u: float) -> float:
        """Return the value below which a share *u* of the distribution lies, 0 <= u < 1."""
        if self.prior is not None:
            return min(
                max(log_normal(u, self.prior.at, self.prior.sd, self.low, self.high), self.low), self.high
            )
        between = log_between(Decimal(self.low), Decimal(self.high), u, 30)
        return min(max(float(between), self.low), self.high)

    def has(self, value: object) -> bool:
        """Return whether *value* is a number in the range."""
        return _between(value, self.low, self.high)


class Normal(msgspec.Struct, frozen=True, tag="normal"):
    """A float, normally distributed.

    Raises:
        ValueError: A number is not finite, or ``sd`` is not above 0.
    """

    mean: float
    sd: float

    def __post_init__(self) -> None:
        """Make the numbers floats and check them."""
        _finite(self, "mean", "sd")
        if self.sd <= 0:
            raise ValueError(f"the sd of a normal distribution must be above 0, not {self.sd}")

    def quantile(self, u: float) -> float:
        """Return the value below which a share *u* of the distribution lies, 0 <= u < 1."""
        return self.mean + self.sd * normal.quantile(u)

    def has(self, value: object) -> bool:
        """Return whether *value* is a finite number."""
        return _between(value, -math.inf, math.inf)


class Quantized(msgspec.Struct, frozen=True, tag="quantized", omit_defaults=True):
    """The floats from ``low`` to ``high``, both included, in steps; exact in decimal: 0, 0.05, 0.1, 0.15.

    Raises:
        ValueError: A number is not finite, ``low`` is not below ``high``, the step is not above 0 or does not
            divide the range, or the prior is outside.
    """

    low: float
    high: float
    step: float
    prior: Prior | None = None

    def __post_init__(self) -> None:
        """Make the numbers floats and check them."""
        _float_ends(self)
        _finite(self, "step")
        if self.step <= 0:
            raise ValueError(f"a step must be above 0, not {self.step}")
        steps = self._steps()
        if steps != int(steps):
            raise ValueError(f"the step {self.step} does not divide the range from {self.low} to {self.high}")
        _check_prior(self.prior, self.low, self.high)

    @property
    def weighted(self) -> bool:
        """Whether some values are drawn more often than others."""
        return self.prior is not None

    def _steps(self) -> Decimal:
        low, high, step = (Decimal(repr(number)) for number in (self.low, self.high, self.step))
        return _EXACT.divide(_EXACT.subtract(high, low), step)

    def count(self) -> int:
        """Return the number of values."""
        return int(self._steps()) + 1

    def value(self, digit: int) -> float:
        """Return value number *digit*."""
        return float(_EXACT.fma(Decimal(digit), Decimal(repr(self.step)), Decimal(repr(self.low))))

    def digit(self, value: object) -> int:
        """Return the number of *value*."""
        if _between(value, self.low, self.high) and isinstance(value, int | float):
            above = _EXACT.subtract(Decimal(repr(value)), Decimal(repr(self.low)))
            digit = round(_EXACT.divide(above, Decimal(repr(self.step))))
            if self.value(digit) == value:
                return digit
        raise ValueError(f"{value!r} is not between {self.low} and {self.high} in steps of {self.step}")

    def quantile(self, u: float) -> float:
        """Return the value below which a share *u* of the distribution lies, 0 <= u < 1."""
        at, sd = _in_steps(self)
        return self.value(step_at(u, self.count(), at, sd))


class _Integers(msgspec.Struct, frozen=True, omit_defaults=True):
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


class Int(_Integers, frozen=True, tag="int", omit_defaults=True):
    """An integer between ``low`` and ``high``, both included, in steps; uniform, or as its prior says.

    Raises:
        ValueError: ``low`` is above ``high``, the step is below 1 or does not divide the range, or the
            prior is outside.
    """

    step: int = 1
    prior: Prior | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        _Integers.__post_init__(self)
        if self.step < 1:
            raise ValueError(f"a step must be at least 1, not {self.step}")
        if (self.high - self.low) % self.step:
            raise ValueError(f"the step {self.step} does not divide the range from {self.low} to {self.high}")
        _check_prior(self.prior, self.low, self.high)

    @property
    def weighted(self) -> bool:
        """Whether some values are drawn more often than others."""
        return self.prior is not None

    def count(self) -> int:
        """Return the number of integers."""
        return (self.high - self.low) // self.step + 1

    def value(self, digit: int) -> int:
        """Return integer number *digit*."""
        return self.low + digit * self.step

    def digit(self, value: object) -> int:
        """Return the number of *value*; 3.0 is 3, True is not 1."""
        digit, rest = divmod(_Integers.digit(self, value), self.step)
        if rest:
            raise ValueError(f"{value!r} is not {self.low} and a multiple of {self.step}")
        return digit

    def quantile(self, u: float) -> int:
        """Return the value below which a share *u* of the distribution lies, 0 <= u < 1."""
        at, sd = _in_steps(self)
        return self.value(step_at(u, self.count(), at, sd))


class LogInt(_Integers, frozen=True, tag="log_int", omit_defaults=True):
    """An integer between ``low`` and ``high``, both included; k has mass log((k + 1) / k), or by its prior.

    In a grid and in ``size`` it is a plain range of integers; only random draws see the logarithm.

    Raises:
        ValueError: ``low`` is below 1 or above ``high``, or the prior is outside, or its ``sd`` no factor
            above 1.
    """

    prior: Prior | None = None

    def __post_init__(self) -> None:
        """Check the ends."""
        _Integers.__post_init__(self)
        _positive(self.low)
        _check_prior(self.prior, self.low, self.high, factor=True)

    @property
    def weighted(self) -> bool:
        """Whether some values are drawn more often than others: always."""
        return True

    def quantile(self, u: float) -> int:
        """Return the integer part of a log-uniform value in [low, high + 1) at the share *u*."""
        if self.prior is not None:
            drawn = log_normal(u, self.prior.at, self.prior.sd, self.low, self.high + 1)
            return min(max(int(drawn), self.low), self.high)
        if self.high < _SMALL:
            guess = self.low * math.exp(u * math.log((self.high + 1) / self.low))
            # No libm errs by 1e-12: away from an integer, every machine finds the same integer part.
            if abs(guess - round(guess)) > guess * 1e-12:
                return int(guess)
        precision = 30 + self.high.bit_length() // 3
        between = log_between(Decimal(self.low), Decimal(self.high + 1), u, precision)
        return min(max(int(between), self.low), self.high)


Finite = Choice | Int | LogInt | Quantized
Dimension = Choice | Uniform | LogUniform | Normal | Quantized | Int | LogInt
#: Those without a finite number of values.
CONTINUOUS: Final = (Uniform, LogUniform, Normal)

#: Wide enough for the sum of any two floats that are written in decimal.
_EXACT: Final = Context(prec=800)


def nearest_end(low: float, high: float, step: float) -> float:
    """Return the highest value not above *high* in steps from *low*; a whole number of whole ones."""
    first, last, each = (Decimal(repr(number)) for number in (low, high, step))
    end = first + _EXACT.divide_int(_EXACT.subtract(last, first), each) * each
    return int(end) if isinstance(low, int) and isinstance(step, int) else float(end)


def _finite(numbers: Any, *names: str) -> None:
    for name in names:
        number = float(getattr(numbers, name))
        if not math.isfinite(number):
            raise ValueError(f"{name} must be a finite number, not {number}")
        # 1 and 1.0 give the same plan text, and so the same search id.
        force_setattr(numbers, name, number)


def _float_ends(ends: Uniform | LogUniform | Quantized) -> None:
    _finite(ends, "low", "high")
    if ends.low >= ends.high:
        raise ValueError(f"a range needs low below high, not [{ends.low}, {ends.high}]")


def _positive(low: float) -> None:
    if low <= 0:
        raise ValueError(f"a logarithmic range must start above 0, not at {low}")


def _check_prior(prior: Prior | None, low: float, high: float, *, factor: bool = False) -> None:
    if prior is None:
        return
    if not low <= prior.at <= high:
        raise ValueError(f"the prior's at, {prior.at}, is outside the range from {low} to {high}")
    if factor and prior.sd <= 1:
        raise ValueError(f"in a logarithmic range sd is a factor above 1, not {prior.sd}")


def _between(value: object, low: float, high: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and low <= value <= high and math.isfinite(value)  # type: ignore[operator, arg-type]


def _in_steps(range_: Int | Quantized) -> tuple[float | None, float]:
    """Return the middle and the sd of a prior in steps from the lower end."""
    prior = range_.prior
    return (None, 0.0) if prior is None else ((prior.at - range_.low) / range_.step, prior.sd / range_.step)
