"""Typed reading of nodes: a getter returns the value, or None after it has noted what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, TypeVar

from hpc_search.config.nodes import Mapping, Node, Scalar, Sequence
from hpc_search.config.problems import Book, below, near_miss, shown, words
from hpc_search.config.scalars import INT_HIGH, INT_LOW

T = TypeVar("T")

#: Longest name of a search, parameter or metric.
MOST_NAME: Final = 200

#: Longest description and argument of a command.
MOST_TEXT: Final = 10_000

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?) *([A-Za-z]*)")
_UNITS: Final = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}
_NO_HINTS: Final[MappingOf[str, str]] = {}
_NUMBER_LIKE: Final = re.compile(r"[-+]?[0-9.][0-9._,]*([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Cursor:
    """One node with its YAML path; what is wrong with it goes to the book."""

    book: Book
    node: Node
    path: str = ""

    @property
    def line(self) -> int:
        """Line of the value, from 1."""
        return self.node.line

    @property
    def is_null(self) -> bool:
        """Whether the value is null or nothing was written."""
        return isinstance(self.node, Scalar) and self.node.value is None

    def add(self, message: str, *, found: str | None = None, expected: str = "", hint: str = "") -> None:
        """Note a problem of this value; it is shown as found unless *found* says it."""
        seen = self.described() if found is None else found
        self.book.add(self.line, self.path, message, found=seen, expected=expected, hint=hint)

    def described(self) -> str:
        """Return what stands here: ``the string 'abc'``, ``3``, ``a list of 2``."""
        match self.node:
            case Sequence(items=items):
                return f"a list of {len(items)}"
            case Mapping(entries=entries):
                names = words([shown(key.value) for key, _ in entries[:5]]) if entries else "nothing in it"
                return f"a mapping with {names}"
            case Scalar(value=str() as value):
                return f"the string {shown(value)}"
            case Scalar(value=None):
                return "nothing (null)"
            case Scalar(text=text):
                return text if len(text) <= 60 else f"{text[:57]}..."

    def text(self, what: str = "text", *, most: int = MOST_NAME, lines: bool = False) -> str | None:
        """Return a non-empty string without control characters; *lines* allows line ends and tabs."""
        value = self.string(what)
        if value is None:
            return None
        plain = value.replace("\n", " ").replace("\t", " ") if lines else value
        if not value.strip() and not lines:
            return self._no("is empty", expected=what)
        if len(value) > most:
            return self._no(f"is {len(value):,} characters long", expected=f"at most {most}")
        if any(not_printed(character) for character in plain):
            return self._no("has a line end or another control character", expected=f"{what} on one line")
        return value

    def string(self, what: str = "text") -> str | None:
        """Return any string."""
        value = self.node.value if isinstance(self.node, Scalar) else None
        if isinstance(value, str):
            return value
        hint = (
            f'write it in quotes: "{self.node.text}"'
            if isinstance(self.node, Scalar) and value is not None
            else ""
        )
        return self._no("is not a string", expected=what, hint=hint)

    def matching(self, pattern: re.Pattern[str], what: str) -> str | None:
        """Return a string that *pattern* matches whole; *what* describes such strings."""
        value = self.string(what)
        if value is None or (len(value) <= MOST_TEXT and pattern.fullmatch(value)):
            return value
        return self._no("is not in the allowed form", expected=what)

    def one_of(self, allowed: Iterable[str]) -> str | None:
        """Return one of the *allowed* words."""
        known = tuple(allowed)
        value = self.string(words(known, "or"))
        if value is None or value in known:
            return value
        return self._no("is not known", expected=words(known, "or"), hint=near_miss(value, known))

    def integer(self, low: int = INT_LOW, high: int = INT_HIGH) -> int | None:
        """Return an integer between *low* and *high*, inclusive."""
        value = self.node.value if isinstance(self.node, Scalar) else None
        expected = _between("an integer", low, high)
        if type(value) is not int:
            hint = (
                f"write {value:.0f}"
                if isinstance(value, float) and value.is_integer()
                else self._number_hint()
            )
            return self._no("is not an integer", expected=expected, hint=hint)
        return value if low <= value <= high else self._no("is out of range", expected=expected)

    def number(self, what: str = "a finite number") -> float | None:
        """Return a finite number as a float."""
        value = self.node.value if isinstance(self.node, Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self._no("is not a number", expected=what, hint=self._number_hint())
        if (abs(value) > 2**1000 and isinstance(value, int)) or not isfinite(value):
            return self._no("is not finite", expected=what)
        return float(value)

    def boolean(self) -> bool | None:
        """Return true or false."""
        value = self.node.value if isinstance(self.node, Scalar) else None
        if isinstance(value, bool):
            return value
        said = {"yes": "true", "on": "true", "no": "false", "off": "false"}
        hint = f"write {said[value.lower()]}" if isinstance(value, str) and value.lower() in said else ""
        return self._no("is not a boolean", expected="true or false", hint=hint)

    def seconds(self, *, zero: bool = False, number_of: str = "seconds") -> float | None:
        """Return a length of time in seconds, from a number or from ``30s``, ``5 min``, ``1h``."""
        expected = f"{number_of} as a number, or a time such as 30s, 5 min, 1h"
        value = self.node.value if isinstance(self.node, Scalar) else None
        if isinstance(value, str):
            match = _DURATION.fullmatch(value.strip())
            unit = _UNITS.get(match[2].lower()) if match else None
            if match is None or unit is None:
                return self._no("is not a length of time", expected=expected)
            length: float | None = float(match[1]) * unit
        else:
            length = self.number(expected)
        if length is not None and not (length > 0 or (zero and length == 0)):
            return self._no(
                "is not a length of time", expected=f"{expected}, {'0 or more' if zero else 'above 0'}"
            )
        if length is not None and length > 1e9:
            return self._no("is longer than thirty years", expected=expected)
        return length

    def items(self, what: str = "a list", *, empty: bool = False) -> list[Cursor] | None:
        """Return the values of a list; an empty one is wrong unless *empty*."""
        if not isinstance(self.node, Sequence):
            return self._no("is not a list", expected=what)
        if not self.node.items and not empty:
            return self._no("is empty: it needs at least one value", expected=what)
        return [
            Cursor(self.book, item, f"{self.path}[{place}]") for place, item in enumerate(self.node.items)
        ]

    def entries(self, what: str = "a mapping") -> list[tuple[Scalar, Cursor]] | None:
        """Return keys and values of a mapping."""
        if not isinstance(self.node, Mapping):
            return self._no("is not a mapping", expected=what)
        return [
            (key, Cursor(self.book, value, below(self.path, key.text))) for key, value in self.node.entries
        ]

    def keys(
        self,
        known: Iterable[str],
        *,
        later: Iterable[str] = (),
        instead: MappingOf[str, str] = _NO_HINTS,
        what: str = "",
    ) -> dict[str, Cursor] | None:
        """Return the values by key; unknown keys are noted, with the nearest one of *known*.

        Keys in *later* are told to belong to a later version; *instead* says what to write for others.
        """
        names, known = frozenset(later), tuple(known)
        entries = self.entries(what or f"a mapping with {words(known)}")
        if entries is None:
            return None
        for key, value in entries:
            if key.text in names:
                message = f"this version of hpc_search does not have {key.text!r} yet"
                self.book.add(key.line, value.path, message, hint="remove it")
            elif key.text not in known:
                hint = instead.get(key.text, "")
                near = "" if hint else near_miss(key.text, known)
                message = f"unknown key {shown(key.text)}" + (f"; {near}" if near else "")
                expected = "" if hint else words(known, "or")
                self.book.add(key.line, value.path, message, expected=expected, hint=hint)
        return {key.text: value for key, value in entries if key.text in known}

    def plain(self) -> Any:
        """Return the value as Python has it; infinite, not-a-number and huge integers are noted."""
        match self.node:
            case Sequence():
                return [item.plain() for item in self.items(empty=True) or ()]
            case Mapping():
                return {key.text: value.plain() for key, value in self.entries() or ()}
            case Scalar(value=bool() as value):
                return value
            case Scalar(value=int()):
                return self.integer()
            case Scalar(value=float()):
                return self.number("a finite number, or a string in quotes")
            case Scalar(value=value):
                return value

    def _no(self, message: str, *, expected: str = "", hint: str = "") -> T | None:
        self.add(message, expected=expected, hint=hint)
        return None

    def _number_hint(self) -> str:
        node = self.node
        if (
            not isinstance(node, Scalar)
            or not isinstance(node.value, str)
            or not _NUMBER_LIKE.fullmatch(node.text)
        ):
            return ""
        return (
            "remove _ and , from the number"
            if set("_,") & set(node.text)
            else "write the number without quotes"
        )


def not_printed(character: str) -> bool:
    """Return whether *character* is a control character or a line end of any kind."""
    return not character.isprintable() and character not in " \u00a0\u3000"


def fields(
    section: MappingOf[str, Cursor], readers: MappingOf[str, Callable[[Cursor], object]]
) -> dict[str, Any]:
    """Return what the *readers* make of the keys given; a key whose value is wrong is left out."""
    read = {key: reader(section[key]) for key, reader in readers.items() if key in section}
    return {key: value for key, value in read.items() if value is not None}


def nullable(reader: Callable[[Cursor], T]) -> Callable[[Cursor], T | None]:
    """Return a reader that also takes null, for a key whose default is null."""
    return lambda cursor: None if cursor.is_null else reader(cursor)


def each(cursors: Iterable[Cursor], reader: Callable[[Cursor], T | None]) -> Iterator[T]:
    """Yield what *reader* makes of the cursors, without those that are wrong."""
    for cursor in cursors:
        value = reader(cursor)
        if value is not None:
            yield value


def _between(what: str, low: int, high: int) -> str:
    if (low, high) == (INT_LOW, INT_HIGH):
        return f"{what} between -2^63 and 2^63 - 1"
    return f"{what}, {low} or more" if high == INT_HIGH else f"{what} between {low} and {high:,}"
