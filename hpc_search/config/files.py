"""Opens a configuration file: its bytes, and the mapping that it must be."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hpc_search.config.nodes import MOST_BYTES, parse
from hpc_search.config.problems import Book
from hpc_search.config.reader import Cursor
from hpc_search.errors import PASSING, TemporaryError, UsageError


def read_bytes(path: Path, what: str) -> bytes:
    """Return the bytes of *path*, at most one more than a file may have; *what* names its kind.

    Raises:
        UsageError: It is missing, a directory, or cannot be read.
        TemporaryError: The file system is in trouble.
    """
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        message = f"{path}: there is no such {what}"
    except IsADirectoryError:
        message = f"{path}: a directory, not a {what}"
    except (OSError, ValueError) as error:
        message = f"{path}: the {what} cannot be read ({getattr(error, 'strerror', None) or error})"
        if getattr(error, "errno", None) in PASSING:
            raise TemporaryError(message, hint="the same command again later") from error
    raise UsageError(message, hint="check the path and its permissions")


def open_keys(
    data: bytes, book: Book, known: Iterable[str], *, later: Iterable[str] = (), what: str
) -> tuple[Cursor, dict[str, Cursor]]:
    """Return the file's mapping as a cursor and by key; unknown keys are noted in *book*.

    Raises:
        ConfigError: The file is not YAML, or not a mapping.
    """
    root = Cursor(book, parse(data, book))
    section = root.keys(known, later=later, what=what)
    if section is None:
        book.close()
    return root, section or {}
