"""Cross-validation splits of a table into folds and a test part, and their manifests.

Where the table has groups, a group never stands on two sides of any split, whatever the kind: rows of
one patient or series are not independent. The test part is taken first and is in no fold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hpc_search.errors import UsageError
from hpc_search.splits.table import Table

#: The kinds of folds that ``make_split`` knows.
KINDS: Final = ("kfold", "stratified", "grouped")
#: numpy's generators take no seed outside 0..SEED_MAX.
SEED_MAX: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows of the table that one fold trains on, validates on and is tested on, each ascending, from 0.

    ``number`` is its name everywhere. ``outer`` is the outer fold that it belongs to, None where there are
    none: folds of one outer fold have the same test rows, and choose a point among themselves.
    """

    number: int
    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...] = ()
    outer: int | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """The folds, by number."""

    folds: tuple[Fold, ...]

    @property
    def test(self) -> tuple[int, ...]:
        """The rows of the test part that all folds share, () where each has its own, or none."""
        first = self.folds[0].test
        return first if all(fold.test == first for fold in self.folds) else ()


def make_split(table: Table, kind: str, n: int, seed: int = 0, test_share: float = 0.0) -> Split:
    """Return *n* folds of *kind* over the rows that are left after a test part of *test_share*.

    ``kfold`` shuffles rows, ``stratified`` also keeps the shares of the labels, ``grouped`` needs
    groups. Every row outside the test part is validated on in exactly one fold. Groups of the table
    stay together in each kind. The same arguments give the same split.

    Raises:
        UsageError: The table has not what the kind needs, or too few rows, groups or members of a
            class; the message has the numbers.
    """
    _check_arguments(kind, n, seed, test_share)
    classes = _codes(table.labels, table, "label", needed=True) if kind == "stratified" else None
    groups = _codes(table.groups, table, "group", needed=kind == "grouped")
    everything = list(range(len(table.ids)))
    test = _take_test(everything, classes, groups, test_share, seed)
    chosen = set(test)
    rest = [row for row in everything if row not in chosen]
    _check_enough(table, rest, classes, groups, n)
    folds = (
        Fold(number, train, val, tuple(test))
        for number, (train, val) in enumerate(_folds(rest, classes, groups, n, seed))
    )
    split = Split(tuple(folds))
    check_disjoint(split, table)
    return split


def check_disjoint(split: Split, table: Table) -> None:
    """Check that no row and no group stands on two sides, and that no side of a fold is empty.

    Raises:
        UsageError: One does; the fold, the sides, the number and an example are named.
    """
    for fold in split.folds:
        number = fold.number
        if not fold.train or not fold.val:
            empty = "train" if not fold.train else "val"
            raise UsageError(
                f"fold {number} has no {empty} rows: train {len(fold.train)}, val {len(fold.val)}",
                hint="use fewer folds, or smaller groups",
            )
        sides = {"train": fold.train, "val": fold.val, "test": fold.test}
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            where = f"fold {number}: {one} and {other}"
            _check_apart(table.ids, "id", where, sides[one], sides[other])
            if table.groups is not None:
                _check_apart(table.groups, "group", where, sides[one], sides[other])


def _check_arguments(kind: str, n: int, seed: int, test_share: float) -> None:
    if kind not in KINDS:
        raise UsageError(f"unknown kind of folds {kind!r}", hint=f"use one of: {', '.join(KINDS)}")
    if n < 2:
        raise UsageError(f"folds: found {n}, expected at least 2", hint="write folds: {kfold: 5}")
    if not 0 <= seed <= SEED_MAX:
        raise UsageError(f"split seed: found {seed}, expected 0 to {SEED_MAX}", hint="choose a smaller seed")
    if not 0.0 <= test_share < 1.0:
        raise UsageError(f"test share: found {test_share}, expected 0 or more and below 1", hint="try 0.2")


def _codes(column: Sequence[Any] | None, table: Table, what: str, *, needed: bool) -> list[int] | None:
    """Return each value as a number, by first appearance, so that types do not change a split."""
    if column is None:
        if not needed:
            return None
        kind = "stratified" if what == "label" else "grouped"
        message = f"folds of kind {kind} need a {what} for each row; the data have none"
        raise UsageError(message, hint=f"name the column in the search file: data: {{{what}: COLUMN}}")
    numbers: dict[Any, int] = {}
    for row, value in enumerate(column):
        if value is None or value == "" or value != value:  # noqa: PLR0124 - nan is not itself
            message = f"row {row} of the data table (id {table.ids[row]!r}) has no {what}"
            raise UsageError(message, hint=f"fill in the {what}, or leave the row out of the table")
        numbers.setdefault(value, len(numbers))
    return [numbers[value] for value in column]


def _take_test(
    rows: list[int], classes: list[int] | None, groups: list[int] | None, share: float, seed: int
) -> list[int]:
    if share == 0.0:
        return []
    if groups is not None:
        return _take_groups(rows, classes, groups, share, seed)
    count = max(1, round(share * len(rows)))
    if classes is not None:
        _check_test_classes(classes, count)
    if count >= len(rows):
        raise UsageError(
            f"a test share of {share} takes {count} of {len(rows)} rows: none is left to train on"
        )
    from sklearn.model_selection import train_test_split

    _, test = train_test_split(rows, test_size=count, random_state=seed, stratify=classes)
    return sorted(test)


def _check_test_classes(classes: list[int], count: int) -> None:
    sizes = Counter(classes)
    alone = sum(1 for size in sizes.values() if size < 2)
    if alone or not len(sizes) <= count <= len(classes) - len(sizes):
        raise UsageError(
            f"a stratified test part of {count} of {len(classes)} rows needs at least one row of each of the "
            f"{len(sizes)} classes on both sides; {alone} classes have a single row",
            hint="change the test share, merge rare classes, or use folds: {kfold: ...}",
        )


def _take_groups(
    rows: list[int], classes: list[int] | None, groups: list[int], share: float, seed: int
) -> list[int]:
    """Return the rows of shuffled groups, each taken where it brings the class counts nearer to *share*."""
    import numpy as np

    counts = np.zeros((max(groups) + 1, max(classes or [0]) + 1))
    np.add.at(counts, (groups, classes or [0] * len(rows)), 1)
    target = share * counts.sum(axis=0)
    taken = np.zeros_like(target)
    chosen: set[int] = set()
    for group in np.random.RandomState(seed).permutation(len(counts)):
        if np.sum((taken + counts[group] - target) ** 2) < np.sum((taken - target) ** 2):
            taken += counts[group]
            chosen.add(int(group))
    if not chosen:
        chosen.add(int(np.argmin(np.sum((counts - target) ** 2, axis=1))))
    return [row for row in rows if groups[row] in chosen]


def _check_enough(
    table: Table, rows: list[int], classes: list[int] | None, groups: list[int] | None, n: int
) -> None:
    """Check that *n* folds can be made of *rows*; each class and each unit must be there n times."""
    units = rows if groups is None else sorted({groups[row] for row in rows})
    word = "rows" if groups is None else "groups"
    left = " after the test part was taken" if len(rows) < len(table.ids) else ""
    if len(units) < n:
        message = f"{n} folds need at least {n} {word}; there are {len(units)}{left}"
        raise UsageError(message, hint=f"use at most {len(units)} folds, or add data")
    if classes is None or table.labels is None:
        return
    members = {(classes[row], row if groups is None else groups[row]) for row in rows}
    sizes = Counter(code for code, _ in members)
    for code, label in sorted({code: table.labels[row] for row, code in enumerate(classes)}.items()):
        if sizes[code] < n:
            found = f"{sizes[code]} {'members' if groups is None else 'groups'}"
            message = f"{n} stratified folds: class {label!r} has {found}{left}; expected at least {n}"
            raise UsageError(message, hint="use fewer folds, merge rare classes, or use folds: {kfold: ...}")


def _folds(
    rows: list[int], classes: list[int] | None, groups: list[int] | None, n: int, seed: int
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    import numpy as np
    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    place = np.asarray(rows)
    labels = np.zeros_like(place) if classes is None else np.asarray(classes)[place]
    units = None if groups is None else np.asarray(groups)[place]
    kind = KFold if classes is None else StratifiedKFold
    if groups is not None:
        # Also for one class: it evens the sizes of the folds, which GroupKFold does only unshuffled.
        kind = StratifiedGroupKFold
    for train, val in kind(n, shuffle=True, random_state=seed).split(place, labels, units):
        yield tuple(place[np.sort(train)].tolist()), tuple(place[np.sort(val)].tolist())


def _check_apart(
    column: Sequence[Any], what: str, where: str, one: Sequence[int], other: Sequence[int]
) -> None:
    both = {column[row] for row in one} & {column[row] for row in other}
    if both:
        example = min(both, key=repr)
        message = f"{where} share {len(both)} {what}{'s' if len(both) > 1 else ''}, for example {example!r}"
        raise UsageError(message, hint="make the split again with `plan`; a split file must not be edited")
