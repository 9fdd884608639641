"""The place in a search file of what is found wrong after it was read: with its data, folds or programs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hpc_search.config.files import read_bytes
from hpc_search.config.nodes import Mapping, Node, parse
from hpc_search.config.problems import Book, below
from hpc_search.errors import ConfigError, Problem, UsageError


def placed(path: Path, error: UsageError) -> UsageError:
    """Return *error* with its place in the search file *path*, itself where it is of no key of that.

    Each line of its message is a problem; one that is indented goes on with the line before it.
    """
    if isinstance(error, ConfigError) or not error.key:
        return error
    texts: list[str] = []
    for line in error.message.splitlines():
        if line.startswith(" ") and texts:
            texts[-1] += f"\n  {line}"
        else:
            texts.append(line)
    return problems_at(path, [(error.key, text) for text in texts], error.hint)


def problems_at(path: Path, found: Iterable[tuple[str, str]], hint: str) -> UsageError:
    """Return an error of what is *found*, each with the key that it is of; *hint* is that of them all."""
    file, place = str(path), _Places(path)
    problems = [Problem(file, *place.of(key), message) for key, message in found]
    problems[-1] = Problem(file, problems[-1].line, problems[-1].path, problems[-1].message, hint=hint)
    return ConfigError(problems)


class _Places:
    """The lines of the keys of a search file; 0 where it cannot be read any more."""

    def __init__(self, path: Path) -> None:
        try:
            self.root: Node | None = parse(read_bytes(path, "search file"), Book(str(path)))
        except UsageError:
            self.root = None

    def of(self, key: str) -> tuple[int, str]:
        """Return line and path of the value of *key*, of the nearest one above where it is not there."""
        node, path = self.root, ""
        if node is None:
            return 0, key
        for name in key.split("."):
            entries = node.entries if isinstance(node, Mapping) else ()
            value = next((value for own, value in entries if own.text == name), None)
            if value is None:
                break
            node, path = value, below(path, name)
        return node.line, path or key
