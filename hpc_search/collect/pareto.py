"""The Pareto front of a search with several objectives: which complete points no other one beats. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple, cast

import msgspec

from hpc_search.collect.columns import Column
from hpc_search.collect.reading import Attempt
from hpc_search.records.search import Metric
from hpc_search.stats import PointScore, mean
from hpc_search.strategies import pareto


class ParetoPoint(msgspec.Struct, frozen=True):
    """A point of the front; ``means`` are over its ``n`` trials, by objective."""

    point: int
    params: dict[str, Any]
    means: dict[str, float]
    n: int


class Fronts(NamedTuple):
    """Of every complete point the mean of each of the ``objectives``, and its front (0: the Pareto front).

    Both are empty where there is one objective.
    """

    objectives: tuple[Metric, ...]
    means: dict[int, tuple[float, ...]]
    ranks: dict[int, int]

    @property
    def front(self) -> list[int]:
        """The points of the Pareto front, the best by the first objective first."""
        sign = -1 if self.objectives and self.objectives[0].goal == "max" else 1
        points = [point for point, rank in self.ranks.items() if rank == 0]
        return sorted(points, key=lambda point: (sign * self.means[point][0], point))

    def named(self, point: int) -> dict[str, float]:
        """Return the means of *point* by objective."""
        return {one.name: value for one, value in zip(self.objectives, self.means[point], strict=True)}


def fronts(scores: Sequence[PointScore], objectives: tuple[Metric, ...]) -> Fronts:
    """Return the fronts of the complete points of *scores*."""
    if len(objectives) < 2:
        return Fronts((), {}, {})
    means = {}
    for score in scores:
        rows = [cast("Attempt", row).metrics or {} for row in score.rows]
        if score.complete and all(one.name in row for row in rows for one in objectives):
            means[score.point] = tuple(mean([row[one.name] for row in rows]) for one in objectives)
    ranks = pareto.ranks([*means.values()], [one.goal for one in objectives])
    return Fronts(objectives, means, dict(zip(means, ranks, strict=True)))


def settled(scores: list[PointScore], objectives: tuple[Metric, ...]) -> list[PointScore]:
    """Return *scores*, best first by the first objective; of equal ones those of a better front come first.

    So the best point is one of the Pareto front.
    """
    ranks = fronts(scores, objectives).ranks
    if not ranks:
        return scores
    equal = groupby(scores, key=lambda score: (score.complete, score.mean))
    found = [
        one for _, same in equal for one in sorted(same, key=lambda score: ranks.get(score.point, len(ranks)))
    ]
    for rank, score in enumerate(found, start=1):
        score.rank = rank
    return found


def rank_column(found: Fronts, points: Sequence[int]) -> list[Column]:
    """Return the column ``pareto`` of rows about *points*; none where there is one objective."""
    if not found.objectives:
        return []
    return [Column("pareto", [found.ranks.get(point) for point in points], kind="int")]


def mean_columns(found: Fronts, points: Sequence[int]) -> list[Column]:
    """Return a column ``mean_NAME`` for each objective, of rows about *points*."""
    nothing = (None,) * len(found.objectives)
    rows = [found.means.get(point, nothing) for point in points]
    return [
        Column(f"mean_{one.name}", [row[place] for row in rows], kind="float")
        for place, one in enumerate(found.objectives)
    ]
