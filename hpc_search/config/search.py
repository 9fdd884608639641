"""Reads a search file: YAML nodes become a `Search`, or problems."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from hpc_search.config import checks
from hpc_search.config.files import open_keys, read_bytes
from hpc_search.config.nodes import Mapping as MappingNode
from hpc_search.config.nodes import Scalar
from hpc_search.config.parameters import read_space
from hpc_search.config.problems import Book, near_miss, shown, words
from hpc_search.config.pruning import read_pruning
from hpc_search.config.reader import MOST_TEXT, Cursor, each, fields, nullable
from hpc_search.records.plan import (
    DataSpec,
    FoldsSpec,
    Metric,
    OomRetry,
    Retry,
    Search,
    StrategySpec,
    TrialSpec,
)

#: Keys that the design has and this version does not.
LATER_KEYS: Final = (
    *("when", "constraints", "derived", "normalise", "normalize", "priors", "subspaces"),
    *("stages", "share", "refit", "architectures"),
)
#: Strategies of this version.
STRATEGIES: Final = ("grid", "random")
#: Ways to split of this version.
SCHEMES: Final = ("kfold", "stratified", "grouped")

_FUNCTION: Final = re.compile(r"(?:[^\W\d]\w*(?:\.[^\W\d]\w*)*|(?:\./)?(?:[\w-]+/)*[\w-]+\.py):[^\W\d]\w*")
_FUNCTION_WORDS: Final = "module:function or file.py:function, the file relative to the search file"
_METRIC: Final = re.compile(r"[^\W\d][\w./@:%+-]{0,99}")
_METRIC_WORDS: Final = "a name of letters, digits and . / @ : % + - _ that begins with a letter"
_FOLDS_WORDS: Final = "folds such as {stratified: 5}, with kfold, stratified or grouped"
_COMMAND_WORDS: Final = "a list of arguments, never a shell line: [python, train.py, --lr, '{learning_rate}']"


def load_search(path: Path) -> Search:
    """Return the search file at *path*, checked, with every default filled in.

    Raises:
        UsageError: The file cannot be read.
        ConfigError: With every problem found.
    """
    return parse_search(read_bytes(path, "search file"), str(path))


def parse_search(data: bytes, file: str) -> Search:
    """Return the search in *data*; *file* is its name in messages.

    Raises:
        ConfigError: With every problem found.
    """
    book = Book(file)
    what = "a mapping with name, trial, metric, space and strategy"
    root, section = open_keys(data, book, _KEYS, later=LATER_KEYS, what=what)
    given = fields(section, _PLAIN_FIELDS)
    parts = {
        "trial": _trial(section, root),
        "metric": _required(section, root, "metric", _metric),
        "strategy": _required(section, root, "strategy", _strategy),
        "space": read_space(section, book),
    }
    if "name" not in section:
        _missing(root, "name", "name: my-search")
    checks.together(section, {**given, **parts})
    book.close()
    return Search(**given, **parts)


def _required(section: Mapping[str, Cursor], root: Cursor, key: str, reader: Callable[[Cursor], Any]) -> Any:
    if key in section:
        return reader(section[key])
    return _missing(root, key, _EXAMPLES[key])


def _missing(root: Cursor, key: str, example: str) -> None:
    root.book.add(root.line, key, f"the key {key!r} is missing", expected=example)


def _trial(section: Mapping[str, Cursor], root: Cursor) -> TrialSpec | None:
    if ("trial" in section) == ("command" in section):
        both = "trial" in section
        message = "both trial and command are given" if both else "neither trial nor command is given"
        line = section["command"].line if both else root.line
        expected = "one of `trial: train.py:train` and `command: [python, train.py]`"
        root.book.add(line, "command" if both else "trial", message, expected=expected)
    if "metric_file" in section and "command" not in section:
        section["metric_file"].add("belongs to a command; a function returns its metrics", hint="remove it")
    given = fields(section, _TRIAL_FIELDS)
    return TrialSpec(**{"callable" if key == "trial" else key: value for key, value in given.items()})


def _function(cursor: Cursor) -> str | None:
    return cursor.matching(_FUNCTION, _FUNCTION_WORDS)


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


def _metric(cursor: Cursor) -> Metric | None:
    section = cursor.keys(("name", "goal"), what="a metric such as {name: val_acc, goal: max}")
    if section is None:
        return None
    for key in ("name", "goal"):
        if key not in section:
            cursor.add(f"the key {key!r} is missing", expected="such as {name: val_acc, goal: max}")
    given = fields(section, {"name": lambda c: c.matching(_METRIC, _METRIC_WORDS), "goal": _goal})
    return Metric(**given) if len(given) == 2 else None


def _goal(cursor: Cursor) -> str | None:
    value = cursor.node.value if isinstance(cursor.node, Scalar) else None
    if isinstance(value, str) and value not in ("max", "min") and value.lower()[:3] in ("max", "min"):
        cursor.add("is not a goal", expected="max or min", hint=f"write {value.lower()[:3]}")
        return None
    return cursor.one_of(("max", "min"))


def _strategy(cursor: Cursor) -> StrategySpec | None:
    """Return the strategy from ``grid``, ``{grid: {}}`` or ``{random: {points: 200, seed: 0}}``."""
    if isinstance(cursor.node, Scalar):
        kind = cursor.one_of(STRATEGIES)
        if kind == "random":
            cursor.add("needs its number of points", expected="{random: {points: 200, seed: 0}}")
        return StrategySpec(kind=kind) if kind == "grid" else None
    entries = cursor.entries("grid, or {random: {points: 200, seed: 0}}")
    if entries is None:
        return None
    if len(entries) != 1:
        cursor.add("is not one strategy", expected="grid, or {random: {points: 200, seed: 0}}")
        return None
    key, options = entries[0]
    if key.text not in STRATEGIES:
        near = near_miss(key.text, STRATEGIES)
        message = f"unknown strategy {shown(key.text)}" + (f"; {near}" if near else "")
        cursor.book.add(key.line, options.path, message, expected=words(STRATEGIES, "or"))
        return None
    return _random(options) if key.text == "random" else _grid(options)


def _grid(cursor: Cursor) -> StrategySpec | None:
    if not (cursor.is_null or (isinstance(cursor.node, MappingNode) and not cursor.node.entries)):
        cursor.add("the grid has no options", expected="grid: {}")
        return None
    return StrategySpec(kind="grid")


def _random(cursor: Cursor) -> StrategySpec | None:
    section = cursor.keys(("points", "seed"), what="{points: 200, seed: 0}")
    if section is None:
        return None
    given = fields(section, {"points": lambda c: c.integer(1), "seed": lambda c: c.integer(0)})
    if "points" not in section:
        cursor.add("the key 'points' is missing", expected="{points: 200, seed: 0}")
    if "points" not in given:
        return None
    return StrategySpec(kind="random", options={"points": given["points"], "seed": given.get("seed", 0)})


def _data(cursor: Cursor) -> DataSpec | None:
    keys = ("index", "function", "id", "label", "group")
    section = cursor.keys(keys, what="data such as {index: data.csv, id: sample, label: y}")
    if section is None:
        return None
    if ("index" in section) == ("function" in section):
        cursor.add("needs one of index and function", expected="{index: data.csv, id: sample, label: y}")
    given = fields(section, dict.fromkeys(keys, _column) | {"function": _function})
    if _FUNCTION.fullmatch(given.get("index", "")):
        given["function"] = given.pop("index")
    return DataSpec(**given)


def _column(cursor: Cursor) -> str | None:
    return cursor.text("a name on one line", most=1000)


def _folds(cursor: Cursor) -> FoldsSpec | None:
    section = cursor.keys((*SCHEMES, "seed", "test_share"), what=_FOLDS_WORDS)
    if section is None:
        return None
    kinds = [kind for kind in SCHEMES if kind in section]
    if len(kinds) != 1:
        cursor.add("needs one of kfold, stratified and grouped", expected=_FOLDS_WORDS)
    given = fields(section, {"seed": _split_seed, "test_share": _share})
    numbers = fields(section, {kind: lambda c: c.integer(2, 100_000) for kind in SCHEMES})
    return FoldsSpec(kind=kinds[0], n=numbers[kinds[0]], **given) if len(kinds) == 1 and numbers else None


def _split_seed(cursor: Cursor) -> int | None:
    if not isinstance(cursor.node, Scalar) or isinstance(cursor.node.value, str):
        cursor.add("the split seed cannot be searched: all trials share the folds", expected="an integer")
        return None
    return cursor.integer(0)


def _share(cursor: Cursor) -> float | None:
    share = cursor.number("a share of the data, 0 or more and below 1")
    if share is not None and not 0 <= share < 1:
        cursor.add("is out of range", expected="0 or more and below 1")
        return None
    return share


def _seeds(cursor: Cursor) -> tuple[int, ...] | None:
    if isinstance(cursor.node, Scalar) and isinstance(cursor.node.value, int):
        cursor.add(
            "is not a list", expected="a list of seeds", hint=f"write [{cursor.node.text}] for one seed"
        )
        return None
    items = cursor.items("a list of seeds, integers of 0 or more")
    if items is None:
        return None
    first: dict[int, int] = {}
    for place, item in enumerate(items):
        seed = item.integer(0)
        if seed is not None and first.setdefault(seed, place) != place:
            item.add(f"the seed {seed} is also at position {first[seed]}", hint="remove one of them")
    return tuple(first)


def _retry(cursor: Cursor) -> Retry | None:
    section = cursor.keys(tuple(_RETRY_FIELDS))
    return None if section is None else Retry(**fields(section, _RETRY_FIELDS))


def _oom(cursor: Cursor) -> OomRetry | None:
    section = cursor.keys(tuple(_OOM_FIELDS), what="{halve: batch_size, times: 3}")
    return None if section is None else OomRetry(**fields(section, _OOM_FIELDS))


def _expressions(cursor: Cursor) -> tuple[str, ...] | None:
    items = cursor.items("a list of regular expressions, such as ['CUDA out of memory']", empty=True)
    return None if items is None else tuple(each(items, _expression))


def _expression(cursor: Cursor) -> str | None:
    text = cursor.text("a regular expression", most=1000)
    try:
        re.compile((text or "").encode())
    except re.error as error:
        cursor.add(f"is not a regular expression: {error}", hint="a character meant as itself gets a \\")
        return None
    return text


def _codes(cursor: Cursor) -> tuple[int, ...] | None:
    items = cursor.items("a list of exit codes from 1 to 255", empty=True)
    return None if items is None else tuple(each(items, lambda item: item.integer(1, 255)))


def _seconds(cursor: Cursor) -> float | None:
    return cursor.seconds()


#: Attempts are counted in a byte of the index.
MOST_RETRIES: Final = 250
_EXAMPLES: Final = {"metric": "metric: {name: val_acc, goal: max}", "strategy": "strategy: grid"}
_TRIAL_FIELDS: Final[dict[str, Callable[[Cursor], object]]] = {
    "trial": _function,
    "command": _command,
    "metric_file": _below_search,
    "files": _paths,
}
_RETRY_FIELDS: Final[dict[str, Callable[[Cursor], object]]] = {
    "error": lambda c: c.integer(0, MOST_RETRIES),
    "oom": nullable(_oom),
    "memory": lambda c: c.integer(0, 100),
    "timeout": nullable(lambda c: c.integer(0, 100)),
    "no_progress": lambda c: c.integer(1, MOST_RETRIES),
}
_OOM_FIELDS: Final[dict[str, Callable[[Cursor], object]]] = {
    "halve": lambda c: c.text("the name of a parameter"),
    "times": lambda c: c.integer(1, 64),
    "ladder": lambda c: c.one_of(("accumulate", "plain")),
    "text": _expressions,
    "codes": _codes,
}
_PLAIN_FIELDS: Final[dict[str, Callable[[Cursor], object]]] = {
    "name": lambda c: c.text("a name of 1 to 200 characters"),
    "description": lambda c: c.text("a description", most=MOST_TEXT, lines=True),
    "seeds": _seeds,
    "folds": nullable(_folds),
    "data": nullable(_data),
    "threads": lambda c: c.integer(1, 65_536),
    "retry": _retry,
    "stop_after": lambda c: c.integer(0, 1_000_000),
    "max_trials": lambda c: c.integer(1),
    "expect_points": nullable(lambda c: c.integer(1)),
    "heartbeat": _seconds,
    "lease": _seconds,
    "save_interval": lambda c: c.seconds(zero=True),
    "stall": lambda c: c.seconds(zero=True),
    "log_bytes": lambda c: c.integer(1),
    "save_in_background": lambda c: c.boolean(),
    "keep_checkpoints": lambda c: c.boolean(),
    "snapshot": lambda c: c.one_of(("sources", "none")),
    "pruning": nullable(read_pruning),
}
_KEYS: Final = (
    *("name", "description", "trial", "command", "metric_file", "files", "metric"),
    *("space", "linked", "fixed", "strategy", "data", "folds", "seeds", "threads", "retry"),
    *("max_trials", "expect_points", "heartbeat", "lease", "save_interval", "stall"),
    *("stop_after", "log_bytes", "save_in_background", "keep_checkpoints", "snapshot", "pruning"),
)
