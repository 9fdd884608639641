"""The table that is split: a unique id a row, and what is known of each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, Literal

from hpc_search.errors import UsageError
from hpc_search.splits.words import listed, shown

IdKind = Literal["int", "str"]
#: Double ids that are named.
_SHOWN: Final = 10
_MOST_BITS: Final = 10_000
_HINT: Final = "correct the table; ids are unique, all integers or all texts: data: {id: COLUMN} names others"


@dataclass(frozen=True, slots=True)
class Table:
    """The rows to split: a unique id each, and where they are known its label, group, time and more.

    ``times`` order the rows for folds over time; ``columns`` are others by name (tissue, chromosome, file),
    by which overlaps are reported. ``source`` is the file that the rows are of, and ``lines`` where each one
    begins there: only messages have them.

    Raises:
        UsageError: No row, an id that is missing, double or of another type than the others, or
            columns of different lengths, or a label or group that is no text, number or None; all of it
            is named.
    """

    ids: tuple[str | int, ...]
    labels: tuple[Any, ...] | None = None
    groups: tuple[Any, ...] | None = None
    times: tuple[Any, ...] | None = None
    columns: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    source: str = field(default="the data table", compare=False)
    lines: tuple[int, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Check the columns."""
        if not self.ids:
            raise UsageError(f"{self.source} has no rows", hint="a row a sample is expected below the header")
        named = {"labels": self.labels, "groups": self.groups, "times": self.times, **self.columns}
        given = {name: column for name, column in named.items() if column is not None}
        problems = list(_id_problems(self))
        for name, column in given.items():
            problems += _column_problems(self, name, column)
        if problems:
            raise UsageError("\n".join(problems), hint=_HINT)

    def place(self, row: int) -> str:
        """Return where *row* is, as a person finds it: its line in the file, or its number."""
        return f"line {self.lines[row]}" if self.lines else f"row {row}"

    def places(self, rows: Sequence[int]) -> str:
        """Return where *rows* are: the first of them, and how many more there are."""
        if len(rows) == 1:
            return self.place(rows[0])
        numbers = [str(self.lines[row] if self.lines else row) for row in rows]
        few = len(numbers) <= _SHOWN
        text = f"{', '.join(numbers[:-1])} and {numbers[-1]}" if few else listed(numbers)
        return f"{'lines' if self.lines else 'rows'} {text}"

    @classmethod
    def of(
        cls,
        ids: Iterable[Any],
        labels: Iterable[Any] | None = None,
        groups: Iterable[Any] | None = None,
        times: Iterable[Any] | None = None,
        columns: Mapping[str, Iterable[Any]] | None = None,
    ) -> Table:
        """Return the table of columns of any kind: lists, arrays, pandas series.

        Raises:
            UsageError: As the class.
        """
        return cls(
            _column(ids, "ids"),
            None if labels is None else _column(labels, "labels"),
            None if groups is None else _column(groups, "groups"),
            None if times is None else _column(times, "times"),
            {name: _column(column, name) for name, column in (columns or {}).items()},
        )

    def named_columns(self) -> dict[str, tuple[Any, ...]]:
        """Return the columns that there are by name: id, label, group, time, then the further ones.

        A further one of one of these names is the same column, or is called so and "(column)".
        """
        own = {"id": self.ids, "label": self.labels, "group": self.groups, "time": self.times}
        named: dict[str, tuple[Any, ...]] = {k: column for k, column in own.items() if column is not None}
        for name, column in self.columns.items():
            if named.setdefault(name, column) != column:
                named[f"{name} (column)"] = column
        return named

    @property
    def id_kind(self) -> IdKind:
        """Whether the ids are integers or texts; a manifest is read back with it."""
        return "int" if isinstance(self.ids[0], int) else "str"


def _id_problems(table: Table) -> Iterator[str]:
    kind = int if isinstance(table.ids[0], int) else str
    seen: dict[object, list[int]] = {}
    wrong: list[int] = []
    for row, own in enumerate(table.ids):
        if isinstance(own, bool) or not isinstance(own, kind) or own == "" or not _written(own):
            wrong.append(row)
        else:
            seen.setdefault(own, []).append(row)
    if wrong:
        others = f"; so have {table.places(wrong[1:])}" if wrong[1:] else ""
        found = f"{table.place(wrong[0])} of {table.source} has the id {_shown(table.ids[wrong[0]])}"
        yield f"{found}; expected a unique {kind.__name__}{others}"
    twice = [(name, rows) for name, rows in seen.items() if len(rows) > 1]
    for name, rows in twice[:_SHOWN]:
        times = "twice" if len(rows) == 2 else f"{len(rows)} times"
        yield f"{table.source} has the id {shown(name)} {times}: {table.places(rows)}"
    if twice[_SHOWN:]:
        yield f"and {len(twice) - _SHOWN:,} more ids that are there more than once"


def _column_problems(table: Table, name: str, column: Sequence[object]) -> Iterator[str]:
    if len(column) != len(table.ids):
        yield f"{table.source} has {len(table.ids)} ids but {len(column)} {name}"
        return
    wrong = [row for row, value in enumerate(column) if not _written(value)]
    if wrong:
        value = column[wrong[0]]
        others = f"; so have {table.places(wrong[1:])}" if wrong[1:] else ""
        kind = f"{_shown(value)} of type {type(value).__name__} in its {name}"
        yield f"{table.place(wrong[0])} of {table.source} has {kind}{others}; expected texts, numbers or None"


def _written(value: object) -> bool:
    """Say whether a manifest can have *value*: Python writes no longer numbers, UTF-8 no surrogate."""
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, int):
        return value.bit_length() < _MOST_BITS
    return value is None or isinstance(value, float)


def _shown(value: object) -> str:
    if isinstance(value, int) and not _written(value):
        return f"an integer of {value.bit_length():,} bits"
    return shown(value)


def _column(values: Any, name: str) -> tuple[Any, ...]:
    """Return *values* as Python has them; a text, a mapping or a set has no value a row in their order."""
    if not isinstance(values, (str, bytes, Mapping, AbstractSet)):
        with suppress(TypeError, ValueError):
            return tuple(map(_plain, values))
    message = f"the {name} of the data table are {type(values).__name__}"
    raise UsageError(message, hint="expected is a list, an array of one dimension or a column of a DataFrame")


def _plain(value: Any) -> Any:
    """Return a Python value for a scalar of numpy or pandas, a text for a date, None for what is missing."""
    if type(value).__name__ in {"NAType", "NaTType"}:
        return None
    if isinstance(value, date):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value
