"""Folds of a file: which samples each one trains on, validates on and is tested on."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, Final

from hpc_search.errors import UsageError
from hpc_search.splits.folds import Fold, Split
from hpc_search.splits.overlaps import broken, report
from hpc_search.splits.table import Table
from hpc_search.splits.words import listed

_SIDES: Final = ("train", "val", "test")
_SHOWN: Final = 10
_LONG: Final = 60
_NUMBER: Final = re.compile("0|[1-9][0-9]{0,5}")
_FORM: Final = (
    'expected {"folds": {"1": {"train": [names], "val": [names], "test": [names]}, ...}}, where names are '
    'ids or groups, or by two columns {"treatment_1": ["sample_A", "sample_B"], ...}'
)
#: The name of a sample in the file: of an id or a group, or of two columns one below the other.
Name = tuple[str, ...]


@dataclass(slots=True)
class _Reading:
    """What the file says, and what is wrong with it."""

    where: str
    folds: dict[int, dict[str, list[Name]]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def raise_problems(self) -> None:
        if not self.problems:
            return
        lines = [f"{self.where}: {problem}" for problem in self.problems[:_SHOWN]]
        if self.problems[_SHOWN:]:
            lines.append(f"and {len(self.problems) - _SHOWN} more problems of {self.where}")
        hints = self.hints or [f"correct {self.where}, or the table that data: names"]
        raise UsageError("\n".join(lines), hint="; ".join(hints), key="folds.file")


def from_file(table: Table, content: str | bytes, where: str, apart: Sequence[str] = ()) -> Split:
    """Return the folds of a folds.json, with their numbers there.

    Names are ids, groups or values of a further column, whichever column has them; a side may also have two
    levels, {treatment: [samples]}. The file can say ``"columns": ["treatment", "sample"]``. Rows of the table
    that no fold names are left out.

    Raises:
        UsageError: The file is not of that form, names what is not in the table, or has a name on two
            sides of a fold, or two sides share what they must not: everything that is wrong is named.
    """
    reading = _read(content, where)
    if reading.problems:
        reading.hints.append(_FORM)
    columns = _columns(reading, table)
    folds: list[Fold] = []
    if columns:
        known = table.named_columns()
        places: dict[Name, list[int]] = {}
        for row, name in enumerate(zip(*(map(str, known[one]) for one in columns), strict=True)):
            places.setdefault(name, []).append(row)
        for number, sides in sorted(reading.folds.items()):
            _check_names(reading, number, sides, places, columns)
            folds.append(_fold(number, sides, places))
    split = Split(tuple(folds))
    if reading.problems:
        # Of a name on two sides that is told already.
        told = ("id", *columns)
        reading.problems += broken([one for one in report(split, table, apart) if one.column not in told])
    reading.raise_problems()
    return split


def _fold(number: int, sides: Mapping[str, Sequence[Name]], places: Mapping[Name, Sequence[int]]) -> Fold:
    rows = {
        side: tuple(sorted(row for name in set(sides.get(side, ())) for row in places.get(name, ())))
        for side in _SIDES
    }
    return Fold(number, rows["train"], rows["val"], rows["test"])


def _read(content: str | bytes, where: str) -> _Reading:
    reading = _Reading(where)
    try:
        document = json.loads(content, object_pairs_hook=lambda pairs: _unique(pairs, reading))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{error.object[error.start]:02x}"
        reading.problems.append(f"not JSON: {byte} of line {line} is not UTF-8 text")
        return reading
    except (ValueError, RecursionError) as error:
        reading.problems.append(f"not JSON: {error}")
        return reading
    folds = document.get("folds") if isinstance(document, Mapping) else None
    if not isinstance(folds, Mapping) or not folds:
        reading.problems.append("no folds are there")
        return reading
    for key, sides in folds.items():
        _read_fold(key, sides, reading)
    columns = document.get("columns", ())
    if isinstance(columns, list) and all(isinstance(name, str) for name in columns):
        reading.columns = tuple(columns)
    elif columns:
        reading.problems.append(f"columns: found {columns!r}, expected a list of names of columns")
    levels = {len(name) for sides in reading.folds.values() for names in sides.values() for name in names}
    if len(levels) > 1:
        reading.problems.append("some sides have names by two columns, others by one")
    elif reading.columns and levels and len(reading.columns) not in levels:
        reading.problems.append(f"columns: found {len(reading.columns)} names, expected {min(levels)}")
    return reading


def _unique(pairs: Iterable[tuple[str, Any]], reading: _Reading) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            reading.problems.append(f"the key {_shown(key)} is there twice")
        content[key] = value
    return content


def _read_fold(key: str, sides: object, reading: _Reading) -> None:
    if not _NUMBER.fullmatch(key):
        reading.problems.append(f"fold {_shown(key)}: expected a number from 0 to 999999")
        return
    if not isinstance(sides, Mapping):
        reading.problems.append(f"fold {key}: found {type(sides).__name__}, expected its sides")
        return
    if unknown := [side for side in sides if side not in _SIDES]:
        reading.problems.append(f"fold {key}: unknown sides {listed(unknown)}; expected train, val and test")
    own: dict[str, list[Name]] = {}
    for side in _SIDES:
        if side not in sides:
            continue
        try:
            own[side] = list(_names(sides[side]))
        except TypeError as error:
            reading.problems.append(f"fold {key}: {side}: {error}")
    for side in ("train", "val"):
        if side not in sides:
            reading.problems.append(f"fold {key}: it has no side {side}")
        elif side in own and not own[side]:
            reading.problems.append(f"fold {key}: {side} is empty")
    if "test" in own and not own["test"]:
        reading.problems.append(f"fold {key}: test is empty")
    reading.folds[int(key)] = own


def _names(value: object, above: Name = ()) -> Iterator[Name]:
    """Yield the names of a side: a text, a list of them, or a mapping of further ones."""
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        yield (*above, str(value))
    elif isinstance(value, list):
        for one in value:
            if not isinstance(one, (str, int)) or isinstance(one, bool):
                raise TypeError(f"found {one!r} in a list of names, expected text or a number")
            yield (*above, str(one))
    elif isinstance(value, Mapping) and not above:
        for key, below in value.items():
            yield from _names(below, (key,))
    else:
        raise TypeError(f"found {type(value).__name__}, expected names, or lists of names by one column")


def _columns(reading: _Reading, table: Table) -> tuple[str, ...]:
    """Return the columns of *table* that have the names of the file; () where that cannot be said.

    No column has one of them, several do, or the file says a column that is not there: that is noted.
    """
    known = table.named_columns()
    wanted = {name for sides in reading.folds.values() for names in sides.values() for name in names}
    if len({len(name) for name in wanted} | ({len(reading.columns)} if reading.columns else set())) != 1:
        return ()
    if reading.columns:
        absent = [name for name in reading.columns if name not in known]
        reading.problems += [f"columns: no {name!r} in the table" for name in absent]
        if absent:
            reading.hints.append(f"the table has: {', '.join(known)}; data: {{columns: [...]}} adds some")
        return () if absent else reading.columns
    levels = [{name[level] for name in wanted} for level in range(len(next(iter(wanted))))]
    # Nobody names samples by their label or time: a number that is no id can be one.
    found = {name: set(map(str, column)) for name, column in known.items() if name not in {"label", "time"}}
    scores = {
        chosen: sum(len(level & found[name]) for level, name in zip(levels, chosen, strict=True))
        for chosen in permutations(found, len(levels))
        if all(level & found[name] for level, name in zip(levels, chosen, strict=True))
    }
    if not scores:
        what = "no column has" if len(levels) == 1 else "no two columns have"
        reading.problems.append(f"{what} its names: {listed([_word(name) for name in sorted(wanted)])}")
        hint = "name their columns in the search file: data: {columns: [...]}"
        reading.hints.append(f"the table has: {', '.join(known)}; {hint}")
        stripped = {str(name).lstrip("0"): name for name in table.ids}
        if padded := [
            stripped[name.lstrip("0")] for name in sorted(levels[0]) if name.lstrip("0") in stripped
        ]:
            reading.hints.append(f"ids are texts such as {padded[0]!r}: write them as the table has them")
        return ()
    best = [chosen for chosen, score in scores.items() if score == max(scores.values())]
    contents = {tuple(tuple(map(str, known[name])) for name in chosen) for chosen in best}
    if len(contents) > 1:
        names = " or ".join(" + ".join(one) for one in best)
        reading.problems.append(f"its names are in several columns: {names}")
        reading.hints.append(f'say which ones in the file: "columns": {json.dumps(best[0])}')
        return ()
    return best[0]


def _check_names(
    reading: _Reading,
    number: int,
    sides: Mapping[str, Sequence[Name]],
    places: Mapping[Name, object],
    columns: Sequence[str],
) -> None:
    """Note names that are not in the table, or twice in the fold."""
    by = f" (by {', '.join(columns)})"
    for side, names in sides.items():
        if absent := sorted({name for name in names if name not in places}):
            words = ", ".join(map(_word, absent))
            reading.problems.append(f"fold {number}: {side} names what is not in the data{by}: {words}")
        if len(set(names)) < len(names):
            twice = sorted(name for name, count in Counter(names).items() if count > 1)
            reading.problems.append(
                f"fold {number}: {side} names {listed([_word(name) for name in twice])} twice"
            )
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        if both := sorted(set(sides.get(one, ())) & set(sides.get(other, ()))):
            words = listed([_word(name) for name in both])
            reading.problems.append(f"fold {number}: {one} and {other} both have {words}")


def _word(name: Name) -> str:
    text = "/".join(name)
    return text if text.isprintable() else ascii(text)


def _shown(value: str) -> str:
    return ascii(value) if len(value) <= _LONG else f"{value[:_LONG]!a}..."
