"""Expressions: a part of Python over parameters, with null and absent kept apart; nothing else is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from hpc_search.space.expressions import parse
from hpc_search.space.operations import NOT_APPLICABLE, ExpressionError

VALUES: dict[str, Any] = {
    "a": 3,
    "b": 0.5,
    "name": "sgd",
    "nothing": None,
    "gone": NOT_APPLICABLE,
    "flag": True,
    "head.layers": 2,
    "learning rate": 0.1,
    "lambda": 7,
}


def value(text: str) -> Any:
    return parse(text).evaluate(VALUES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4 * a", 12),
        ("7 // 2 % 2 - -a ** 2", 10),
        ("a / 2", 1.5),
        ("1 < a <= 3 != 4", True),
        ("name == 'sgd' and a > 5 or flag", True),
        ("not flag", False),
        ("'big' if a > 2 else 'small'", "big"),
        ("name in ['adam', 'sgd']", True),
        ("name not in ('adam', 'sgd')", False),
        ("'s' + name", "ssgd"),
        ("head.layers * 2", 4),
        ("`learning rate` * 10", 1.0),
        ("`lambda` + 1", 8),
        ("'`not a name`'", "`not a name`"),
        ("a ==\n 3", True),
        ("[a, 1] == [3, 1]", True),
        ("nothing == null", True),
        ("nothing == None and flag == true", True),
        ("nothing in [null, 1]", True),
    ],
)
def test_a_value_is_the_one_of_python(text: str, expected: object) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("nothing + 1", "-nothing", "2 * gone", "nothing < 3", "1 < gone", "gone == 3", "gone != 3"),
        *("gone == null", "gone in [1]", "1 in [gone]", "1 in nothing", "not gone", "1 if gone else 2"),
        *("gone > 1 and flag", "gone > 1 or not flag", "1 < nothing < 3"),
    ],
)
def test_null_in_arithmetic_or_an_ordering_and_absent_anywhere_is_not_applicable(text: str) -> None:
    assert value(text) is NOT_APPLICABLE


def test_a_decisive_side_outweighs_what_is_not_applicable() -> None:
    assert value("gone > 1 and name == 'adam'") is False
    assert value("gone > 1 or flag") is True
    assert value("nothing != null and 1 / nothing > 2") is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max(a, 1)", r"a call is not allowed in an expression: 'max\(a, 1\)'"),
        ("a.b(1)", "a call is not allowed"),
        ("(a + 1).real", "an attribute is not allowed"),
        ("a[0]", "a subscript is not allowed"),
        ("lambda: a", "a lambda is not allowed"),
        ("f'{a}'", "an f-string is not allowed"),
        ("(x := 3)", "an assignment is not allowed"),
        ("a is None", "`is` is not allowed"),
        ("a & b", "this operator is not allowed"),
        ("{a: 1}", "this is not allowed"),
        ("[x for x in a]", "this is not allowed"),
        ("...", "this is not allowed"),
        ("1j", "this is not allowed"),
        ("b'x'", "this is not allowed"),
        ("a = 3", "is no expression"),
        ("a >", "is no expression"),
        ("", "is no expression"),
        ("\0", "is no expression"),
        ("import os", "is no expression"),
        ("9**9**9", "too large"),
        ("2 ** 5000", "too large"),
        ("10 ** 400 + a", "too large"),
        ("1e308 * 10", "no finite number"),
        ("1 / 0", "division by zero"),
        ("(-8) ** 0.5", "no finite number"),
        ("'a' * 3", "cannot be computed with"),
        ("'%d' % 3", "cannot be computed with"),
        ("'a' < 3", "have no order"),
        ("3 in 4", "cannot be looked for"),
        ("(" * 300 + "a" + ")" * 300, "is no expression"),
        ("-" * 300 + "a", "deeper than 40 levels"),
        ("a" + " + a" * 1000, "has 4,001 characters"),
    ],
)
def test_what_is_not_allowed_is_refused_when_it_is_read(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        parse(text)


@pytest.mark.parametrize("text", ["a / (a - 3)", "a ** 5000", "name < a", "name * a"])
def test_what_has_no_value_for_some_parameters_is_an_error_of_these(text: str) -> None:
    expression = parse(text)
    with pytest.raises(ExpressionError):
        expression.evaluate(VALUES)


def test_names_come_in_order_once_and_dots_belong_to_them() -> None:
    expression = parse("head.layers * a + head.layers / `x y`")
    assert expression.names == ("head.layers", "a", "x y")
    assert expression.divides
    assert not parse("a / 2").divides
