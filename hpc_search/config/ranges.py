"""Reads one dimension of `space`: a range with its step or prior, a choice with weights, a list of values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from hpc_search import space
from hpc_search.config.nodes import Scalar, Sequence
from hpc_search.config.problems import near_miss, shown, words
from hpc_search.config.reader import Cursor

_RANGES: Final = ("uniform", "log_uniform", "int", "log_int", "quantized", "normal")
#: What the mapping of a dimension can have as its key.
KINDS: Final = (*_RANGES, "choice", "subspaces")
_LIST_OR_RANGE: Final = "a list of values, or a range such as {log_uniform: [1e-5, 1e-2]}"


def is_range(cursor: Cursor) -> bool:
    """Return whether a mapping in `space` is one dimension; else it is a group of parameters.

    What is nearly the name of a kind, with numbers, is taken for a range with a wrong name.
    """
    entries = cursor.entries() or []
    if not entries or any(key.text in KINDS for key, _ in entries):
        return True
    return len(entries) == 1 and bool(near_miss(entries[0][0].text, KINDS)) and _all_numbers(entries[0][1])


def _all_numbers(cursor: Cursor) -> bool:
    items = cursor.node.items if isinstance(cursor.node, Sequence) else ()
    values = [item.value if isinstance(item, Scalar) else None for item in items]
    return 0 < len(values) <= 3 and all(type(value) in (int, float) for value in values)


def values_of(cursor: Cursor) -> tuple[Any, ...] | None:
    """Return the values of a list; two that are equal are wrong."""
    before = len(cursor.book)
    items = cursor.items("a list of values") or []
    values = tuple(item.plain() for item in items)
    if len(cursor.book) > before:
        return None
    for first, later in space.duplicates(values):
        items[later].add(
            f"equals the value at position {first}: {shown(values[first])} and {shown(values[later])}",
            hint="remove one of them; 1 and 1.0 are equal",
        )
    return values if len(cursor.book) == before else None


def read_range(cursor: Cursor) -> space.Dimension | None:
    """Return the dimension of a mapping such as ``{int: [1, 4]}``; the kind may be misspelt."""
    entries = cursor.entries() or []
    kinds = [(key, value) for key, value in entries if key.text in KINDS]
    if not kinds and entries:
        key, value = entries[0]
        near = near_miss(key.text, KINDS)
        message = f"unknown kind of range {shown(key.text)}" + (f"; {near}" if near else "")
        advice = "a value that is a mapping stands in a list: [{...}]"
        value.book.add(key.line, value.path, message, expected=words(KINDS, "or"), hint=advice)
        return None
    if len(kinds) != 1:
        cursor.add("is not a range: a range has one kind", expected=_LIST_OR_RANGE)
        return None
    key, value = kinds[0]
    options = {other.text: option for other, option in entries if other is not key}
    if not _belong(key.text, options):
        return None
    if key.text == "choice":
        return _choice(value, options.get("weights"))
    return _READERS[key.text](key.text, value, options.get("prior"))


def _belong(kind: str, options: Mapping[str, Cursor]) -> bool:
    allowed = {"choice": ("weights",), "normal": ()}.get(kind, ("prior",))
    for name, option in options.items():
        if name not in allowed:
            near = near_miss(name, allowed)
            expected = words(allowed) if allowed else "nothing beside it"
            option.add(f"does not belong to {kind!r}" + (f"; {near}" if near else ""), expected=expected)
    return all(name in allowed for name in options)


def _choice(cursor: Cursor, weights: Cursor | None) -> space.Dimension | None:
    values = values_of(cursor)
    if weights is None:
        return None if values is None else space.Choice(values)
    before = len(weights.book)
    items = weights.items("a list of numbers above 0") or []
    numbers = [item.number("a number above 0") for item in items]
    for item, number in zip(items, numbers, strict=True):
        if number is not None and number <= 0:
            item.add("a weight is not above 0", hint="remove the value that is never to be drawn")
    if values is not None and items and len(items) != len(values):
        message = "there are not as many weights as values"
        weights.add(message, found=f"{len(items)} weights", expected=f"{len(values)}, one for each value")
    if values is None or len(weights.book) > before:
        return None
    return space.Choice(values, tuple(number for number in numbers if number is not None))


def _numbers(cursor: Cursor, what: str, *, most: int = 2, whole: bool = False) -> list[Any] | None:
    """Return 2 to *most* numbers, *whole* ones if asked for; None where something is wrong."""
    items = cursor.items(what)
    if items is None:
        return None
    if not 2 <= len(items) <= most:
        hint = "a list of values needs no key"
        cursor.add(
            f"is not {'two numbers' if most == 2 else 'two or three numbers'}", expected=what, hint=hint
        )
        return None
    numbers: list[Any] = [item.integer() if whole else item.number() for item in items]
    return None if None in numbers else numbers


def _float_range(kind: str, cursor: Cursor, prior: Cursor | None) -> space.Dimension | None:
    ends = _numbers(cursor, "[low, high]")
    if ends is None or not _ordered(kind, cursor, ends) or not _in_reach(cursor, ends):
        return None
    return _with_prior(space.LogUniform if kind == "log_uniform" else space.Uniform, ends, prior)


def _int_range(kind: str, cursor: Cursor, prior: Cursor | None) -> space.Dimension | None:
    stepped = kind == "int"
    what = "[low, high] or [low, high, step]" if stepped else "[low, high]"
    ends = _numbers(cursor, what, most=3 if stepped else 2, whole=True)
    if ends is None or not _ordered(kind, cursor, ends):
        return None
    if ends[2:] and not _divides(cursor, *ends):
        return None
    return _with_prior(space.Int if stepped else space.LogInt, ends, prior)


def _quantized(kind: str, cursor: Cursor, prior: Cursor | None) -> space.Dimension | None:
    ends = _numbers(cursor, "[low, high, step]", most=3)
    if ends is None:
        return None
    if len(ends) == 2:
        cursor.add("has no step", expected="[low, high, step]", hint="without a step it is `uniform`")
        return None
    if not _ordered(kind, cursor, ends) or not _in_reach(cursor, ends) or not _divides(cursor, *ends):
        return None
    return _with_prior(space.Quantized, ends, prior)


def _divides(cursor: Cursor, low: float, high: float, step: float) -> bool:
    """Return whether steps lead from *low* to *high*; exact in decimal."""
    if step <= 0:
        (cursor.items() or [cursor])[-1].add("a step is not above 0", expected="a number above 0")
        return False
    try:
        space.Quantized(low, high, step)
    except ValueError:
        nearest = space.nearest_end(low, high, step)
        found, hint = f"[{low}, {high}, {step}]", f"write [{low}, {nearest}, {step}], or another step"
        cursor.add(
            "the step does not divide the range", found=found, expected="high = low + n * step", hint=hint
        )
        return False
    return True


def _normal(_: str, cursor: Cursor, __: Cursor | None) -> space.Dimension | None:
    numbers = _numbers(cursor, "[mean, sd]")
    if numbers is None or not _in_reach(cursor, numbers):
        return None
    if numbers[1] <= 0:
        (cursor.items() or [cursor])[1].add("the sd is not above 0", expected="[mean, sd], sd above 0")
        return None
    return space.Normal(*numbers)


def _ordered(kind: str, cursor: Cursor, ends: list[Any]) -> bool:
    low, high = ends[:2]
    if kind.startswith("log_") and low <= 0:
        message = "the lower bound of a logarithmic range is not above 0"
        (cursor.items() or [cursor])[0].add(message, expected="a number above 0")
        return False
    if low >= high:
        hint = "exchange them" if low > high else "one value stands under `fixed`, or in a list"
        cursor.add("low is not below high", found=f"[{low}, {high}]", expected="[low, high]", hint=hint)
        return False
    return True


def _in_reach(cursor: Cursor, numbers: list[float]) -> bool:
    if any(abs(number) > 2**63 for number in numbers):
        cursor.add("a bound is out of range", expected="bounds between -2^63 and 2^63")
        return False
    return True


def _with_prior(
    kind: Callable[..., space.Dimension], ends: list[Any], cursor: Cursor | None
) -> space.Dimension | None:
    if cursor is None:
        return kind(*ends)
    section = cursor.keys(("at", "sd"), what="{at: 0.1, sd: 0.1}")
    if section is None:
        return None
    numbers = {key: value.number() for key, value in section.items()}
    for key in ("at", "sd"):
        if key not in numbers:
            cursor.add(f"the key {key!r} is missing", expected="{at: 0.1, sd: 0.1}")
    at, sd = numbers.get("at"), numbers.get("sd")
    if at is None or sd is None:
        return None
    low, high = ends[:2]
    logarithmic = kind in (space.LogUniform, space.LogInt)
    if not low <= at <= high:
        section["at"].add("lies outside the range", found=f"{at:g}", expected=f"between {low} and {high}")
    if sd <= (1 if logarithmic else 0):
        expected = "a factor above 1, since the range is logarithmic" if logarithmic else "above 0"
        section["sd"].add("is too small", found=f"{sd:g}", expected=expected)
    elif low <= at <= high:
        return kind(*ends, prior=space.Prior(at, sd))
    return None


_READERS: Final[Mapping[str, Callable[[str, Cursor, Cursor | None], space.Dimension | None]]] = {
    "uniform": _float_range,
    "log_uniform": _float_range,
    "int": _int_range,
    "log_int": _int_range,
    "quantized": _quantized,
    "normal": _normal,
}
