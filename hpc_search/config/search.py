"""Reads a search file: YAML nodes become a `Search`, or problems."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from hpc_search.config import checks, stages
from hpc_search.config.checks import ReadPart
from hpc_search.config.chosen import chosen
from hpc_search.config.files import open_keys, read_bytes
from hpc_search.config.nodes import Scalar
from hpc_search.config.objectives import read_budget, read_objectives
from hpc_search.config.problems import Book, below
from hpc_search.config.pruning import read_pruning
from hpc_search.config.reader import MOST_TEXT, Cursor, each, fields, nullable
from hpc_search.config.rules import KEYS as RULES
from hpc_search.config.rules import lines_of
from hpc_search.config.start import NOTHING, Asked, read_start
from hpc_search.config.strategy import read_strategy
from hpc_search.records.search import DataSpec, FoldsSpec, OomRetry, Retry, Search, TrialSpec
from hpc_search.space import Space

#: Keys that the design has and this version does not.
LATER_KEYS: Final = ("share", "refit", "architectures")
#: Ways to split of this version.
SCHEMES: Final = ("kfold", "stratified", "grouped")

_FUNCTION: Final = re.compile(r"(?:[^\W\d]\w*(?:\.[^\W\d]\w*)*|(?:\./)?(?:[\w-]+/)*[\w-]+\.py):[^\W\d]\w*")
_FUNCTION_WORDS: Final = "module:function or file.py:function, the file relative to the search file"
_FOLDS_WORDS: Final = "folds such as {stratified: 5}, with kfold, stratified or grouped"
_COMMAND_WORDS: Final = "a list of arguments, never a shell line: [python, train.py, --lr, '{learning_rate}']"


def load_search(path: Path, asked: Asked = NOTHING) -> Search:
    """Return the search file at *path*, checked, with every default filled in.

    Raises:
        UsageError: The file cannot be read, or has no such stage or search as is *asked* for.
        ConfigError: With every problem found.
    """
    search = parse_search(read_bytes(path, "search file"), str(path), asked)
    return chosen(search, asked.skip_stages, asked.only)


def parse_search(data: bytes, file: str, asked: Asked = NOTHING) -> Search:
    """Return the search in *data*; *file* is its name in messages, and what it names is relative to that.

    Raises:
        ConfigError: With every problem found.
    """
    book = Book(file)
    what = "a mapping with name, trial, metric, space and strategy"
    root, section = open_keys(data, book, _KEYS, later=LATER_KEYS, what=what)
    given = fields(section, _PLAIN_FIELDS)
    if "name" not in section:
        _missing(root, "name", "name: my-search")
    if "searches" in section:
        part = partial(_part, asked=asked)
        parts = stages.read_searches(section["searches"], section, _PART_KEYS, part)
    else:
        parts = (_part("", section, root, asked),)
    checks.together(section, given, parts)
    book.close()
    made = [part.made() for part in parts]
    first = {name: getattr(made[0], name) for name in made[0].__struct_fields__ if name != "name"}
    if "searches" not in section:
        return Search(**given, **first)
    # What stands for all searches is in each of them: the search itself has no space of its own.
    whole = {key: first[key] for key in ("trial", "metric", "objectives", "strategy")}
    return Search(**given, **whole, space=Space({}), searches=tuple(made))


def rule_lines(path: Path, search: Search) -> dict[str, dict[str, int]]:
    """Return the line of each rule in the file that *search* was read from, by search and path."""
    if not any(part.space.ruled for part in search.parts):
        return {}
    _, section = open_keys(read_bytes(path, "search file"), Book(str(path)), _KEYS, what="a mapping")
    sections = [("", section)]
    if "searches" in section:
        keyed = stages.read_searches(
            section["searches"], section, _PART_KEYS, lambda name, own, _: (name, own)
        )
        sections = list(keyed)
    spaces = {part.name: part.space for part in search.parts}
    return {name: lines_of(keys, spaces[name]) for name, keys in sections if name in spaces}


def _part(name: str, section: Mapping[str, Cursor], cursor: Cursor, asked: Asked = NOTHING) -> ReadPart:
    """Return what *section*, which stands at *cursor*, says of one search."""
    given = {
        **fields(section, _PART_FIELDS),
        "trial": _trial(section, cursor),
        **read_objectives(section, cursor),
        **read_start(section, cursor, asked),
    }
    strategy = given["strategy"]
    if "stages" in section:
        readers = {"strategy": read_strategy, "seeds": _seeds, "pruning": read_pruning}
        above = stages.Inherited(
            strategy=strategy, has_strategy="strategy" in section, pruning=given.get("pruning")
        )
        given["stages"] = stages.read_stages(section["stages"], readers, above)
        strategy = strategy or next((stage.strategy for stage in given["stages"]), None)
    elif "strategy" not in section:
        _missing(cursor, "strategy", _EXAMPLES["strategy"])
    return ReadPart(name, section, {**given, "strategy": strategy})


def _missing(cursor: Cursor, key: str, example: str) -> None:
    message = f"the key {key!r} is missing"
    cursor.book.add(cursor.line, below(cursor.path, key), message, expected=example)


def _trial(section: Mapping[str, Cursor], cursor: Cursor) -> TrialSpec | None:
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
_EXAMPLES: Final = {"strategy": "strategy: grid"}
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
    "stop_on_error": lambda c: c.boolean(),
    "budget": read_budget,
}
_PART_FIELDS: Final[dict[str, Callable[[Cursor], object]]] = {
    "seeds": _seeds,
    "pruning": nullable(read_pruning),
}
#: What can differ between the searches of one plan.
_PART_KEYS: Final = (
    *("trial", "command", "metric_file", "files", "metric", "objectives"),
    *("space", "linked", *RULES, "fixed", "points", "catalog"),
    *("strategy", "seeds", "pruning", "stages"),
)
_KEYS: Final = (
    *("name", "description", *_PART_KEYS, "searches", "stop_on_error", "data", "folds", "threads", "retry"),
    *("max_trials", "expect_points", "heartbeat", "lease", "save_interval", "stall"),
    *("stop_after", "log_bytes", "save_in_background", "keep_checkpoints", "snapshot", "budget"),
)
