"""A CSV file as nodes: every row a mapping with its line, so that it is read like the search file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Final

from hpc_search.config.files import read_bytes
from hpc_search.config.nodes import Mapping, Node, Scalar, parse
from hpc_search.config.problems import Book, shown
from hpc_search.config.reader import Cursor
from hpc_search.config.scalars import resolve
from hpc_search.errors import TemporaryError, UsageError

#: Rows of a table that names points or experiments.
MOST_ROWS: Final = 10_000


def read_table(named: Cursor, base: Path) -> list[Cursor] | None:
    """Return the rows of the CSV file that *named* names, relative to *base*; an empty cell is left out.

    What is wrong with it goes to the book under the file's own name. A cell is read as YAML reads a value.
    """
    name = named.text("the name of a CSV file", most=1000)
    if name is None:
        return None
    path = base / name
    try:
        text = read_bytes(path, "CSV file").decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UsageError, TemporaryError) as error:
        named.add(error.message, found=name, hint=error.hint)
        return None
    except (UnicodeDecodeError, csv.Error) as error:
        named.add(f"{path}: not a CSV file in UTF-8 ({error})", found=name)
        return None
    if not 2 <= len(rows) <= MOST_ROWS + 1:
        found = f"{max(0, len(rows) - 1):,} rows"
        named.add(
            f"{path}: not a table of points", found=found, expected=f"a header and 1 to {MOST_ROWS:,} rows"
        )
        return None
    return _rows(rows, named.book.inside(str(path)))


def _rows(rows: list[list[str]], book: Book) -> list[Cursor] | None:
    header = [title.strip() for title in rows[0]]
    twice = sorted({title for title in header if header.count(title) > 1 or not title})
    if twice:
        book.add(1, "", "the header has no name for each column", found=shown(", ".join(twice)))
        return None
    found = []
    for line, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            message = "the row has another number of cells than the header"
            book.add(line, "", message, found=f"{len(row)} cells", expected=f"{len(header)}")
            continue
        cells = zip(header, row, strict=True)
        entries = tuple(
            (_text(line, title), _cell(line, cell, book)) for title, cell in cells if cell.strip()
        )
        found.append(Cursor(book, Mapping(line, entries)))
    return found


def _text(line: int, text: str) -> Scalar:
    return Scalar(line, text, text)


def _cell(line: int, cell: str, book: Book) -> Node:
    cell = cell.strip()
    if cell.startswith(("[", "{")):
        return parse(b"\n" * (line - 1) + cell.encode(), book)
    return Scalar(line, cell, resolve(cell))
