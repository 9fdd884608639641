"""Columns of a table: whether each row has a value, and values as numbers, whatever their type."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from hpc_search.errors import UsageError
from hpc_search.splits.table import Table
from hpc_search.splits.words import listed, shown


def check_columns(table: Table, kind: str, apart: Sequence[str] = ()) -> None:
    """Check that *table* has what folds of *kind* are made by, and a value of it in each row.

    Where there are groups each row has one, whatever the kind, and a value in the columns *apart*.

    Raises:
        UsageError: Something is not there; all of it is named, with the first rows of each.
    """
    known = table.named_columns()
    needed = {"label": kind.startswith("stratified"), "group": "group" in kind, "time": kind == "time"}
    absent = [what for what, need in needed.items() if need and what not in known]
    problems = [f"folds of kind {kind} need a {what} for each row; the data have none" for what in absent]
    hints = [f"name the column in the search file: data: {{{absent[0]}: COLUMN}}"] if absent else []
    if unknown := [name for name in apart if name not in known]:
        problems.append(f"folds.apart: {table.source} has no column {', '.join(map(repr, unknown))}")
        hints.append(f"its columns are: {', '.join(known)}; data: {{columns: [...]}} adds some")
    looked = [what for what, need in needed.items() if need or what == "group"]
    before = len(problems)
    for name in dict.fromkeys((*looked, *apart)):
        if name in known:
            problems += _unknown(known[name], table, name)
    if problems[before:]:
        hints.append("fill in what is missing, or leave the rows out of the table")
    for name in dict.fromkeys(("group", *apart)):
        if name in known:
            problems += _alike(known[name], table, name)
    if problems:
        hint = "; ".join(hints) or "write each value in one way: whoever has two of them can be on two sides"
        raise UsageError("\n".join(problems), hint=hint, key="data")


def codes(column: Sequence[Any]) -> list[int]:
    """Return each value of *column* as a number, by first appearance."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in column]


def is_missing(value: object) -> bool:
    """Say whether *value* stands for nothing: None, an empty text or nan, also where it is written so."""
    if isinstance(value, str):
        return not value.strip() or value.strip().lower() == "nan"
    return value is None or value != value  # noqa: PLR0124 - nan is not itself


def _unknown(column: Sequence[Any], table: Table, what: str) -> Iterator[str]:
    missing = [row for row, value in enumerate(column) if is_missing(value)]
    if not missing:
        return
    first = f"{table.place(missing[0])} of {table.source} (id {shown(table.ids[missing[0]])}) has no {what}"
    have = "have" if missing[2:] else "has"
    yield f"{first}, nor {have} {table.places(missing[1:])}" if missing[1:] else first


def _alike(column: Sequence[Any], table: Table, what: str) -> Iterator[str]:
    """Yield the values that differ in nothing that a reader sees: in spaces around, type or Unicode form."""
    first: dict[Any, int] = {}
    for row, value in enumerate(column):
        first.setdefault(value, row)
    seen: dict[str, list[Any]] = {}
    for value in (one for one in first if not is_missing(one)):
        seen.setdefault(unicodedata.normalize("NFC", str(value)).strip(), []).append(value)
    twins = [values for values in seen.values() if len(values) > 1]
    words = [" and ".join(f"{value!a} ({table.place(first[value])})" for value in values) for values in twins]
    if words:
        yield f"{table.source} has values of {what} that look the same and are not: {listed(words)}"
