"""Reads a search file: YAML nodes become a `Search`, or problems."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from hpc_search.config import checks, stages
from hpc_search.config.chosen import chosen
from hpc_search.config.files import open_keys, read_bytes
from hpc_search.config.folds import read_data, read_folds
from hpc_search.config.objectives import read_budget, read_objectives
from hpc_search.config.parts import ReadPart
from hpc_search.config.problems import Book, below
from hpc_search.config.programs import read_test, read_trial
from hpc_search.config.pruning import read_pruning
from hpc_search.config.reader import MOST_TEXT, Cursor, each, fields, nullable
from hpc_search.config.rules import KEYS as RULES
from hpc_search.config.rules import lines_of
from hpc_search.config.selection import (
    Seeds,
    all_stages,
    read_choice,
    read_racing,
    read_refits,
    read_seeds,
    seed_list,
)
from hpc_search.config.start import NOTHING, Asked, read_start
from hpc_search.config.strategy import read_strategy
from hpc_search.records.search import OomRetry, Retry, Search, StageSpec, StrategySpec
from hpc_search.space import Space

#: Keys that the design has and this version does not.
LATER_KEYS: Final = ("share", "architectures")


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
        "trial": read_trial(section, cursor),
        "test": read_test(section),
        **read_objectives(section, cursor),
        **read_start(section, cursor, asked),
    }
    seeds: Seeds = given.pop("seeds", Seeds((0,)))
    strategy, pruning = given["strategy"], given.get("pruning")
    own: tuple[StageSpec, ...] = ()
    if "stages" in section:
        readers = {"strategy": read_strategy, "seeds": seed_list, "pruning": read_pruning}
        above = stages.Inherited(strategy=strategy, has_strategy="strategy" in section, pruning=pruning)
        own = stages.read_stages(section["stages"], readers, above)
        strategy = strategy or next((stage.strategy for stage in own), None)
    elif "strategy" not in section:
        _missing(cursor, "strategy", _EXAMPLES["strategy"])
    only = StageSpec(name="", strategy=strategy or StrategySpec("grid"), pruning=pruning)
    given |= {"strategy": strategy, "seeds": seeds.first}
    given["stages"] = all_stages(own, only, seeds, given.pop("refit", ()))
    return ReadPart(name, section, given)


def _missing(cursor: Cursor, key: str, example: str) -> None:
    message = f"the key {key!r} is missing"
    cursor.book.add(cursor.line, below(cursor.path, key), message, expected=example)


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
    "folds": nullable(read_folds),
    "data": nullable(read_data),
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
    "seeds": read_seeds,
    "pruning": nullable(read_pruning),
    "choose": nullable(read_choice),
    "racing": nullable(read_racing),
    "refit": nullable(read_refits),
}
#: What can differ between the searches of one plan.
_PART_KEYS: Final = (
    *("trial", "command", "metric_file", "files", "test", "test_command", "metric", "objectives"),
    *("space", "linked", *RULES, "fixed", "points", "catalog"),
    *("strategy", "seeds", "pruning", "stages", "racing", "choose", "refit"),
)
_KEYS: Final = (
    *("name", "description", *_PART_KEYS, "searches", "stop_on_error", "data", "folds", "threads", "retry"),
    *("max_trials", "expect_points", "heartbeat", "lease", "save_interval", "stall"),
    *("stop_after", "log_bytes", "save_in_background", "keep_checkpoints", "snapshot", "budget"),
)
