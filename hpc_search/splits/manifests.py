"""The manifests of a split: CSV text with a row a sample."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from hpc_search.errors import DamagedError
from hpc_search.splits.table import IdKind, Table


def manifest_csv(table: Table, rows: Sequence[int]) -> str:
    """Return CSV text of *rows*: columns id and, where the table has them, label, group, time and others."""
    present = table.named_columns()
    lines = [
        tuple(present),
        *zip(*([column[row] for row in rows] for column in present.values()), strict=True),
    ]
    text = _csv(lines, csv.QUOTE_MINIMAL)
    # The writer does not quote a lone carriage return, at which the reader ends the row.
    return _csv(lines, csv.QUOTE_ALL) if "\r" in text else text


def parse_manifest(text: str, kind: IdKind, where: str = "manifest") -> tuple[str | int, ...]:
    """Return the ids of a manifest in their order; *kind* is the table's ``id_kind``.

    Raises:
        DamagedError: The text is no manifest; *where* and the line are named.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if header[:1] != ["id"]:
            raise DamagedError(f"{where} is no split manifest: its first column is {header[:1]}, not id")
        return tuple(_parse_id(row, kind, len(header), f"{where}:{reader.line_num}") for row in reader)
    except csv.Error as error:
        raise DamagedError(f"{where}:{reader.line_num}: not CSV: {error}") from error


def _csv(lines: Iterable[Sequence[object]], quoting: int) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=quoting).writerows(lines)  # type: ignore[arg-type]
    return text.getvalue()


def _parse_id(row: list[str], kind: IdKind, width: int, where: str) -> str | int:
    if len(row) != width:
        raise DamagedError(f"{where}: found {len(row)} columns, expected {width}")
    if kind == "str":
        return row[0]
    try:
        return int(row[0])
    except ValueError as error:
        raise DamagedError(f"{where}: found id {row[0]!r}, expected an integer") from error
