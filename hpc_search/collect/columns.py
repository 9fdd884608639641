"""Tables as columns, and their CSV text; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_NUMBERS: Final = frozenset({int, float, bool, type(None)})
#: A text that begins so is run as a formula by spreadsheets.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class Absent:
    """The type of ABSENT."""


#: The value of a parameter or metric that a trial does not have; null is a value.
ABSENT: Final = Absent()


class Column(NamedTuple):
    """One column: its name, its values, and how null is written in CSV.

    With ``pick``, row i has the value ``values[pick[i]]``. ``kind`` "int", "float", "str" or "bool"
    fixes the type in Parquet; "" takes it from the values.
    """

    name: str
    values: Sequence[Any]
    null: str = ""
    kind: str = ""
    pick: Sequence[int] | None = None


def spread(
    prefix: str,
    names: Iterable[str],
    rows: Sequence[Mapping[str, Any]],
    null: str = "",
    pick: Sequence[int] | None = None,
) -> list[Column]:
    """Return one column ``prefix + name`` for each of *names*, from the mappings *rows*."""
    return [Column(prefix + name, [row.get(name, ABSENT) for row in rows], null, pick=pick) for name in names]


def json_text(value: object) -> str:
    """Return *value* as JSON, keys sorted."""
    return _ENCODER.encode(value).decode()


def csv_text(columns: Sequence[Column]) -> bytes:
    """Return the CSV of *columns*: UTF-8, LF, a header, RFC 4180 quotes.

    Floats read back exactly. Booleans are true and false, mappings and lists JSON. A text that a
    spreadsheet would run as a formula gets a leading apostrophe.
    """
    header = ",".join(_quoted(column.name) for column in columns)
    rows = map(",".join, zip(*map(_cells, columns), strict=True))
    return ("\n".join([header, *rows]) + "\n").encode()


def _cells(column: Column) -> list[str]:
    cells = _distinct_cells(column)
    return cells if column.pick is None else [cells[place] for place in column.pick]


def _distinct_cells(column: Column) -> list[str]:
    kinds = set(map(type, column.values))
    if column.values and kinds <= _NUMBERS:
        # One call of the encoder writes every number, shortest and exact, 20 times faster than repr.
        cells = _ENCODER.encode(column.values)[1:-1].decode().split(",")
        return [column.null if cell == "null" else cell for cell in cells] if type(None) in kinds else cells
    if kinds == {str}:
        known = {text: _text(text) for text in set(column.values)}
        return [known[text] for text in column.values]
    return [_cell(value, column.null) for value in column.values]


def _cell(value: object, null: str) -> str:
    if value is ABSENT:
        return ""
    if value is None:
        return null
    return _text(value) if isinstance(value, str) else _quoted(json_text(value))


def _text(value: str) -> str:
    return _quoted("'" + value if value.startswith(_FORMULA) else value)


def _quoted(text: str) -> str:
    if any(mark in text for mark in ',"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text
