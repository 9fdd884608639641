"""Collects what is wrong in one configuration file, so that all of it is told at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NoReturn

from hpc_search.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Problems told of one file; a file with more is refused at once.
MOST_PROBLEMS: Final = 100

_SHOWN: Final = 60
#: Parameters of a group that are named.
_MOST_OF_GROUP: Final = 5
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class Book:
    """The problems found in one file so far; ``close`` raises them, in the order of the file."""

    def __init__(self, file: str, *, lines: bool = True) -> None:
        """Begin without problems; every message shows *file*, and its line unless not *lines*."""
        self.file = file
        self._lines = lines
        # A problem of what several searches inherit is found with each of them.
        self._problems: dict[Problem, None] = {}
        self._found = 0

    def __len__(self) -> int:
        """Return the number of problems so far."""
        return self._found

    def inside(self, file: str) -> Book:
        """Return a book of *file*, which this one's file names: its problems are told with the others."""
        other = Book(file)
        other._problems = self._problems
        return other

    def tells(self, path: str) -> bool:
        """Return whether a problem of the field at *path* is noted."""
        inside = (f"{path}.", f"{path}[")
        return any(one.path == path or one.path.startswith(inside) for one in self._problems)

    def add(
        self, line: int, path: str, message: str, *, found: str = "", expected: str = "", hint: str = ""
    ) -> None:
        """Note one problem; the hundredth ends the reading.

        Raises:
            ConfigError: There are now ``MOST_PROBLEMS``.
        """
        self._found += 1
        problem = Problem(self.file, line if self._lines else 0, path, message, found, expected, hint)
        self._problems.setdefault(problem)
        if len(self._problems) >= MOST_PROBLEMS:
            self.close()

    def refuse(
        self, line: int, message: str, *, found: str = "", expected: str = "", hint: str = ""
    ) -> NoReturn:
        """Raise ConfigError with this problem and those before it: nothing after it can be read."""
        self._problems.setdefault(Problem(self.file, line, "", message, found, expected, hint))
        raise ConfigError(self._sorted())

    def close(self) -> None:
        """Raise ConfigError where there are problems."""
        if self._problems:
            raise ConfigError(self._sorted())

    def _sorted(self) -> list[Problem]:
        return sorted(
            self._problems, key=lambda problem: (problem.file != self.file, problem.file, problem.line)
        )


def shown(value: object) -> str:
    """Return *value* as one printable line of at most about 60 characters."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def below(path: str, key: str) -> str:
    """Return the path of *key* in the mapping at *path*: ``space.width``, ``space['a b']``."""
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{shown(key)}]"
    return f"{path}.{key}" if path else key


def near_miss(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the known word nearest to *word*, or nothing.

    Of a group of parameters those that it has.
    """
    import difflib

    known = list(known)
    if inside := [name for name in known if word and name.startswith(f"{word}.")]:
        return f"it is a group, which has {words(inside[:_MOST_OF_GROUP])}"
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word[:_SHOWN].lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean {by_lower[close[0]]!r}?" if close else ""


def words(names: Iterable[str], last: str = "and") -> str:
    """Return the names as a phrase: ``a``, ``a and b``, ``a, b and c``."""
    *head, tail = names
    return f"{', '.join(head)} {last} {tail}" if head else tail
