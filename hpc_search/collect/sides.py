"""The sides of the folds as they were planned: how many rows, which samples, which groups."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from typing import Final

import msgspec

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.records.splits import FoldRecord, SplitsIndex
from hpc_search.stats import FoldSizes

SIDES: Final = ("train", "val", "test")
Id = str | int


def read_splits(layout: Layout) -> SplitsIndex | None:
    """Return what the plan says about its folds, None where there is nothing that can be read."""
    try:
        return msgspec.json.decode(durable.read_bytes(layout.splits_index), type=SplitsIndex)
    except (OSError, msgspec.DecodeError):
        return None


def sizes_of(splits: SplitsIndex | None) -> dict[int | None, FoldSizes]:
    """Return fold -> how many rows it trains on and validates on."""
    if splits is None:
        return {}
    rows = {fold.number: [rows_of(splits, fold, side) or 0 for side in SIDES[:2]] for fold in splits.folds}
    return {number: FoldSizes(*sizes) for number, sizes in rows.items()}


def rows_of(splits: SplitsIndex, fold: FoldRecord, side: str) -> int | None:
    """Return how many rows a *side* of *fold* has, None where it has no such side."""
    manifest = splits.files.get(fold.sides.get(side, ""))
    return None if manifest is None else manifest.rows


class Sides:
    """The validation sides of the folds, and the group of each sample."""

    def __init__(self, layout: Layout, splits: SplitsIndex | None) -> None:
        self._layout = layout
        self._splits = splits
        self._read: dict[int, frozenset[Id] | None] = {}
        self.groups: dict[Id, str] | None = None

    def val(self, fold: int | None) -> frozenset[Id] | None:
        """Return the ids that *fold* validates on, None where that is not known."""
        if fold is None or self._splits is None:
            return None
        if fold not in self._read:
            self._read[fold] = None
            with suppress(OSError, ValueError, csv.Error):
                self._read[fold] = self._take(fold, self._splits)
        return self._read[fold]

    def _take(self, fold: int, splits: SplitsIndex) -> frozenset[Id]:
        text = durable.read_bytes(self._layout.split_manifest(fold, "val")).decode()
        kind: type[int | str] = int if splits.ids == "int" else str
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(rows, [])
        group = header.index("group") if "group" in header else 0
        pairs = [(kind(row[0]), row[group]) for row in rows]
        if group:
            self.groups = {**(self.groups or {}), **dict(pairs)}
        return frozenset(one for one, _ in pairs)
