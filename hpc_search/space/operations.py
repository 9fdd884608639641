"""What the operators of an expression do: Python's, on bounded numbers, with null and absent kept apart."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

#: Whole numbers stay below 2 to this power.
MOST_BITS: Final = 1024
#: Longest text that ``+`` makes.
MOST_TEXT: Final = 10_000

Env = Mapping[str, Any]
Evaluate = Callable[[Env], Any]


class ExpressionError(ValueError):
    """A text is no expression, or one without a value for some point; ``hint`` says what next."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Hold *message* and *hint*."""
        super().__init__(message)
        self.hint = hint


class _NotApplicable:
    """The value of an absent parameter, and of what cannot be computed from null."""

    def __repr__(self) -> str:
        return "absent"


#: Also stands for an absent parameter.
NOT_APPLICABLE: Final = _NotApplicable()


_NUMBERS: Final = (int, float)
_SMALL: Final = 2**62
BINARY: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_ORDERINGS: Final[dict[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_EQUALITIES: Final[dict[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def arithmetic(
    left: Evaluate, right: Evaluate, apply: Callable[[Any, Any], Any], *, joins: bool = False
) -> Evaluate:
    """Return *apply* of both sides, which are numbers (or, with *joins*, two texts)."""

    def evaluate(env: Env) -> Any:
        one, other = left(env), right(env)
        if one is None or other is None or one is NOT_APPLICABLE or other is NOT_APPLICABLE:
            return NOT_APPLICABLE
        numbers = isinstance(one, _NUMBERS) and isinstance(other, _NUMBERS)
        if not numbers and not (joins and isinstance(one, str) and isinstance(other, str)):
            raise ExpressionError(f"{_kind(one)} and {_kind(other)} cannot be computed with")
        try:
            value = apply(one, other)
            return value if value.__class__ is int and -_SMALL < value < _SMALL else bounded(value)
        except ZeroDivisionError:
            raise ExpressionError("division by zero") from None
        except OverflowError:
            raise ExpressionError("a number is too large") from None

    return evaluate


def bounded(value: Any) -> Any:
    """Return *value*, of a size that is allowed.

    Raises:
        ExpressionError: It is not.
    """
    if isinstance(value, int):
        if value.bit_length() > MOST_BITS:
            raise ExpressionError("a number is too large", f"whole numbers are below 2**{MOST_BITS}")
    elif isinstance(value, str):
        if len(value) > MOST_TEXT:
            raise ExpressionError("a text is too long")
    elif isinstance(value, complex) or (value is not None and not math.isfinite(value)):
        raise ExpressionError("a value is no finite number")
    return value


def power(base: float, exponent: float) -> Any:
    """Return a power whose size is known before it is computed."""
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and exponent > 0 and (abs(base) > 1) and int(base).bit_length() * exponent > 2 * MOST_BITS:
        raise ExpressionError("a number is too large: a power", f"whole numbers are below 2**{MOST_BITS}")
    return base**exponent


def _kind(value: object) -> str:
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return "a list" if isinstance(value, list | tuple) else f"{value!r}"[:40]


def negation(inner: Evaluate) -> Evaluate:
    """Return ``not``, unknown where *inner* is."""

    def evaluate(env: Env) -> Any:
        value = inner(env)
        return value if value is NOT_APPLICABLE else not value

    return evaluate


def chained(parts: Sequence[Evaluate], *, decisive: bool) -> Evaluate:
    """Return ``and`` (*decisive* False) or ``or`` (True): a decisive value outweighs what is unknown."""

    def evaluate(env: Env) -> Any:
        unknown, value = False, None
        for part in parts:
            value = part(env)
            if value is NOT_APPLICABLE:
                unknown = True
            elif bool(value) is decisive:
                return value
        return NOT_APPLICABLE if unknown else value

    return evaluate


def comparison(kind: type[ast.cmpop], left: Evaluate, right: Evaluate) -> Evaluate | None:
    """Return an ordering, an equality or ``in``; None for another kind."""
    if kind in _ORDERINGS:
        return _ordering(_ORDERINGS[kind], left, right)
    if kind in _EQUALITIES:
        return _equality(_EQUALITIES[kind], left, right)
    if kind in (ast.In, ast.NotIn):
        return _membership(left, right, wanted=kind is ast.In)
    return None


def _ordering(compare: Callable[[Any, Any], bool], left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(env: Env) -> Any:
        one, other = left(env), right(env)
        if one is None or other is None or one is NOT_APPLICABLE or other is NOT_APPLICABLE:
            return NOT_APPLICABLE
        try:
            return compare(one, other)
        except TypeError:
            raise ExpressionError(f"{_kind(one)} and {_kind(other)} have no order") from None

    return evaluate


def _equality(compare: Callable[[Any, Any], bool], left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(env: Env) -> Any:
        one, other = left(env), right(env)
        return NOT_APPLICABLE if one is NOT_APPLICABLE or other is NOT_APPLICABLE else compare(one, other)

    return evaluate


def _membership(left: Evaluate, right: Evaluate, *, wanted: bool) -> Evaluate:
    def evaluate(env: Env) -> Any:
        one, other = left(env), right(env)
        if other is None or one is NOT_APPLICABLE or other is NOT_APPLICABLE:
            return NOT_APPLICABLE
        try:
            return (one in other) is wanted
        except TypeError:
            raise ExpressionError(f"{_kind(one)} cannot be looked for in {_kind(other)}") from None

    return evaluate
