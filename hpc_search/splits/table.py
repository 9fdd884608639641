"""The table that is split: a unique id a row, and what is known of each row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from hpc_search.errors import UsageError

IdKind = Literal["int", "str"]


@dataclass(frozen=True, slots=True)
class Table:
    """The rows to split: a unique id each, and where they are known its label, group, time and more.

    ``times`` order the rows for folds over time; ``columns`` are others by name (tissue, chromosome, file),
    by which overlaps are reported.

    Raises:
        UsageError: No row, an id that is missing, double or of another type than the others, or
            columns of different lengths, or a label or group that is no text, number or None.
    """

    ids: tuple[str | int, ...]
    labels: tuple[Any, ...] | None = None
    groups: tuple[Any, ...] | None = None
    times: tuple[Any, ...] | None = None
    columns: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the columns."""
        if not self.ids:
            raise UsageError("the data table has no rows", hint="check data: in the search file")
        named = {"labels": self.labels, "groups": self.groups, "times": self.times, **self.columns}
        for name, column in named.items():
            if column is not None and len(column) != len(self.ids):
                raise UsageError(f"the data table has {len(self.ids)} ids but {len(column)} {name}")
            _check_scalars(column or (), name)
        _check_ids(self.ids)

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
            tuple(map(_plain, ids)),
            None if labels is None else tuple(map(_plain, labels)),
            None if groups is None else tuple(map(_plain, groups)),
            None if times is None else tuple(map(_plain, times)),
            {name: tuple(map(_plain, column)) for name, column in (columns or {}).items()},
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


def _check_ids(ids: Sequence[str | int]) -> None:
    kind = int if isinstance(ids[0], int) else str
    seen: dict[object, int] = {}
    for row, name in enumerate(ids):
        if isinstance(name, bool) or not isinstance(name, kind) or name == "":
            message = f"row {row} of the data table has the id {name!r}; expected a unique {kind.__name__}"
            raise UsageError(message, hint="make every id an integer, or every id a text")
        if name in seen:
            raise UsageError(
                f"the data table has the id {name!r} twice: rows {seen[name]} and {row}",
                hint="ids must be unique; name another column in data: {id: ...}",
            )
        seen[name] = row


def _check_scalars(column: Sequence[object], name: str) -> None:
    for row, value in enumerate(column):
        if not isinstance(value, (str, int, float, type(None))):
            found = f"row {row} of the data table has {value!r} of type {type(value).__name__} in its {name}"
            raise UsageError(found, hint="make it a text, a number, or None where it is not known")


def _plain(value: Any) -> Any:
    """Return a Python value for a scalar of numpy or pandas, a text for a date, None for what is missing."""
    if type(value).__name__ in {"NAType", "NaTType"}:
        return None
    if isinstance(value, date):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value
