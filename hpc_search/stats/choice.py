"""Which point is chosen from the complete ones; pure, without NumPy, so that workers can choose too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from hpc_search.stats.figures import FoldSizes
from hpc_search.stats.points import FoldValue, Goal, PointScore, mean, sample_sd


class Chosen(Struct, frozen=True):
    """The chosen point.

    Attributes:
        best: The best point.
        within: The points within one standard error of the best one, best first; the choice is among them.
        error: The standard error of the best one.
        order: All complete points, the simplest first; empty where the best one is chosen.
    """

    point: int
    best: int
    within: tuple[int, ...]
    error: float | None
    order: tuple[int, ...] = ()


def unit_values(values: Sequence[FoldValue]) -> list[float]:
    """Return one value a fold, the mean over its seeds; without several folds, one value a seed."""
    folds = {value.fold for value in values}
    if len(folds) < 2:
        return [value.value for value in sorted(values, key=lambda value: value.seed)]
    by_fold: dict[int | None, list[float]] = {}
    for value in values:
        by_fold.setdefault(value.fold, []).append(value.value)
    return [mean(by_fold[fold]) for fold in sorted(by_fold, key=lambda fold: -1 if fold is None else fold)]


def standard_error(units: Sequence[float], ratio: float = 0.0) -> float | None:
    """Return the standard error of the mean of *units*, None below two.

    The variance of one unit is multiplied by 1/J + *ratio*, where *ratio* is the size of the validation
    side over that of the training side, 0 for independent repeats (Nadeau and Bengio 2003, section 3,
    the corrected resampled t-test).
    """
    sd = sample_sd(units)
    return None if sd is None else sd * math.sqrt(1 / len(units) + ratio)


def size_ratio(sizes: Iterable[FoldSizes]) -> float:
    """Return the size of the validation sides over that of the training sides, 0 where there are none."""
    known = list(sizes)
    train = sum(size.train for size in known)
    return sum(size.val for size in known) / train if train else 0.0


def choose(
    scores: Sequence[PointScore],
    goal: Goal,
    *,
    simpler: Sequence[str] = (),
    params: Mapping[int, Mapping[str, Any]] | None = None,
    orders: Mapping[str, Sequence[Any]] | None = None,
    ratio: float = 0.0,
) -> Chosen | None:
    """Return the choice from *scores* (best first, as `rank_points` gives them), None without a complete one.

    Without *simpler* it is the best one. With it, the simplest of the points whose mean is within one
    standard error of the best one's (Breiman et al. 1984, section 3.4.3), ties to the better one.

    Args:
        scores: Points; incomplete ones are left out.
        goal: "max" or "min".
        simpler: Parameters, the most important first, whose lower value is simpler; "-name" means the
            higher one.
        params: The parameters of each point. A parameter that a point does not have is simplest.
        orders: For parameters that are not numbers, their values, the simplest first.
        ratio: See `standard_error`.
    """
    complete = [score for score in scores if score.complete and score.mean is not None]
    if not complete:
        return None
    best = complete[0]
    values = best.values
    folds = len({value.fold for value in values}) > 1
    error = standard_error(unit_values(values), ratio if folds else 0.0)
    if not simpler or best.mean is None:
        return Chosen(best.point, best.point, (best.point,), error)
    sign = 1 if goal == "max" else -1
    within = [
        score
        for score in complete
        if score.mean is not None and sign * (best.mean - score.mean) <= (error or 0.0)
    ]
    known, listed = params or {}, orders or {}
    order = sorted(complete, key=lambda score: _complexity(known.get(score.point, {}), simpler, listed))
    points = tuple(score.point for score in within)
    simplest = next(score.point for score in order if score.point in points)
    return Chosen(simplest, best.point, points, error, tuple(score.point for score in order))


def _complexity(
    params: Mapping[str, Any], simpler: Sequence[str], orders: Mapping[str, Sequence[Any]]
) -> tuple[float, ...]:
    """Return what is smaller for a simpler point."""
    key = []
    for entry in simpler:
        name = entry.removeprefix("-")
        value = params.get(name)
        order = list(orders.get(name, ()))
        if value is None and None not in order:
            key.append(-math.inf)
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        place = float(value) if number and value is not None else _place(value, order)
        key.append(-place if entry.startswith("-") else place)
    return tuple(key)


def _place(value: object, order: Sequence[Any]) -> float:
    """Return the place of *value* in *order*; False before True, and unknown values last."""
    places = [place for place, other in enumerate(order) if other is value or other == value]
    if places:
        return float(places[0])
    return float(value) if isinstance(value, bool) else math.inf
