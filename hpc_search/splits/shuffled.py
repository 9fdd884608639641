"""Folds of shuffled rows or groups, and the test part that is taken before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hpc_search.errors import UsageError
from hpc_search.splits.columns import codes
from hpc_search.splits.table import Table
from hpc_search.splits.words import shown

#: A fold without number: the rows of train and of validation.
Pair = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Units:
    """What is dealt out: the classes of the rows where they are kept even, the groups where there are any."""

    table: Table
    kind: str
    classes: list[int] | None
    groups: list[int] | None

    @classmethod
    def of(cls, table: Table, kind: str) -> Units:
        """Return them for folds of *kind*; the table has the columns that those need."""
        labels = table.labels if kind.startswith("stratified") else None
        return cls(
            table,
            kind,
            None if labels is None else codes(labels),
            None if table.groups is None else codes(table.groups),
        )


def take_test(units: Units, rows: list[int], share: float, seed: int) -> list[int]:
    """Return the rows of a test part of *share*, whole groups where there are groups.

    Raises:
        UsageError: Nothing is left to train on, or a class cannot stand on both sides.
    """
    if share == 0.0:
        return []
    if units.groups is not None:
        return _take_groups(units, rows, share, seed)
    count = max(1, round(share * len(rows)))
    if units.classes is not None:
        _check_test_classes(units.classes, count)
    if count >= len(rows):
        raise UsageError(
            f"a test share of {share} takes {count} of {len(rows)} rows: none is left to train on",
            hint="make test_share smaller, or add data",
        )
    from sklearn.model_selection import train_test_split

    _, test = train_test_split(rows, test_size=count, random_state=seed, stratify=units.classes)
    return sorted(test)


def deal(units: Units, rows: list[int], n: int, seed: int, words: str = "folds") -> Iterator[Pair]:
    """Return *n* folds of *rows*, each of which is validated on once; *words* name the folds in errors.

    Raises:
        UsageError: There are too few rows, groups or members of a class.
    """
    check_enough(units, rows, n, words)
    import numpy as np
    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    place = np.asarray(rows)
    labels = np.zeros_like(place) if units.classes is None else np.asarray(units.classes)[place]
    groups = None if units.groups is None else np.asarray(units.groups)[place]
    splitter = KFold if units.classes is None else StratifiedKFold
    if groups is not None:
        # Also for one class: it evens the sizes of the folds, which GroupKFold does only unshuffled.
        splitter = StratifiedGroupKFold
    yield from _pairs(place, splitter(n, shuffle=True, random_state=seed).split(place, labels, groups))


def leave_one_out(units: Units, rows: list[int]) -> Iterator[Pair]:
    """Return a fold a group, in the order of their first rows.

    Raises:
        UsageError: There are fewer than two groups.
    """
    check_enough(units, rows, 2)
    import numpy as np
    from sklearn.model_selection import LeaveOneGroupOut

    place = np.asarray(rows)
    yield from _pairs(place, LeaveOneGroupOut().split(place, None, np.asarray(units.groups)[place]))


def check_repeats(units: Units, rows: list[int], n: int, repeats: int) -> None:
    """Check that *repeats* of *n* folds of *rows* are not the same ones each time.

    Raises:
        UsageError: Each fold leaves out one row or group, so that no seed can change them.
    """
    groups = units.groups
    found = len(rows) if groups is None else len({groups[row] for row in rows})
    if repeats > 1 and found == n:
        word = "row" if groups is None else "group"
        raise UsageError(
            f"{n} folds of {n} {word}s leave out one {word} each: all {repeats:,} repeats would be the same",
            hint="leave repeats out, or use fewer folds",
            key="folds.repeats",
        )


def _pairs(place: Any, parts: Iterable[tuple[Any, Any]]) -> Iterator[Pair]:
    import numpy as np

    for train, val in parts:
        yield tuple(place[np.sort(train)].tolist()), tuple(place[np.sort(val)].tolist())


def _check_test_classes(classes: Sequence[int], count: int) -> None:
    sizes = Counter(classes)
    alone = sum(1 for size in sizes.values() if size < 2)
    if alone or not len(sizes) <= count <= len(classes) - len(sizes):
        raise UsageError(
            f"a stratified test part of {count} of {len(classes)} rows needs at least one row of each of the "
            f"{len(sizes)} classes on both sides; {alone} classes have a single row",
            hint="change the test share, merge rare classes, or use folds: {kfold: ...}",
        )


def _take_groups(units: Units, rows: list[int], share: float, seed: int) -> list[int]:
    """Return the rows of shuffled groups, each taken where it brings the class counts nearer to *share*."""
    import numpy as np

    groups, classes = units.groups or [], units.classes
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


def check_enough(units: Units, rows: list[int], n: int, words: str = "folds") -> None:
    """Check that *n* folds can be made of *rows*; each class and each unit must be there n times.

    Raises:
        UsageError: They cannot.
    """
    table, classes, groups = units.table, units.classes, units.groups
    found = len(rows) if groups is None else len({groups[row] for row in rows})
    total = len(table.ids) if groups is None else len(set(groups))
    word = "row" if groups is None else "group"
    beside = " beside the test part" if len(rows) < len(table.ids) else ""
    if found < n:
        there = f"there {'is' if found == 1 else 'are'} {found}"
        left = f"{found or 'none'} of {total} {'is' if found < 2 else 'are'} left{beside}"
        message = f"{n} {words} need at least {n} {word}s; {left if beside else there}"
        fewer = f"use at most {found} {words}, or " if found > 1 else ""
        raise UsageError(message, hint=f"{fewer}add data: {n} {word}s at least")
    if classes is None or table.labels is None:
        return
    members = {(classes[row], row if groups is None else groups[row]) for row in rows}
    sizes = Counter(code for code, _ in members)
    labels = {code: table.labels[row] for row, code in reversed(list(enumerate(classes)))}
    unit = "member" if groups is None else "group"
    rare = [
        f"class {shown(labels[code])} has {sizes[code]} {unit}{'s' * (sizes[code] != 1)}"
        for code in sorted(labels)
        if sizes[code] < n
    ]
    if rare:
        message = f"{n} stratified {words}: {_joined(rare)}{beside}; expected at least {n}"
        raise UsageError(message, hint="use fewer folds, merge rare classes, or use folds: {kfold: ...}")


def _joined(rare: list[str]) -> str:
    more = f" and {len(rare) - 10} more classes have fewer" if len(rare) > 10 else ""
    return ", ".join(rare[:10]) + more
