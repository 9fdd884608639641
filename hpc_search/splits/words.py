"""Words of messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_LONG: Final = 60


def shown(value: object) -> str:
    """Return *value* as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def listed(values: Sequence[object], most: int = 10) -> str:
    """Return *values* in words: the first *most*, then how many more there are."""
    words = ", ".join(map(str, values[:most]))
    return words if len(values) <= most else f"{words} and {len(values) - most:,} more"
