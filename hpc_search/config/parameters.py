"""Reads `space`, `linked` and `fixed`: the parameters of a search, each with the line of its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from hpc_search import space
from hpc_search.config.nodes import Mapping as MappingNode
from hpc_search.config.nodes import Scalar, Sequence
from hpc_search.config.problems import Book, near_miss, shown, words
from hpc_search.config.reader import MOST_NAME, Cursor, not_printed

#: Parameters of one search.
MOST_PARAMETERS: Final = 1000

#: Kinds of ranges that a later version has.
LATER_RANGES: Final = ("quantized", "normal")

_FLOATS: Final[dict[str, Callable[[float, float], space.Dimension]]] = {
    "uniform": space.Uniform,
    "log_uniform": space.LogUniform,
}
_INTS: Final[dict[str, Callable[[int, int], space.Dimension]]] = {"int": space.Int, "log_int": space.LogInt}
_RANGES: Final = (*_FLOATS, *_INTS)
_LIST_OR_RANGE: Final = "a list of values, or a range such as {log_uniform: [1e-5, 1e-2]}"


def read_space(section: Mapping[str, Cursor], book: Book) -> space.Space | None:
    """Return the space of a search file's keys; None where any part of it is wrong."""
    names = _Names()
    before = len(book)
    dimensions = _dimensions(section["space"], names) if "space" in section else {}
    linked = _linked(section["linked"], names) if "linked" in section else ()
    fixed = _fixed(section["fixed"], names) if "fixed" in section else {}
    return space.Space(dimensions, linked, fixed) if len(book) == before else None


class _Names:
    """The parameters seen so far, with the line and path of each."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[int, str]] = {}

    def take(self, key: Scalar, value: Cursor) -> str:
        """Return the name that *key* gives a parameter, after noting what is wrong with it."""
        name = key.text
        note = value.book.add
        if not name.strip() or len(name) > MOST_NAME or any(map(not_printed, name)):
            expected = f"a name of 1 to {MOST_NAME} printable characters"
            note(key.line, value.path, "a parameter has no usable name", found=shown(name), expected=expected)
        elif name in self.seen:
            line, path = self.seen[name]
            message = f"the parameter {name!r} is also on line {line} ({path})"
            note(key.line, value.path, message, hint="a parameter stands in one of space, linked and fixed")
        self.seen.setdefault(name, (key.line, value.path))
        if len(self.seen) == MOST_PARAMETERS + 1:
            note(key.line, value.path, f"more than {MOST_PARAMETERS:,} parameters")
        return name


def _dimensions(cursor: Cursor, names: _Names) -> dict[str, space.Dimension]:
    entries = cursor.entries("a mapping from parameters to lists or ranges")
    read = {names.take(key, value): _dimension(value) for key, value in entries or ()}
    return {name: dimension for name, dimension in read.items() if dimension is not None}


def _dimension(cursor: Cursor) -> space.Dimension | None:
    if isinstance(cursor.node, Sequence):
        values = _values(cursor)
        return None if values is None else space.Choice(values)
    if isinstance(cursor.node, MappingNode):
        return _range(cursor)
    hint = "put a single value under `fixed`, or write a list of one"
    cursor.add("is neither a list nor a range", expected=_LIST_OR_RANGE, hint=hint)
    return None


def _values(cursor: Cursor) -> tuple[Any, ...] | None:
    """Return the values of a list; two that are equal are wrong."""
    before = len(cursor.book)
    values = tuple(item.plain() for item in cursor.items("a list of values") or ())
    if len(cursor.book) > before:
        return None
    for first, later in space.duplicates(values):
        item = Cursor(cursor.book, _item(cursor, later), f"{cursor.path}[{later}]")
        item.add(
            f"equals the value at position {first}: {shown(values[first])} and {shown(values[later])}",
            hint="remove one of them; 1 and 1.0 are equal",
        )
    return values if len(cursor.book) == before else None


def _item(cursor: Cursor, place: int) -> Any:
    return cursor.node.items[place] if isinstance(cursor.node, Sequence) else cursor.node


def _range(cursor: Cursor) -> space.Dimension | None:
    entries = cursor.entries() or []
    if len(entries) != 1:
        cursor.add("is not a range: a range has one kind", expected=_LIST_OR_RANGE)
        return None
    key, ends = entries[0]
    if key.text not in _RANGES:
        _unknown_range(key, ends)
        return None
    if key.text in _FLOATS:
        return _float_range(key.text, ends)
    return _int_range(key.text, ends)


def _unknown_range(key: Scalar, ends: Cursor) -> None:
    if key.text in LATER_RANGES:
        message = f"this version of hpc_search does not have the range {key.text!r} yet"
        ends.book.add(key.line, ends.path, message, expected=words(_RANGES, "or"))
        return
    hint = near_miss(key.text, _RANGES)
    message = f"unknown kind of range {shown(key.text)}" + (f"; {hint}" if hint else "")
    advice = "a value that is a mapping stands in a list: [{...}]"
    ends.book.add(key.line, ends.path, message, expected=words(_RANGES, "or"), hint=advice)


def _two(cursor: Cursor) -> tuple[Cursor, Cursor] | None:
    ends = cursor.items("two numbers: [low, high]")
    if ends is None:
        return None
    if len(ends) != 2:
        cursor.add("is not two numbers", expected="[low, high]", hint="a list of values needs no key")
        return None
    return ends[0], ends[1]


def _float_range(kind: str, cursor: Cursor) -> space.Dimension | None:
    pair = _two(cursor)
    if pair is None:
        return None
    low, high = pair[0].number(), pair[1].number()
    if low is None or high is None or not _ordered(kind, pair[0], cursor, low, high):
        return None
    if abs(low) > 2**63 or abs(high) > 2**63:
        cursor.add("a bound is out of range", expected="bounds between -2^63 and 2^63")
        return None
    return _FLOATS[kind](low, high)


def _int_range(kind: str, cursor: Cursor) -> space.Dimension | None:
    pair = _two(cursor)
    if pair is None:
        return None
    low, high = pair[0].integer(), pair[1].integer()
    if low is None or high is None or not _ordered(kind, pair[0], cursor, low, high):
        return None
    return _INTS[kind](low, high)


def _ordered(kind: str, first: Cursor, cursor: Cursor, low: float, high: float) -> bool:
    if kind.startswith("log_") and low <= 0:
        first.add("the lower bound of a logarithmic range is not above 0", expected="a number above 0")
        return False
    if low >= high:
        hint = "exchange them" if low > high else "one value stands under `fixed`, or in a list"
        cursor.add("low is not below high", found=f"[{low}, {high}]", expected="[low, high]", hint=hint)
        return False
    return True


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
    return {names.take(key, value): value.plain() for key, value in entries or ()}
