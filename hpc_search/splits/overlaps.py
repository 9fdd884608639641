"""Which values stand on two sides of a fold: ids, groups, and every other column of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc_search.errors import UsageError
from hpc_search.records.splits import Overlap
from hpc_search.splits.columns import check_columns, is_missing
from hpc_search.splits.folds import Fold, Split
from hpc_search.splits.table import Table

_PAIRS = (("train", "val"), ("train", "test"), ("val", "test"))
_EXAMPLES = 3
_SHOWN = 10
_TOGETHER = (
    "keep them on one side: data: {group: COLUMN} does it by that column, or mend the fold file or the "
    "splitter"
)


def report(split: Split, table: Table, apart: Sequence[str] = ()) -> tuple[Overlap, ...]:
    """Return the overlaps of all sides of each fold, by id, group, time and the further columns.

    Every split promises that ids and groups do not overlap, and the columns *apart*. Rows without a value
    in a further column overlap with none.
    """
    columns = {name: column for name, column in table.named_columns().items() if name != "label"}
    promised = {"id", "group", *apart}
    found: list[Overlap] = []
    for name in dict.fromkeys([*columns, *apart]):
        codes, values = _coded(table.named_columns()[name])
        for fold in split.folds:
            found += [
                Overlap(
                    fold=fold.number,
                    column=name,
                    sides=sides,
                    count=len(shared),
                    examples=tuple(str(values[code]) for code in shared[:_EXAMPLES]),
                    promised=name in promised,
                )
                for sides, shared in _shared(fold, codes, len(values)).items()
            ]
    return tuple(sorted(found, key=lambda overlap: overlap.fold))


def broken(overlaps: Sequence[Overlap]) -> list[str]:
    """Return in words which of *overlaps* were promised not to be."""
    lines = [_words(overlap) for overlap in overlaps if overlap.promised]
    more = [f"and {len(lines) - _SHOWN} more overlaps"] if lines[_SHOWN:] else []
    return lines[:_SHOWN] + more


def check_disjoint(split: Split, table: Table, apart: Sequence[str] = ()) -> None:
    """Check that no row, no group and no value of *apart* stands on two sides, and that no side is empty.

    Raises:
        UsageError: One does; the folds, the sides, the numbers and examples are named.
    """
    check_columns(table, "", apart)
    check_sides(split, table, apart)


def check_sides(split: Split, table: Table, apart: Sequence[str]) -> None:
    """Do the same for a *table* that has a value in each row of the columns *apart*, and a group.

    Raises:
        UsageError: As check_disjoint.
    """
    empty = [
        f"fold {fold.number} has no {side} rows: train {len(fold.train)}, val {len(fold.val)}"
        for fold in split.folds
        for side in ("train", "val")
        if not fold.sides[side]
    ]
    shared = broken(report(split, table, apart))
    if empty or shared:
        hints = ["use fewer folds, or smaller groups"] * bool(empty) + [_TOGETHER] * bool(shared)
        raise UsageError("\n".join(empty + shared), hint="; ".join(hints))


def _coded(column: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Return the numbers of the values of *column*, -1 for a missing one, and the values by number."""
    import numpy as np

    numbers: dict[Any, int] = {}
    coded = [-1 if is_missing(value) else numbers.setdefault(value, len(numbers)) for value in column]
    return np.asarray(coded), list(numbers)


def _shared(fold: Fold, codes: Any, count: int) -> Mapping[tuple[str, str], list[int]]:
    """Return the numbers of the values on both sides, by pair of sides that share any."""
    import numpy as np

    seen = {}
    for side, rows in fold.sides.items():
        # One place more than there are values: the last one takes the missing ones, whose number is -1.
        seen[side] = np.zeros(count + 1, dtype=bool)
        seen[side][codes[np.asarray(rows, dtype=int)]] = True
        seen[side][-1] = False
    both = {pair: np.flatnonzero(seen[pair[0]] & seen[pair[1]]) for pair in _PAIRS if set(pair) <= set(seen)}
    return {pair: shared.tolist() for pair, shared in both.items() if len(shared)}


def _words(overlap: Overlap) -> str:
    one, other = overlap.sides
    many = "s" if overlap.count > 1 and overlap.column in {"id", "group"} else ""
    what = overlap.column if overlap.column in {"id", "group"} else f"of {overlap.column}"
    example = overlap.examples[0]
    return (
        f"fold {overlap.fold}: {one} and {other} share {overlap.count} {what}{many}, for example {example!r}"
    )
