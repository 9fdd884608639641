"""The core schema of YAML 1.2 (section 10.3.2): which plain texts are numbers, booleans and null."""

from __future__ import annotations

import re
from typing import Final

#: What a scalar stands for.
ScalarValue = str | int | float | bool | None

#: Integers that every file of a run can hold.
INT_LOW: Final = -(2**63)
INT_HIGH: Final = 2**63 - 1

#: Stands for an integer too long to be read; every reader refuses it as out of range.
_TOO_BIG: Final = 10**40
_MOST_DIGITS: Final = 40

_WORDS: Final[dict[str, ScalarValue]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INT: Final = re.compile(r"([-+]?)([0-9]+)")
_OTHER_BASE: Final = re.compile(r"0o([0-7]+)|0x([0-9a-fA-F]+)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def resolve(text: str) -> ScalarValue:
    """Return what the plain scalar *text* stands for: ``1e-3`` a float, ``010`` ten, ``yes`` a string."""
    if text in _WORDS:
        return _WORDS[text]
    if match := _INT.fullmatch(text):
        return _integer(match[2], 10) * (-1 if match[1] == "-" else 1)
    if match := _OTHER_BASE.fullmatch(text):
        return _integer(match[1], 8) if match[1] else _integer(match[2], 16)
    return float(text) if _FLOAT.fullmatch(text) else text


def _integer(digits: str, base: int) -> int:
    digits = digits.lstrip("0") or "0"
    return int(digits, base) if len(digits) <= _MOST_DIGITS else _TOO_BIG
