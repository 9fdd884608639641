"""The one text of a value: equal values give equal bytes, on every machine and in every version."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


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


def find(values: Sequence[object], value: object) -> int:
    """Return the position of the first of *values* equal to *value* in canonical form.

    Raises:
        ValueError: There is none.
    """
    wanted = canonical(value)
    for place, candidate in enumerate(values):
        if canonical(candidate) == wanted:
            return place
    raise ValueError(f"{value!r} is not one of the {len(values)} values")
