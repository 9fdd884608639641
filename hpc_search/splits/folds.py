"""Folds: which rows of the table one trains on, validates on and is tested on."""

from __future__ import annotations

from dataclasses import dataclass


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

    @property
    def sides(self) -> dict[str, tuple[int, ...]]:
        """Its rows by side; without ``test`` where it has none."""
        sides = {"train": self.train, "val": self.val}
        return {**sides, "test": self.test} if self.test else sides


@dataclass(frozen=True, slots=True)
class Split:
    """The folds, by number."""

    folds: tuple[Fold, ...]

    @property
    def test(self) -> tuple[int, ...]:
        """The rows of the test part that all folds share, () where each has its own, or none."""
        first = self.folds[0].test
        return first if all(fold.test == first for fold in self.folds) else ()

    def left_out(self, rows: int) -> tuple[int, ...]:
        """Return which of the table's *rows* are on no side of any fold."""
        used = {row for fold in self.folds for side in fold.sides.values() for row in side}
        return tuple(row for row in range(rows) if row not in used)
