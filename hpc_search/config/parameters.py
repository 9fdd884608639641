"""Reads `space`, `linked` and `fixed`: the parameters of a search, each with the line of its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hpc_search import space
from hpc_search.config.nodes import Mapping as MappingNode
from hpc_search.config.nodes import Scalar, Sequence
from hpc_search.config.problems import Book, shown, words
from hpc_search.config.ranges import is_range, read_range, values_of
from hpc_search.config.reader import MOST_NAME, Cursor, not_printed
from hpc_search.config.rules import check_rules, of_subspace, read_rules

#: Parameters of one search.
MOST_PARAMETERS: Final = 1000

_LIST_OR_RANGE: Final = "a list of values, or a range such as {log_uniform: [1e-5, 1e-2]}"


def read_space(section: Mapping[str, Cursor], book: Book) -> space.Space | None:
    """Return the space of a search file's keys; None where any part of it is wrong."""
    names = _Names()
    before = len(book)
    dimensions: dict[str, space.Dimension] = {}
    if "space" in section:
        _dimensions(section["space"], "", names, dimensions)
    linked = _linked(section["linked"], names) if "linked" in section else ()
    fixed = _fixed(section["fixed"], names) if "fixed" in section else {}
    searched = [name for name in names.seen if name not in fixed]
    rules = read_rules(section, searched, fixed, names.conditions)
    if len(book) > before:
        return None
    made = space.Space(dimensions, linked, fixed, rules.rules)
    check_rules(made, rules)
    return made if len(book) == before else None


@dataclass
class _Names:
    """The parameters seen so far, with the line and path of each, and the conditions of sub-spaces."""

    seen: dict[str, tuple[int, str]] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)

    def take(self, key: Scalar, value: Cursor, group: str = "") -> str:
        """Return the name that *key* gives a parameter of *group*, after noting what is wrong with it."""
        name = f"{group}{key.text}"
        note = value.book.add
        nameless = not all(part.strip() for part in name.split("."))
        if nameless or len(name) > MOST_NAME or any(map(not_printed, name)):
            expected = f"a name of 1 to {MOST_NAME} printable characters, and no dot at either end"
            note(key.line, value.path, "a parameter has no usable name", found=shown(name), expected=expected)
        elif name in self.seen:
            line, path = self.seen[name]
            message = f"the parameter {name!r} is also on line {line} ({path})"
            note(key.line, value.path, message, hint="a parameter stands in one of space, linked and fixed")
        self.seen.setdefault(name, (key.line, value.path))
        if len(self.seen) == MOST_PARAMETERS + 1:
            note(key.line, value.path, f"more than {MOST_PARAMETERS:,} parameters")
        return name


def _dimensions(cursor: Cursor, group: str, names: _Names, found: dict[str, space.Dimension]) -> list[str]:
    """Add the parameters at *cursor*, whose names begin with *group*; return their names."""
    added: list[str] = []
    for key, value in cursor.entries("a mapping from parameters to lists or ranges") or ():
        if isinstance(value.node, MappingNode) and not is_range(value):
            added += _dimensions(value, f"{group}{key.text}.", names, found)
            continue
        name = names.take(key, value, group)
        added.append(name)
        keys = dict(_keyed(value)) if isinstance(value.node, MappingNode) else {}
        if "subspaces" in keys:
            added += _subspaces(name, value, keys, names, found)
        elif (dimension := _dimension(value)) is not None:
            found[name] = dimension
    return added


def _keyed(cursor: Cursor) -> Iterable[tuple[str, Cursor]]:
    return ((key.text, value) for key, value in cursor.entries() or ())


def _subspaces(
    name: str, cursor: Cursor, keys: Mapping[str, Cursor], names: _Names, found: dict[str, space.Dimension]
) -> list[str]:
    """Add parameter *name*, one of its sub-spaces, and what each of them has where it is chosen."""
    for other, value in keys.items():
        if other != "subspaces":
            value.add("does not belong to sub-spaces", expected="{subspaces: {cnn: {...}, mlp: {...}}}")
    entries = keys["subspaces"].entries("a mapping from names to the parameters of each") or []
    if not entries:
        cursor.add("has no sub-space", expected="{subspaces: {cnn: {...}, mlp: {...}}}")
        return []
    found[name] = space.Choice(tuple(key.text for key, _ in entries))
    added: list[str] = []
    for key, value in entries:
        if not key.text.strip() or any(map(not_printed, key.text)):
            value.book.add(key.line, value.path, "a sub-space has no usable name", found=shown(key.text))
        inside = [] if value.is_null else _dimensions(value, f"{name}.{key.text}.", names, found)
        condition = of_subspace(name, key.text)
        names.conditions.update((one, condition) for one in inside if one not in names.conditions)
        added += inside
    return added


def _dimension(cursor: Cursor) -> space.Dimension | None:
    if isinstance(cursor.node, Sequence):
        values = values_of(cursor)
        return None if values is None else space.Choice(values)
    if isinstance(cursor.node, MappingNode):
        return read_range(cursor)
    hint = "put a single value under `fixed`, or write a list of one"
    cursor.add("is neither a list nor a range", expected=_LIST_OR_RANGE, hint=hint)
    return None


def _linked(cursor: Cursor, names: _Names) -> tuple[dict[str, tuple[Any, ...]], ...]:
    groups = cursor.items("a list of groups: [{dim_model: [64, 128], n_head: [4, 8]}]", empty=True)
    return tuple(_group(group, names) for group in groups or ())


def _group(cursor: Cursor, names: _Names) -> dict[str, tuple[Any, ...]]:
    entries = cursor.entries("a mapping from parameters to lists of equal length")
    if entries is None:
        return {}
    if not entries:
        cursor.add("is empty: a linked group needs at least one parameter")
    group = {names.take(key, value): _row(value) for key, value in entries}
    lengths = {name: len(values) for name, values in group.items() if values is not None}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{shown(name)}: {length}" for name, length in lengths.items())
        hint = "the i-th values of all lists belong together"
        cursor.add("linked lists have unequal lengths", found=found, expected="equal lengths", hint=hint)
    rows = list(zip(*(values for values in group.values() if values is not None), strict=False))
    if len(set(lengths.values())) == 1:
        for first, later in space.duplicates(rows):
            cursor.add(
                f"the values at positions {first} and {later} are equal in every list", hint="remove one"
            )
    return {name: values for name, values in group.items() if values is not None}


def _row(cursor: Cursor) -> tuple[Any, ...] | None:
    before = len(cursor.book)
    items = cursor.items("a list of values") or ()
    values = tuple(item.plain() for item in items)
    return values if len(cursor.book) == before else None


def _fixed(cursor: Cursor, names: _Names) -> dict[str, Any]:
    entries = cursor.entries("a mapping from parameters to values")
    fixed: dict[str, Any] = {}
    for key, value in entries or ():
        name = names.take(key, value)
        fixed[name] = value.plain()
        inside = [one for one in names.seen if one.startswith(f"{name}.")]
        if inside and isinstance(fixed[name], dict):
            # `params["head"]` would be the mapping, and what the search has in its group could not be read.
            hint = f"write {name}.NAME: VALUE for each of its own"
            value.add(f"is a value, but {shown(name)} is a group, which has {words(inside[:5])}", hint=hint)
    return fixed
