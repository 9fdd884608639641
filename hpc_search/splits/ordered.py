"""Folds over time: train on what was, validate on what came after it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from hpc_search.errors import UsageError
from hpc_search.splits.shuffled import Pair
from hpc_search.splits.table import Table
from hpc_search.splits.words import listed, shown


class Timeline:
    """Rows by time, and the places between them where they may be cut.

    Rows of one time are not cut apart, nor is the time from the first row of a group to its last one.
    """

    def __init__(self, table: Table, rows: Sequence[int] | None = None) -> None:
        """Sort *rows* of *table*, all of them unless they are said.

        Raises:
            UsageError: A time is no number or date.
        """
        times = _numbers(table)
        self.table = table
        self.rows = sorted(range(len(times)) if rows is None else rows, key=times.__getitem__)
        self.cuts = _cuts([times[row] for row in self.rows], [_group(table, row) for row in self.rows])

    def newest(self, share: float, n: int) -> list[int]:
        """Return about *share* of the rows, the newest; at least *n* + 1 stretches are left.

        Raises:
            UsageError: There are too few stretches.
        """
        if share == 0.0:
            return []
        self._need(n + 2, f"{n} folds over time and a test part")
        count = max(1, round(share * len(self.rows)))
        at = self._snap(len(self.rows) - count, n + 1, len(self.cuts) - 1)
        return self.rows[self.cuts[at] :]

    def folds(self, n: int, gap: int, words: str = "folds") -> Iterator[Pair]:
        """Return *n* folds: each validates on the stretch after its training rows, *gap* rows between.

        Raises:
            UsageError: There are too few stretches, or the gap leaves nothing to train on.
        """
        self._need(n + 1, f"{n} {words} over time")
        from sklearn.model_selection import TimeSeriesSplit

        starts = [int(val[0]) for _, val in TimeSeriesSplit(n).split(self.rows)]
        ends: list[int] = []
        for fold, start in enumerate(starts):
            first = ends[-1] + 1 if ends else 1
            ends.append(self._snap(start, first, len(self.cuts) - n + fold))
        places = [*(self.cuts[end] for end in ends), len(self.rows)]
        if places[0] <= gap:
            message = f"a gap of {gap} rows leaves the first of {n} {words} nothing to train on"
            raise UsageError(
                f"{message}: {places[0]} rows come before its validation rows",
                hint=f"use a gap below {places[0]}, or fewer folds",
            )
        for start, end in pairwise(places):
            yield tuple(sorted(self.rows[: start - gap])), tuple(sorted(self.rows[start:end]))

    def _snap(self, place: int, first: int, last: int) -> int:
        """Return the number of the cut nearest to *place*, among those from *first* to *last*."""
        return min(range(first, last + 1), key=lambda cut: abs(self.cuts[cut] - place))

    def _need(self, stretches: int, words: str) -> None:
        if len(self.cuts) >= stretches:
            return
        what = "different times" if self.table.groups is None else "stretches of time that no group spans"
        raise UsageError(
            f"{words} need at least {stretches} {what}; there {'is' if len(self.cuts) == 1 else 'are'} "
            f"{len(self.cuts)}",
            hint="use fewer folds, finer times, or groups that do not span the time of others",
        )


def _cuts(times: Sequence[Any], groups: Sequence[object]) -> list[int]:
    """Return the places (of sorted rows) that begin a stretch: no time and no group is on both sides."""
    last = {group: place for place, group in enumerate(groups) if group is not None}
    cuts, end = [], -1
    for place, (time, group) in enumerate(zip(times, groups, strict=True)):
        if place > end and (place == 0 or time != times[place - 1]):
            cuts.append(place)
        end = max(end, last.get(group, place))
    return cuts


def _group(table: Table, row: int) -> object:
    return None if table.groups is None else table.groups[row]


def _numbers(table: Table) -> Sequence[Any]:
    """Return the times as values that can be sorted: numbers, or dates where they are texts.

    Texts are not sorted as texts: "10" comes after "9", and 31/12/2020 before 01/01/2021.
    """
    own = table.times or ()
    for read in (_number, _date):
        times = [read(value) for value in own]
        if None not in times and len({getattr(time, "tzinfo", None) is None for time in times}) == 1:
            return times
    bad = [row for row, value in enumerate(own) if _number(value) is None and _date(value) is None]
    words = listed([f"{shown(own[row])} in {table.place(row)} (id {shown(table.ids[row])})" for row in bad])
    mixed = "numbers and dates, or dates with and without a zone"
    raise UsageError(
        f"the times of {table.source} cannot be ordered: found {words or mixed}",
        hint="expected numbers, or dates such as 2026-11-30 or 2026-11-30T12:00",
        key="data.time",
    )


def _number(value: Any) -> float | None:
    if not isinstance(value, str):
        return value if math.isfinite(value) else None
    for kind in (int, float):
        try:
            number = kind(value)
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return None


def _date(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return None
