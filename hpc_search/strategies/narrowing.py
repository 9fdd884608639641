"""Bounds from the best points of an earlier stage. Pure.

Of k points that lie evenly in an interval, the largest and the smallest are (k - 1) / (k + 1) of it apart:
the interval that the best k come from is wider than they are by span / (k - 1) at each end. So a range
becomes that of the best values, widened by this, by a fortieth of the parent at least, clipped to the
parent; by the logarithm where the parent is logarithmic; integers and steps go outwards to the next one. A
normal distribution is cut to the range.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any, Final, NamedTuple

from msgspec import structs

from hpc_search.space import (
    Choice,
    Dimension,
    Int,
    LogInt,
    LogUniform,
    Normal,
    Prior,
    Quantized,
    Space,
    Uniform,
    canonical,
)
from hpc_search.space.dimensions import CONTINUOUS
from hpc_search.strategies.pareto import best_first
from hpc_search.strategies.random import drawn

#: Fewer points tell no width.
LEAST: Final = 2
#: A range is widened at each end by this share of its parent at least: equal values are no proof.
_PAD: Final = 1 / 40
#: Draws of which one has to be a point.
_DRAWS: Final = 1000
#: Bounds have so many digits, rounded outwards: to be read, and the same on every machine.
_DIGITS: Final = 6

Group = dict[str, tuple[Any, ...]]


class Scored(NamedTuple):
    """A complete point: its number, parameters, and the mean of each objective."""

    point: int
    params: dict[str, Any]
    values: tuple[float, ...]


class Narrowed(NamedTuple):
    """A space that was derived, and in words how."""

    space: Space
    why: str


def best(scored: Iterable[Scored], goals: Sequence[str]) -> list[Scored]:
    """Return the points, best first: by value; of several objectives by front, then the least crowded.

    Equal ones stand in the order of their numbers, whatever the order of *scored*.
    """
    points = sorted(scored)
    return [points[place] for place in best_first([one.values for one in points], goals)]


def quantile(count: int, top: float) -> int:
    """Return how many of *count* points are the best share *top*: at least LEAST, where there are so many."""
    return min(count, max(LEAST, math.ceil(Decimal(repr(top)) * count)))


def narrow(parent: Space, searched: Space, top: Sequence[Mapping[str, Any]], budget: int) -> Narrowed:
    """Return *parent* with the bounds of the *top* points, which come from the space *searched*.

    A parameter keeps its parent's range where the earlier stage did not vary it, or where it is active in
    fewer than LEAST of them. Where fewer points than the *budget* would be left, parameters get theirs
    back, the least narrowed first, until there are enough.
    """
    varied = {*searched.searched}
    dimensions: dict[str, Dimension] = {}
    for name, dimension in parent.dimensions.items():
        values = [point[name] for point in top if name in point] if name in varied else []
        dimensions[name] = _dimension(dimension, values)
    groups = [_group(group, top) if group.keys() <= varied else group for group in parent.linked]
    return _relaxed(parent, dimensions, groups, budget)


# -- one dimension
def _dimension(parent: Dimension, values: Sequence[Any]) -> Dimension:
    inside = [value for value in values if _has(parent, value)]
    if len(inside) < LEAST:
        return parent
    match parent:
        case Choice():
            return _seen(parent, inside)
        case Int() | Quantized():
            return _steps(parent, [parent.digit(value) for value in inside])
        case LogInt():
            low, high = _log_widened(inside, parent.low, parent.high)
            low, high = max(parent.low, math.floor(low)), min(parent.high, math.ceil(high))
        case Normal(mean=mean, sd=sd):
            pad = max((max(inside) - min(inside)) / (len(inside) - 1), sd * _PAD)
            low, high = _outwards(min(inside) - pad, max(inside) + pad)
            return Uniform(low, high, _prior(Prior(mean, sd), low, high))
        case Uniform():
            low, high = _widened(min(inside), max(inside), len(inside), parent.low, parent.high)
            low, high = _within(parent, *_outwards(low, high))
        case LogUniform():
            low, high = _log_widened(inside, parent.low, parent.high)
            low, high = _within(parent, *_outwards(low, high))
    return structs.replace(parent, low=low, high=high, prior=_prior(parent.prior, low, high))


def _within(parent: Uniform | LogUniform, low: float, high: float) -> tuple[float, float]:
    return max(parent.low, low), min(parent.high, high)


def _prior(parent: Prior | None, low: float, high: float) -> Prior | None:
    """Return *parent* for the range from *low* to *high*: at its end, where the best was thought outside."""
    return None if parent is None else Prior(min(max(parent.at, low), high), parent.sd)


def _has(dimension: Dimension, value: Any) -> bool:
    """Return whether *value* is one of *dimension*: points that a user gave need not be."""
    if isinstance(dimension, CONTINUOUS):
        return dimension.has(value)
    try:
        dimension.digit(value)
    except ValueError:
        return False
    return True


def _seen(parent: Choice, values: Iterable[Any]) -> Choice:
    seen = {canonical(value) for value in values}
    places = [place for place, value in enumerate(parent.values) if canonical(value) in seen]
    weights = [parent.weights[place] for place in places] if parent.weights else ()
    return Choice(tuple(parent.values[place] for place in places), tuple(weights))


def _steps(parent: Int | Quantized, digits: Sequence[int]) -> Int | Quantized:
    """Return *parent* from one of its values to another, widened to whole steps."""
    last = parent.count() - 1
    low, high = _widened(min(digits), max(digits), len(digits), 0, last)
    first, last = math.floor(low), math.ceil(high)
    # A range of one value has no room: the neighbour above, or below, stays in.
    last = max(last, min(first + 1, parent.count() - 1))
    first = min(first, max(last - 1, 0))
    ends = parent.value(first), parent.value(last)
    return structs.replace(parent, low=ends[0], high=ends[1], prior=_prior(parent.prior, *ends))


def _widened(least: float, most: float, count: int, low: float, high: float) -> tuple[float, float]:
    """Return [*least*, *most*] of *count* values widened at both ends, clipped to [*low*, *high*]."""
    pad = max((most - least) / (count - 1), (high - low) * _PAD)
    return max(low, least - pad), min(high, most + pad)


def _log_widened(values: Sequence[float], low: float, high: float) -> tuple[float, float]:
    ends = _widened(math.log(min(values)), math.log(max(values)), len(values), math.log(low), math.log(high))
    # The best values stay inside, however exp rounds.
    return min(math.exp(ends[0]), *values), max(math.exp(ends[1]), *values)


def _outwards(low: float, high: float) -> tuple[float, float]:
    down, up = Context(prec=_DIGITS, rounding=ROUND_FLOOR), Context(prec=_DIGITS, rounding=ROUND_CEILING)
    return float(down.create_decimal_from_float(low)), float(up.create_decimal_from_float(high))


def _group(parent: Group, top: Sequence[Mapping[str, Any]]) -> Group:
    """Return the rows of linked lists that the *top* points have."""
    active = [point for point in top if all(name in point for name in parent)]
    seen = {canonical([point[name] for name in parent]) for point in active}
    rows = [row for row in zip(*parent.values(), strict=True) if canonical(list(row)) in seen]
    if len(active) < LEAST or not rows:
        return parent
    return dict(zip(parent, map(tuple, zip(*rows, strict=True)), strict=True))


# -- enough points
def _relaxed(parent: Space, dimensions: dict[str, Dimension], groups: list[Group], budget: int) -> Narrowed:
    """Return the narrowed space, with as many parts as their parents have as it needs for *budget* points."""
    shares: dict[str | int, float] = {
        name: _share(parent.dimensions[name], one) for name, one in dimensions.items()
    }
    shares.update((place, _rows(one) / _rows(parent.linked[place])) for place, one in enumerate(groups))
    order = sorted((key for key, share in shares.items() if share < 1), key=shares.__getitem__)
    relaxed: list[str] = []
    while True:
        space = structs.replace(parent, dimensions=dict(dimensions), linked=tuple(groups))
        back = _too_much(parent, space) if space.size() is None else _next(space, order, budget)
        if not back:
            return Narrowed(space, _words(parent, space, relaxed, budget))
        for key in back:
            if isinstance(key, int):
                groups[key] = parent.linked[key]
                relaxed.append(" + ".join(groups[key]))
            else:
                dimensions[key] = parent.dimensions[key]
                relaxed.append(key)


def _next(space: Space, order: list[str | int], budget: int) -> list[str | int]:
    """Return what gets its parent back next where the finite *space* has fewer than *budget* points."""
    return [order.pop()] if order and (space.size() or 0) < budget else []


def _too_much(parent: Space, space: Space) -> list[str | int]:
    """Return what of *parent* was narrowed and is in a rule, where the rules allow hardly a point of *space*.

    What a stage holds fixed can make the best points of another one impossible.
    """
    ruled = space.ruled
    if ruled is None or any(isinstance(drawn(space, 0, draw), dict) for draw in range(_DRAWS)):
        return []
    steps = (*ruled.logic.decisions, *ruled.logic.constraints)
    names = {name for step in steps for name in ruled.logic.inputs([*step.needs, step.target])}
    found: list[str | int] = [
        name
        for name, dimension in parent.dimensions.items()
        if name in names and space.dimensions[name] != dimension
    ]
    linked = enumerate(zip(parent.linked, space.linked, strict=True))
    return found + [place for place, (one, now) in linked if one != now and not names.isdisjoint(one)]


def _share(parent: Dimension, narrowed: Dimension) -> float:
    """Return how much of *parent* is left, 1 where it has no number of values."""
    if isinstance(parent, CONTINUOUS) or isinstance(narrowed, CONTINUOUS):
        return 1.0
    return narrowed.count() / parent.count()


def _rows(group: Group) -> int:
    return len(next(iter(group.values())))


# -- in words
def _words(parent: Space, space: Space, relaxed: Sequence[str], budget: int) -> str:
    parts = [
        f"{name} {shown(before)} -> {shown(space.dimensions[name])}"
        for name, before in parent.dimensions.items()
        if space.dimensions[name] != before
    ]
    parts += [
        f"{' + '.join(before)} {_rows(before)} -> {_rows(after)} linked values"
        for before, after in zip(parent.linked, space.linked, strict=True)
        if before != after
    ]
    text = "; ".join(parts) or "no parameter was narrowed"
    if relaxed:
        text += f"; {', '.join(relaxed)} not narrowed: fewer than {budget:,} points would be left"
    return text


def shown(dimension: Dimension) -> str:
    """Return a dimension in a few words."""
    if isinstance(dimension, Choice):
        return f"[{', '.join(map(str, dimension.values))}]"
    if isinstance(dimension, Normal):
        return f"normal around {dimension.mean:g}, sd {dimension.sd:g}"
    return f"[{dimension.low:g}, {dimension.high:g}]"
