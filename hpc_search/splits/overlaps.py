"""Which values stand on two sides of a fold: ids, groups, and every other column of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc_search.errors import UsageError
from hpc_search.records.splits import Overlap
from hpc_search.splits.columns import check_known, is_missing
from hpc_search.splits.folds import Fold, Split
from hpc_search.splits.table import Table

_PAIRS = (("train", "val"), ("train", "test"), ("val", "test"))
_EXAMPLES = 3
_SHOWN = 10


def report(split: Split, table: Table, apart: Sequence[str] = ()) -> tuple[Overlap, ...]:
    """Return the overlaps of all sides of each fold, by id, group, time and the further columns.

    Every split promises that ids and groups do not overlap, and the columns *apart*. Rows without a value
    in a further column overlap with none.

    Raises:
        UsageError: The table has no such column as one of *apart*, or a row has no value in it.
    """
    columns = {name: column for name, column in table.named_columns().items() if name != "label"}
    _check_apart(table, apart)
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


def check(overlaps: Sequence[Overlap]) -> None:
    """Check that none of *overlaps* was promised not to be.

    Raises:
        UsageError: Some were; the fold, the sides, the number and an example of each are named.
    """
    broken = [overlap for overlap in overlaps if overlap.promised]
    if not broken:
        return
    lines = [_words(overlap) for overlap in broken[:_SHOWN]]
    if broken[_SHOWN:]:
        lines.append(f"and {len(broken) - _SHOWN} more overlaps")
    raise UsageError(
        "\n".join(lines),
        hint="keep them on one side: data: {group: COLUMN} does it by that column, or mend the fold file or "
        "the splitter",
    )


def check_disjoint(split: Split, table: Table, apart: Sequence[str] = ()) -> None:
    """Check that no row, no group and no value of *apart* stands on two sides, and that no side is empty.

    Raises:
        UsageError: One does; the fold, the sides, the number and an example are named.
    """
    for fold in split.folds:
        if not fold.train or not fold.val:
            empty = "train" if not fold.train else "val"
            raise UsageError(
                f"fold {fold.number} has no {empty} rows: train {len(fold.train)}, val {len(fold.val)}",
                hint="use fewer folds, or smaller groups",
            )
    check(report(split, table, apart))


def _check_apart(table: Table, apart: Sequence[str]) -> None:
    columns = table.named_columns()
    if unknown := [name for name in apart if name not in columns]:
        message = f"folds.apart: the data table has no column {', '.join(map(repr, unknown))}"
        raise UsageError(
            message, hint=f"its columns are: {', '.join(columns)}; data: {{columns: [...]}} adds some"
        )
    for name in apart:
        check_known(columns[name], table, name)


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
