"""One trial as a file of its own: what `show --yaml` prints and `rerun` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypedDict

from hpc_search.config.dump import block
from hpc_search.config.files import open_keys, read_bytes
from hpc_search.config.problems import Book
from hpc_search.config.reader import Cursor, fields, nullable


class PointFile(TypedDict):
    """The parameters of a trial, its fold (None where nothing is split), seed and search's name."""

    parameters: dict[str, Any]
    fold: int | None
    seed: int
    search: str


def load_point(path: Path) -> PointFile:
    """Return the trial in the file at *path*.

    Raises:
        UsageError: The file cannot be read.
        ConfigError: With every problem found.
    """
    return parse_point(read_bytes(path, "file of parameters"), str(path))


def parse_point(data: bytes, file: str) -> PointFile:
    """Return the trial in *data*; *file* is its name in messages.

    Raises:
        ConfigError: With every problem found.
    """
    book = Book(file)
    root, section = open_keys(data, book, _FIELDS, what="a mapping with parameters, fold, seed and search")
    given = fields(section, _FIELDS)
    if "parameters" not in section:
        book.add(root.line, "parameters", "the key 'parameters' is missing", expected="{learning_rate: 1e-3}")
    book.close()
    return PointFile(
        parameters=given["parameters"],
        fold=given.get("fold"),
        seed=given.get("seed", 0),
        search=given.get("search", ""),
    )


def dump_point(
    parameters: Mapping[str, Any], *, fold: int | None = None, seed: int = 0, search: str = ""
) -> str:
    """Return the text of one trial, which reads back to the same values."""
    head: dict[str, Any] = {"search": search} if search else {}
    inner = f"parameters:\n{block(parameters, '  ')}" if parameters else "parameters: {}\n"
    return block(head) + inner + block({"fold": fold, "seed": seed})


def _parameters(cursor: Cursor) -> dict[str, Any] | None:
    entries = cursor.entries("a mapping from parameters to values")
    return None if entries is None else {key.text: value.plain() for key, value in entries}


_FIELDS: Final[dict[str, Callable[[Cursor], object]]] = {
    "parameters": _parameters,
    "fold": nullable(lambda c: c.integer(0)),
    "seed": lambda c: c.integer(0),
    "search": lambda c: c.text("the name of a search"),
}
