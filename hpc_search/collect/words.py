"""What was found of the points of a search, in words that a tired reader understands; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hpc_search.collect.selection import Judgement, OuterChoice
from hpc_search.stats import Comparison, Interval, PointScore, Selected

#: Points that are listed by their numbers, and incomplete points that are shown.
_LISTED = 12
_BELOW = 3


def said(judged: Judgement, metric: str, goal: str, objectives: Sequence[str] = ()) -> list[str]:
    """Return the sentences about the chosen point of one search, "" without a complete one."""
    if judged.chosen is None:
        return []
    lines = [*_rule(judged), *_whose(judged), *_sure(judged, goal), *_outer(judged.outer, metric)]
    if len(objectives) > 1:
        others = ", ".join(objectives[1:])
        lines.append(f"all of this is about {metric} alone; nothing was tested about {others}")
    return [*lines, *judged.notes]


def _rule(judged: Judgement) -> list[str]:
    chosen = judged.chosen
    if chosen is None or judged.rule == "best":
        return []
    simpler = ", ".join(judged.simpler)
    if chosen.error is None:
        return [
            f"one-standard-error rule ({simpler}): no standard error is known, so the best point is chosen"
        ]
    within = f"{_points(len(chosen.within))} within one standard error ({chosen.error:.3g}) of the best"
    if chosen.point == chosen.best:
        return [f"one-standard-error rule ({simpler}): of {within} none is simpler than point {chosen.best}"]
    simplest = f"point {chosen.point} is the simplest"
    return [f"one-standard-error rule ({simpler}): of {within}, point {chosen.best}, {simplest}"]


def _whose(judged: Judgement) -> list[str]:
    """Say what the number is worth where values came from fresh seeds, or from one value a point."""
    lines = []
    if judged.fresh:
        same = " (the folds are the same)" if judged.folds else ""
        lines.append(
            f"stage {judged.stage} trained chosen points again: the luck of their first training did not"
            f" carry over, that of the validation data did{same}"
        )
    if not judged.intervals:
        few = "one value a point" if judged.folds <= 1 and judged.seeds <= 1 else "too few values"
        more = "`folds` or several `seeds`" if judged.folds <= 1 else "several `seeds`"
        unknown = "no standard error, no interval, and no way to say which points are as good"
        lines.append(f"{few}: {unknown}; {more} would tell")
        if judged.candidates > 1:
            lines.append(
                f"the best of {judged.candidates:,} looks better than it is, by how much cannot be said"
            )
    return lines


def _sure(judged: Judgement, goal: str) -> Iterator[str]:
    point = judged.point
    interval = judged.interval(point) if point is not None else None
    if interval is None:
        return
    yield from _interval(judged, interval)
    if judged.selected is not None and judged.candidates > 1:
        yield _corrected(judged, judged.selected)
    if judged.comparison is not None and judged.candidates > 1:
        yield from _alike(judged.comparison)
    band = judged.null_band
    if band is not None and judged.candidates > 1:
        beyond = "above" if goal == "max" else "below"
        yield (
            f"if all {band.points:,} points were equally good ({band.centre:.4g}), the best of them would"
            f" look like {band.expected:.4g}, and be {beyond} {band.edge:.4g} in 5 % of searches"
        )


def _interval(judged: Judgement, one: Interval) -> Iterator[str]:
    size = f" ({judged.train:,.0f} samples)" if judged.train is not None and judged.folds > 1 else ""
    if one.low is None or one.high is None:
        yield f"no 95 % interval for point {one.point}: {one.method}"
        return
    error = f"; standard error {one.error:.3g}" if one.error is not None else ""
    yield (
        f"95 % interval of point {one.point}: {one.low:.4g} to {one.high:.4g} ({one.method}{error}),"
        f" for {judged.estimand}{size}"
    )


def _corrected(judged: Judgement, one: Selected) -> str:
    rough = f", rough: from the {'folds' if judged.folds else 'seeds'}' values only" if one.rough else ""
    return (
        f"chosen among {judged.candidates:,} points, it looks better than it is: corrected score"
        f" {one.corrected:.4g}, 95 % interval {one.low:.4g} to {one.high:.4g} ({one.method}{rough})"
    )


def _alike(one: Comparison) -> Iterator[str]:
    others = [point for point in one.alike if point != one.best]
    largest = max((test.holm for test in one.tests if test.holm is not None), default=None)
    if not one.tests or all(test.p is None for test in one.tests):
        yield f"nothing can be said about which points are as good as point {one.best}: {one.method}"
    elif not others:
        p = f", p <= {largest:.2g}" if largest else ""
        yield f"point {one.best} is better than every other complete point ({one.method}{p})"
    else:
        listed = ", ".join(map(str, others[:_LISTED]))
        more = f", ... and {len(others) - _LISTED:,} more" if len(others) > _LISTED else ""
        yield f"{_points(len(others))} cannot be told from point {one.best}: {listed}{more} ({one.method})"
    if any(test.wilcoxon is not None for test in one.tests):
        least = f"{one.wilcoxon_smallest:.2g}"
        yield f"Wilcoxon's test of {one.wilcoxon_pairs} pairs cannot give a p below {least}"


def _outer(choices: Sequence[OuterChoice], metric: str) -> Iterator[str]:
    if not choices:
        return
    listed = ", ".join(
        f"fold {one.outer}: point {one.point}" if one.point is not None else f"fold {one.outer}: none yet"
        for one in choices
    )
    yield f"each outer fold chooses by its own folds only: {listed}"
    if len({one.point for one in choices}) > 1:
        yield "the outer folds do not agree: what is estimated is the procedure that chooses, not one point"
    yield f"the {metric} of the whole procedure comes from the outer test sides: `refit`, then `test`"


def below(scores: Sequence[PointScore]) -> list[str]:
    """Return the incomplete points in words, the one with most values first."""
    missing = [score for score in scores if not score.complete]
    lines = [
        f"  point {one.point}: {one.n} of {one.expected} values, missing "
        + ", ".join(f"{count} {reason}" for reason, count in one.reasons.items())
        for one in missing[:_BELOW]
    ]
    more = f"  ... and {len(missing) - _BELOW:,} more (summary.csv, column missing)"
    return ["incomplete, not compared:", *lines, *[more] * (len(missing) > _BELOW)] if missing else []


def _points(count: int) -> str:
    return "1 point" if count == 1 else f"{count:,} points"
