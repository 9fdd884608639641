"""Columns of a table as numbers, so that neither types nor hashes change a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpc_search.errors import UsageError
from hpc_search.splits.table import Table


def codes(column: Sequence[Any] | None, table: Table, what: str, needed: str = "") -> list[int] | None:
    """Return each value of *column* as a number, by first appearance, None where there is no column.

    *what* the column is called in ``data:``; *needed* names the kind of folds that cannot be without it.

    Raises:
        UsageError: The column is needed and not there, or a row has no value; rows and ids are named.
    """
    if column is None:
        if not needed:
            return None
        message = f"folds of kind {needed} need a {what} for each row; the data have none"
        raise UsageError(message, hint=f"name the column in the search file: data: {{{what}: COLUMN}}")
    check_known(column, table, what)
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in column]


def check_known(column: Sequence[Any], table: Table, what: str) -> None:
    """Check that each row has a value in *column*.

    Raises:
        UsageError: A row has none; the number of such rows and the first of them are named.
    """
    missing = [row for row, value in enumerate(column) if is_missing(value)]
    if not missing:
        return
    message = f"row {missing[0]} of the data table (id {table.ids[missing[0]]!r}) has no {what}"
    if missing[1:]:
        message += f", nor have {len(missing) - 1} others: rows {listed(missing[1:])}"
    raise UsageError(message, hint=f"fill in the {what}, or leave the row out of the table")


def is_missing(value: object) -> bool:
    """Say whether *value* stands for nothing: None, an empty text or nan."""
    return value is None or value == "" or value != value  # noqa: PLR0124 - nan is not itself


def listed(values: Sequence[object], most: int = 10) -> str:
    """Return *values* in words: the first *most*, then how many more there are."""
    words = ", ".join(map(str, values[:most]))
    return words if len(values) <= most else f"{words} and {len(values) - most} more"
