"""The files that the data's column `path` names: their names and sizes, by which a change is found."""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from hpc_search.errors import PASSING, TemporaryError, UsageError
from hpc_search.splits import Table

#: Names that a message has.
SHOWN: Final = 10


def look(names: Iterable[str], root: Path) -> dict[str, int | None]:
    """Return the size of each file of *names* below *root*, None where there is none.

    Raises:
        TemporaryError: The file system is in trouble.
    """
    sizes: dict[str, int | None] = {}
    for name in names:
        try:
            found = os.stat(os.path.join(root, name))
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) in PASSING:
                message = f"{root / name} cannot be looked at ({error})"
                raise TemporaryError(message, hint="again when the file system answers") from error
            sizes[name] = None
        else:
            sizes[name] = found.st_size if stat.S_ISREG(found.st_mode) else None
    return sizes


def list_files(table: Table, column: str, root: Path) -> dict[str, int]:
    """Return the size of every file that *column* of *table* names.

    Raises:
        UsageError: Some are not there: the first of them are named, and how many there are.
    """
    found = look(dict.fromkeys(map(str, table.columns[column])), root)
    sizes = {name: size for name, size in found.items() if size is not None}
    missing = [name for name in found if name not in sizes]
    if missing:
        message = f"of {len(found):,} files below {root} {missing_words(missing)}"
        hint = "`root` is relative to the search file, and names are relative to it"
        raise UsageError(message, hint=hint, key="data.path")
    return sizes


def missing_words(missing: list[str]) -> str:
    """Return in words that the files *missing* are not there."""
    more = f", ... and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
    are = "is" if len(missing) == 1 else "are"
    return f"{len(missing):,} {are} missing: {', '.join(map(repr, missing[:SHOWN]))}{more}"


def listing_csv(sizes: Mapping[str, int]) -> bytes:
    """Return CSV text with the name and the size of every file."""
    text = io.StringIO(newline="")
    rows = [("name", "size"), *sorted(sizes.items())]
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode()


def parse_listing(content: bytes) -> dict[str, int]:
    """Return the sizes by name."""
    rows = csv.reader(io.StringIO(content.decode(), newline=""))
    next(rows, None)
    return {name: int(size) for name, size in rows}
