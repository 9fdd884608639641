"""Statistics of points from the values of their trials; pure.

A point is complete when every one of its trials (folds x seeds) is done with a finite value. Only
complete points compete; a failed or pruned trial never becomes a number.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from operator import attrgetter
from typing import Literal, NamedTuple

import msgspec

Goal = Literal["max", "min"]


class Row(msgspec.Struct, gc=False):
    """One finished trial. ``value`` is the selection metric, None unless the trial is done."""

    trial: int
    point: int
    fold: int | None
    seed: int
    state: str
    cause: str = ""
    value: float | None = None


class FoldValue(NamedTuple):
    """The selection metric of one trial of a point."""

    fold: int | None
    seed: int
    value: float


class PointScore(msgspec.Struct, gc=False):
    """One point with a finished trial.

    ``rows`` are its finished trials by number. ``mean`` and ``sd`` (n - 1 in the denominator, None
    below two values) are of the ``n`` values there are, of ``expected``. ``reasons`` counts why values
    are missing: "failed(oom)", "pruned", "no value", "not finished". Ranks start at 1; incomplete points
    stand below every complete one.
    """

    point: int
    complete: bool
    n: int
    expected: int
    mean: float | None
    sd: float | None
    rows: list[Row]
    reasons: dict[str, int]
    rank: int = 0

    @property
    def values(self) -> tuple[FoldValue, ...]:
        """The values in the order of the trials' numbers."""
        return tuple(
            FoldValue(row.fold, row.seed, row.value)
            for row in self.rows
            if row.value is not None and (self.complete or not _reason(row))
        )


def mean(values: Sequence[float]) -> float:
    """Return the mean of *values*, rounded once from the exact sum; their order does not matter."""
    if len(values) == 1:
        return values[0]
    try:
        middle = math.fsum(values) / len(values)
    except OverflowError:
        middle = math.fsum(value / len(values) for value in values)
    return min(max(middle, min(values)), max(values))


def sample_sd(values: Sequence[float], middle: float | None = None) -> float | None:
    """Return the sample standard deviation (n - 1 in the denominator), None below two values.

    *middle* is their mean, where the caller has it.
    """
    if len(values) < 2:
        return None
    middle = mean(values) if middle is None else middle
    spread = math.hypot(*sorted([value - middle for value in values]))
    if math.isinf(spread):
        # Deviations of values near the largest float overflow; quarters of them do not.
        spread = math.hypot(*sorted(value / 4 - middle / 4 for value in values)) * 4
    return spread / math.sqrt(len(values) - 1)


def rank_points(rows: Iterable[Row], goal: Goal, expected: Callable[[int], int]) -> list[PointScore]:
    """Return the points of *rows*, best first.

    Complete points come first, by mean (*goal* says which end is better), then by point number. The
    others follow by how many values they have, then likewise.

    Args:
        rows: Finished trials, each once, in any order.
        goal: "max" or "min".
        expected: The number of trials of a point (folds x seeds).
    """
    points: defaultdict[int, list[Row]] = defaultdict(list)
    # By trial number: fold-major, whatever the order of arrival.
    for row in sorted(rows, key=attrgetter("trial")):
        points[row.point].append(row)
    scores = [_score(point, points[point], expected(point)) for point in sorted(points)]
    # Stable sorts by one number each, the last key first: far quicker than one by tuples.
    scores.sort(key=lambda score: score.mean or 0.0, reverse=goal == "max")
    if not all(score.complete for score in scores):
        scores.sort(key=lambda score: -math.inf if score.complete else -score.n)
    for rank, score in enumerate(scores, start=1):
        score.rank = rank
    return scores


def _score(point: int, rows: list[Row], expected: int) -> PointScore:
    values = [
        row.value for row in rows if row.state == "done" and row.value is not None and isfinite(row.value)
    ]
    middle = mean(values) if values else None
    n = len(values)
    reasons = {} if n >= expected else _reasons(rows, expected)
    return PointScore(point, n >= expected, n, expected, middle, sample_sd(values, middle), rows, reasons)


def _reasons(rows: list[Row], expected: int) -> dict[str, int]:
    counts = Counter(reason for row in rows if (reason := _reason(row)))
    if len(rows) < expected:
        counts["not finished"] = expected - len(rows)
    return dict(sorted(counts.items()))


def _reason(row: Row) -> str:
    if row.state != "done":
        return f"{row.state}({row.cause})" if row.cause else row.state
    return "" if row.value is not None and math.isfinite(row.value) else "no value"
