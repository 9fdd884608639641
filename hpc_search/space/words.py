"""Values, counts and products in a few words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any


def told(values: Mapping[str, Any]) -> str:
    """Return values in a few words: ``n_head 8, n_kv_heads null``."""
    return ", ".join(f"{name} {word(value)}" for name, value in values.items()) or "every combination"


def word(value: object) -> str:
    """Return *value* as YAML has it, in one word."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)[:60]


def product(counts: Iterable[int]) -> str:
    """Return a product with equal neighbours as a power: ``5 x 5 x 3^7``."""
    groups = [(count, len(list(same))) for count, same in groupby(counts)]
    return " x ".join(
        f"{count:,}^{times}" if times > 2 else " x ".join([f"{count:,}"] * times) for count, times in groups
    )


def amount(value: float, digits: int = 3) -> str:
    """Return *value* in so many digits, a large one whole and with separators: ``1,440``, ``0.0256``."""
    if 10 ** (digits - 1) <= abs(value) < 10**15:
        return f"{value:,.0f}"
    return f"{value:,.{digits}g}"


def number(count: int) -> str:
    """Return *count* with separators; beyond 30 digits only its size, ``about 10^57``."""
    return f"{count:,}" if count < 10**30 else f"about 10^{int(math.log10(count))}"
