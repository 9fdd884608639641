"""Tables as columns, and their CSV text; pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
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
    prefix: str, names: Iterable[str], rows: Sequence[Mapping[str, Any]], null: str = ""
) -> list[Column]:
    """Return one column ``prefix + name`` for each of *names*, from the mappings *rows*."""
    return [Column(prefix + name, [row.get(name, ABSENT) for row in rows], null) for name in names]


def picked(columns: Iterable[Column], pick: Sequence[int]) -> list[Column]:
    """Return *columns* with the values at the places *pick*, once for each of them."""
    places = array("q", pick)
    return [column._replace(pick=places) for column in columns]


def json_text(value: object) -> str:
    """Return *value* as JSON, keys sorted."""
    return _ENCODER.encode(value).decode()


def csv_text(columns: Sequence[Column]) -> bytes:
    """Return the CSV of *columns*: UTF-8, LF, a header, RFC 4180 quotes.

    Floats read back exactly. Booleans are true and false, mappings and lists JSON. A text that a
    spreadsheet would run as a formula gets a leading apostrophe.
    """
    header = ",".join(_quoted(column.name) for column in columns)
    # Columns that are picked alike are joined before they are picked.
    alike = groupby(columns, key=lambda column: id(column.pick))
    rows = map(",".join, zip(*(_rows(list(group)) for _, group in alike), strict=True))
    return ("\n".join([header, *rows]) + "\n").encode()


def _rows(columns: Sequence[Column]) -> list[str]:
    rows = list(map(",".join, zip(*map(_cells, columns), strict=True)))
    pick = columns[0].pick
    return rows if pick is None else [rows[place] for place in pick]


def _cells(column: Column) -> list[str]:
    kinds = set(map(type, column.values))
    if column.values and kinds <= _NUMBERS:
        # One call of the encoder writes every number, shortest and exact, 20 times faster than repr.
        return _ENCODER.encode(column.values)[1:-1].decode().replace("null", column.null).split(",")
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
