"""Reads what is run: a function or a command, for training, `trial`, and for testing, `test`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from hpc_search.config.nodes import Scalar
from hpc_search.config.problems import below
from hpc_search.config.reader import MOST_TEXT, Cursor, each, fields
from hpc_search.records.search import TrialSpec

FUNCTION: Final = re.compile(r"(?:[^\W\d]\w*(?:\.[^\W\d]\w*)*|(?:\./)?(?:[\w-]+/)*[\w-]+\.py):[^\W\d]\w*")
_FUNCTION_WORDS: Final = "module:function or file.py:function, the file relative to the search file"
_COMMAND_WORDS: Final = "a list of arguments, never a shell line: [python, train.py, --lr, '{learning_rate}']"


def read_trial(section: Mapping[str, Cursor], cursor: Cursor) -> TrialSpec | None:
    """Return what a trial runs, from the keys of *section*, which stands at *cursor*."""
    if ("trial" in section) == ("command" in section):
        both = "trial" in section
        message = "both trial and command are given" if both else "neither trial nor command is given"
        line = section["command"].line if both else cursor.line
        path = section["command"].path if both else below(cursor.path, "trial")
        expected = "one of `trial: train.py:train` and `command: [python, train.py]`"
        cursor.book.add(line, path, message, expected=expected)
    if "metric_file" in section and "command" not in section:
        section["metric_file"].add("belongs to a command; a function returns its metrics", hint="remove it")
    given = fields(section, _TRIAL_FIELDS)
    return TrialSpec(**{"callable" if key == "trial" else key: value for key, value in given.items()})


def read_test(section: Mapping[str, Cursor]) -> TrialSpec | None:
    """Return what `test` runs, None where the file does not say."""
    if "test" in section and "test_command" in section:
        message = "both test and test_command are given"
        section["test_command"].add(message, expected="one of them", hint="remove one of them")
    found = fields(section, {"test": read_function, "test_command": _command})
    names = {"test": "callable", "test_command": "command"}
    return TrialSpec(**{names[key]: value for key, value in found.items()}) if found else None


def read_function(cursor: Cursor) -> str | None:
    """Return ``module:function`` or ``file.py:function``."""
    return cursor.matching(FUNCTION, _FUNCTION_WORDS)


def _command(cursor: Cursor) -> tuple[str, ...] | None:
    if isinstance(cursor.node, Scalar):
        cursor.add("is not a list of arguments", expected=_COMMAND_WORDS)
        return None
    items = cursor.items(_COMMAND_WORDS)
    if not items:
        return None
    arguments = tuple(each(items, _argument))
    if arguments and not arguments[0].strip():
        items[0].add("is empty", expected="the program to run")
    return arguments


def _argument(cursor: Cursor) -> str | None:
    value = cursor.string("a string")
    if value is not None and ("\0" in value or len(value) > MOST_TEXT):
        cursor.add("cannot be an argument", expected=f"at most {MOST_TEXT:,} characters, no NUL")
        return None
    return value


def _paths(cursor: Cursor) -> tuple[str, ...] | None:
    items = cursor.items("a list of relative paths or patterns", empty=True)
    return None if items is None else tuple(each(items, _below_search))


def _below_search(cursor: Cursor) -> str | None:
    """Return a path or pattern that stays below the directory of the search file."""
    text = cursor.text("a path relative to the search file", most=1000)
    if text is None:
        return None
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if text.startswith(("/", "~")) or ".." in parts or not parts:
        expected = "a path below the directory of the search file, without '..'"
        cursor.add("does not stay below the search file", expected=expected)
        return None
    if any("**" in part and part != "**" for part in parts):
        cursor.add("is not a pattern: '**' stands alone between slashes", expected="such as src/**/*.py")
        return None
    return text


_TRIAL_FIELDS: Final[dict[str, Callable[[Cursor], object]]] = {
    "trial": read_function,
    "command": _command,
    "metric_file": _below_search,
    "files": _paths,
}
