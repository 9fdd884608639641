"""Which points lose clearly before all of their folds are done: pure, and replayable from what is recorded.

A value of point p in fold j is taken as ``mu_p + f_j + e_pj``. What is asked is who will be better over all K
folds, given those that both have; so what is uncertain is only what the other folds will say. With s2 the
variance of a paired difference, the difference of the means over j folds misses that over all K by
``s2 (1/j - 1/K)``. s2 is twice the residual variance of the table of all points in these folds, or the
pair's own where that is larger. A point is out where its difference to a better one, in deviations, is
beyond Dunnett's quantile for all points; the error is spent over the looks in proportion to the folds that
are saved.
"""

from __future__ import annotations

import heapq
import math
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import fmean
from typing import Any, Final, NamedTuple

from hpc_search.records import journal
from hpc_search.strategies.history import ranges

#: The rule's name in records.
RACE: Final = "race"
#: Degrees of freedom below which nothing is decided: two points in two folds say nothing of their noise.
_LEAST_FREEDOM: Final = 2
#: From here on degrees of freedom are rounded down to tens, up to the last.
_COARSE: Final = (20, 120)
#: Deviations are no smaller than this share of the values: rounding is no noise.
_ROUNDING: Final = 1e-12
#: What is computed again may differ by this share (another SciPy).
_REPLAYED: Final = 1e-6


class Rules(NamedTuple):
    """How a race is run: over how many folds, against how many points, with which error.

    ``least`` folds are run of every point. ``keep`` points have to remain, for a later stage takes so many.
    With ``near`` a point has to lose by more than the standard error of the better one, for who is that near
    may be chosen: it is the size of the validation sides over that of the training sides
    (`stats.standard_error`).
    """

    goal: str
    folds: int
    points: int
    error: float
    least: int = 2
    keep: int = 1
    near: float | None = None


class Loss(NamedTuple):
    """A point that is out: against which one, in which folds, and what that follows from.

    ``own`` and ``other`` are the values of both by fold; ``spread`` is the residual variance of the table.
    """

    point: int
    against: int
    folds: tuple[int, ...]
    own: tuple[float, ...]
    other: tuple[float, ...]
    spread: float
    freedom: int
    margin: float
    statistic: float
    threshold: float


class Pool(NamedTuple):
    """The residual variance of the points that have some folds, and its degrees of freedom."""

    spread: float
    freedom: int


@dataclass
class Race:
    """The points that compete, by what is known of them; decides of one point at a time.

    Which order the values came in does not matter. With more than 64 points, what is derived of all of them
    is up to a 64th of the points old.
    """

    rules: Rules
    _values: dict[int, dict[int, float]] = field(default_factory=dict)
    #: Points that can win, by the folds that they have.
    _able: defaultdict[frozenset[int], set[int]] = field(default_factory=lambda: defaultdict(set))
    _derived: dict[Any, Any] = field(default_factory=dict)
    _changes: int = 0

    def put(self, point: int, values: Mapping[int, float], *, able: bool = True) -> None:
        """Take what is known of *point*: the value of each fold that is done; whether it can still win.

        One that is out, failed or was pruned in a fold beats nobody; its values still say how large noise is.
        """
        before = frozenset(self._values.get(point, ()))
        if point in (known := self._able.get(before, set())):
            known.remove(point)
            if not known:
                del self._able[before]
        self._values[point] = dict(values)
        if able and values:
            self._able[frozenset(values)].add(point)
        self._changes += 1
        if self._changes > len(self._values) // 64:
            self._changes = 0
            self._derived.clear()

    def loss(self, point: int) -> Loss | None:
        """Return why *point* is out, None where it is not."""
        rules, own = self.rules, self._values.get(point, {})
        if not rules.least <= len(own) < rules.folds:
            return None
        found: list[Loss] = []
        for folds in self._able:
            shared = folds & own.keys()
            if len(shared) >= rules.least:
                found += self._lost(point, folds, tuple(sorted(shared)))
        if len(found) < rules.keep:
            return None
        return heapq.nsmallest(rules.keep, found, key=lambda one: (-one.statistic, one.against))[-1]

    def _lost(self, point: int, group: frozenset[int], folds: tuple[int, ...]) -> list[Loss]:
        """Return the losses of *point* to the best that have the folds *group*, by those that it shares."""
        spread, freedom = self._pool(folds)
        if freedom < _LEAST_FREEDOM:
            return []
        rules = self.rules
        own = _of(self._values[point], folds)
        limit = threshold(rules, len(folds), freedom)
        found = []
        for other in self._best(group, folds):
            values = _of(self._values[other], folds)
            margin = _margin(list(self._values[other].values()), rules)
            statistic = measured(rules, own, values, spread, margin).statistic
            if other != point and statistic > limit:
                found.append(
                    Loss(point, other, folds, own, values, spread, freedom, margin, statistic, limit)
                )
        return found

    def _pool(self, folds: tuple[int, ...]) -> Pool:
        if folds not in self._derived:
            needed = set(folds)
            rows = [
                _of(values, folds) for _, values in sorted(self._values.items()) if needed <= values.keys()
            ]
            self._derived[folds] = pooled(rows)
        found: Pool = self._derived[folds]
        return found

    def _best(self, group: frozenset[int], folds: tuple[int, ...]) -> list[int]:
        """Return the best points of *group* by the mean over *folds*: as many as could have to be beaten."""
        key = (group, folds)
        if key not in self._derived:
            sign = _sign(self.rules.goal)
            self._derived[key] = heapq.nsmallest(
                self.rules.keep + 1,
                self._able[group],
                key=lambda point: (-sign * fmean(_of(self._values[point], folds)), point),
            )
        found: list[int] = self._derived[key]
        return [point for point in found if point in self._able[group]]


def _of(values: Mapping[int, float], folds: Sequence[int]) -> tuple[float, ...]:
    return tuple(values[fold] for fold in folds)


def _sign(goal: str) -> int:
    return 1 if goal == "max" else -1


# -- the test
def pooled(rows: Sequence[Sequence[float]]) -> Pool:
    """Return the residual variance of *rows*, one a point, after the means of points and folds."""
    if len(rows) < 2:
        return Pool(0.0, 0)
    centred = [[value - fmean(row) for value in row] for row in rows]
    middles = [fmean(column) for column in zip(*centred, strict=True)]
    freedom = (len(rows) - 1) * (len(middles) - 1)
    squares = math.fsum(
        (value - middle) ** 2 for row in centred for value, middle in zip(row, middles, strict=True)
    )
    return Pool(squares / freedom if freedom else 0.0, freedom)


class Measured(NamedTuple):
    """By how much a point loses, with the deviation of what is not known yet, and their ratio."""

    difference: float
    deviation: float
    statistic: float


def measured(
    rules: Rules, own: Sequence[float], other: Sequence[float], spread: float, margin: float = 0.0
) -> Measured:
    """Return by how much *own* loses to *other*, fold by fold, beyond *margin*."""
    sign, count = _sign(rules.goal), len(own)
    pairs = [sign * (theirs - mine) for mine, theirs in zip(own, other, strict=True)]
    difference = fmean(pairs)
    of_pair = math.fsum((one - difference) ** 2 for one in pairs) / (count - 1) if count > 1 else 0.0
    left = max(0.0, 1 / count - 1 / rules.folds)
    size = max(abs(value) for value in (*own, *other))
    deviation = max(math.sqrt(max(2 * spread, of_pair) * left), _ROUNDING * size)
    return Measured(difference, deviation, (difference - margin) / deviation if deviation else 0.0)


def _margin(values: Sequence[float], rules: Rules) -> float:
    """Return the standard error that the mean of a point will have over all folds, judged by *values*."""
    if rules.near is None:
        return 0.0
    from hpc_search.stats import sample_sd

    return (sample_sd(values) or 0.0) * math.sqrt(1 / rules.folds + rules.near)


def share(rules: Rules, count: int) -> float:
    """Return the part of the error that is spent on the look after *count* folds, for each point kept.

    It is in proportion to the folds that a point which is out then saves.
    """
    whole = sum(rules.folds - looked for looked in range(rules.least, rules.folds))
    return rules.error * (rules.folds - count) / whole / rules.keep


def threshold(rules: Rules, count: int, freedom: int) -> float:
    """Return what the statistic after *count* folds has to exceed; *freedom* is that of the residuals."""
    coarse, most = _COARSE
    known = freedom if freedom <= coarse else min(freedom // 10 * 10, most)
    return _dunnett(max(1, rules.points - 1), known, share(rules, count))


@cache
def _dunnett(comparisons: int, freedom: int, error: float) -> float:
    """Return Dunnett's one-sided quantile: the best of so many means against one, all of equal variance.

    The integral over the shared mean and over the deviation (by its logarithm), both by sums over a grid,
    which are exact to many digits for such smooth functions. (SciPy would cost every worker a second.)
    """
    # Beyond these there is nothing of the deviation's distribution.
    low, high = -min(8.0, 1 + 30 / freedom), min(2.0, 5 / math.sqrt(freedom))
    logs = [low + (high - low) * step / 63 for step in range(64)]
    weights = [math.exp(freedom * (log - math.exp(2 * log) / 2 + 0.5)) for log in logs]
    scales = [(math.exp(log), weight / math.fsum(weights)) for log, weight in zip(logs, weights, strict=True)]
    means = [step / 6 for step in range(-50, 51)]
    density = [math.exp(-mean * mean / 2) for mean in means]
    whole = math.fsum(density)

    def below(quantile: float) -> float:
        """Return the probability that all means are below one that is *quantile* higher."""
        half = math.sqrt(0.5)
        chances = ((0.5 * math.erfc(-(mean + quantile) * half)) ** comparisons for mean in means)
        return math.fsum(map(operator.mul, density, chances)) / whole

    def beyond(quantile: float) -> float:
        return sum(weight * (1 - below(math.sqrt(2) * quantile * scale)) for scale, weight in scales) - error

    return _root(beyond)


def _root(falling: Callable[[float], float]) -> float:
    """Return where *falling* becomes 0, from 0 on (the Illinois method); 0 where it begins below."""
    low, high = 0.0, 4.0
    above, below = falling(low), falling(high)
    while below > 0:
        low, above, high = high, below, 2 * high
        below = falling(high)
    last = 0
    while above > 0 and high - low > 1e-9 * high:
        middle = (low * below - high * above) / (below - above)
        value = falling(middle)
        if abs(value) < 1e-15:
            return middle
        if value > 0:
            low, above, below, last = middle, value, below / 2 if last > 0 else below, 1
        else:
            high, below, above, last = middle, value, above / 2 if last < 0 else above, -1
    return (low + high) / 2 if above > 0 else 0.0


# -- records
def recorded(
    rules: Rules, loss: Loss, *, trial: int, attempt: int, peers: Mapping[int, float]
) -> journal.Verdict:
    """Return the record of *loss*, by which *trial* ends; *peers* is trial -> value of the better point."""
    return journal.Verdict(
        trial=trial,
        attempt=attempt,
        rung=-1,
        step=-1,
        decision="prune",
        value=fmean(loss.own),
        rule=RACE,
        peers=dict(peers),
        seen=ranges(sorted(peers)),
        race=journal.Race(
            against=loss.against,
            folds=loss.folds,
            own=loss.own,
            other=loss.other,
            spread=loss.spread,
            freedom=loss.freedom,
            all_folds=rules.folds,
            points=rules.points,
            error=rules.error,
            least=rules.least,
            keep=rules.keep,
            margin=loss.margin,
            statistic=loss.statistic,
            threshold=loss.threshold,
        ),
    )


def rules_of(race: journal.Race, goal: str) -> Rules:
    """Return the rules that *race* was decided by."""
    return Rules(goal, race.all_folds, race.points, race.error, race.least, race.keep)


def wrong(race: journal.Race, goal: str) -> str:
    """Return in words why *race* does not follow from its own values, "" where it does."""
    count = len(race.folds)
    rules = rules_of(race, goal)
    if not (rules.least <= count < rules.folds and count == len(race.own) == len(race.other)):
        return "compares folds that it cannot have compared"
    if race.freedom < _LEAST_FREEDOM or race.spread < 0 or rules.keep < 1 or not 0 < rules.error < 1:
        return "says nothing that it could be made from"
    found = measured(rules, race.own, race.other, race.spread, race.margin).statistic
    limit = threshold(rules, count, race.freedom)
    for name, said, computed in (
        ("statistic", race.statistic, found),
        ("threshold", race.threshold, limit),
    ):
        if not math.isclose(said, computed, rel_tol=_REPLAYED):
            return f"has the {name} {said:.6g}, and {computed:.6g} follows from its values"
    return "" if found > limit else f"does not follow from its values: {found:.4g} is not beyond {limit:.4g}"


def in_words(race: journal.Race) -> str:
    """Return what was decided and from what, on one line."""
    # Who is out loses: that tells the goal.
    rules = rules_of(race, "max" if fmean(race.other) > fmean(race.own) else "min")
    found = measured(rules, race.own, race.other, race.spread, race.margin)
    beyond = f" (beyond the standard error {race.margin:.4g})" if race.margin else ""
    return (
        f"its point loses to point {race.against}: by {found.difference:.4g} +- {found.deviation:.2g}"
        f"{beyond}, over folds {ranges(race.folds)} of {race.all_folds}; {race.statistic:.3g} deviations, "
        f"where {race.threshold:.3g} decide (error {race.error:g})"
    )
