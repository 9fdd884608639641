"""Reads `strategy`: one of the known ones with its options; and `catalog`, which is a space of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hpc_search.config.nodes import Mapping as MappingNode
from hpc_search.config.nodes import Scalar
from hpc_search.config.problems import near_miss, shown, words
from hpc_search.config.reader import Cursor, each
from hpc_search.records.search import StrategySpec
from hpc_search.strategies.options import KNOWN, Option, example

_WHAT: Final = "grid, or a strategy with its options such as {random: {points: 200, seed: 0}}"
#: What a search file may ask for; `top` belongs to a stage.
_NAMES: Final = tuple(name for name in KNOWN if name != "top")
#: Strategies that need no options.
_BARE: Final = tuple(name for name in _NAMES if all(one.default is not None for one in KNOWN[name].values()))
#: A catalog is asked for by mode or by names, and kept by names.
_CATALOG: Final = {"mode": Option("text"), "names": Option("names")}


def read_strategy(cursor: Cursor) -> StrategySpec | None:
    """Return the strategy from ``grid``, ``{grid: {}}`` or ``{random: {points: 200, seed: 0}}``."""
    if isinstance(cursor.node, Scalar):
        return _bare(cursor)
    entries = cursor.entries(_WHAT)
    if entries is None:
        return None
    if len(entries) != 1:
        cursor.add("is not one strategy", expected=_WHAT)
        return None
    key, options = entries[0]
    if key.text == "top":
        expected = words(_NAMES, "or")
        message = "takes the best points of a stage, so it stands in a later one of `stages`"
        cursor.book.add(key.line, options.path, f"top {message}", found="top", expected=expected)
        return None
    if key.text not in _NAMES:
        near = near_miss(key.text, _NAMES)
        message = f"unknown strategy {shown(key.text)}" + (f"; {near}" if near else "")
        cursor.book.add(key.line, options.path, message, expected=words(_NAMES, "or"))
        return None
    return _catalog(options) if key.text == "catalog" else _with_options(key.text, options)


def _bare(cursor: Cursor) -> StrategySpec | None:
    kind = cursor.one_of(_NAMES)
    if kind is None:
        return None
    if kind not in (*_BARE, "catalog"):
        cursor.add("needs its number of points", expected=example(kind))
        return None
    return StrategySpec(kind)


def _with_options(kind: str, cursor: Cursor) -> StrategySpec | None:
    known = KNOWN[kind]
    if not known:
        if not (cursor.is_null or (isinstance(cursor.node, MappingNode) and not cursor.node.entries)):
            cursor.add(f"the strategy {kind} has no options", expected=f"{kind}: {{}}")
            return None
        return StrategySpec(kind)
    values = _options(cursor, known, example(kind).split(": ", 1)[1][:-1])
    return None if values is None else StrategySpec(kind, values)


def _options(cursor: Cursor, known: Mapping[str, Option], what: str) -> dict[str, Any] | None:
    """Return all options of a strategy, the defaults filled in; None where one is wrong."""
    before = len(cursor.book)
    section = cursor.keys(known, what=what)
    if section is None:
        return None
    values: dict[str, Any] = {}
    for name, option in known.items():
        if name in section:
            values[name] = _option(section[name], option)
        elif option.default is not None:
            values[name] = option.default
        else:
            cursor.add(f"the key {name!r} is missing", expected=what)
    return values if len(cursor.book) == before else None


def _option(cursor: Cursor, option: Option) -> Any:
    if option.kind == "text":
        return cursor.text("a name")
    if option.kind == "names":
        return read_names(cursor)
    return cursor.integer(option.least if option.least is not None else 0)


def read_names(cursor: Cursor) -> list[str] | None:
    """Return a list of names, none of them twice."""
    items = cursor.items("a list of names: [a, b]")
    if items is None:
        return None
    names = list(each(items, lambda item: item.text("a name")))
    for place, name in enumerate(names):
        if name in names[:place]:
            items[place].add(f"{shown(name)} is there twice", hint="remove one of them")
    return names


def _catalog(cursor: Cursor) -> StrategySpec | None:
    """Return the strategy with the mode or the names asked for; none means all experiments."""
    if cursor.is_null:
        return StrategySpec("catalog")
    section = cursor.keys(_CATALOG, what="{mode: quick} or {names: [a, b]}")
    if section is None:
        return None
    if len(section) > 1:
        cursor.add("has both mode and names", expected="{mode: quick} or {names: [a, b]}")
        return None
    values = {name: _option(value, _CATALOG[name]) for name, value in section.items()}
    return None if None in values.values() else StrategySpec("catalog", values)
