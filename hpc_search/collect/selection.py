"""What can be said of the points of one search: which one is chosen, and how sure that is."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hpc_search.collect import scores as of_samples
from hpc_search.collect import staged
from hpc_search.collect.outcome import Outcome
from hpc_search.collect.sides import sizes_of
from hpc_search.layout import Layout
from hpc_search.records.search import Part
from hpc_search.records.splits import SplitsIndex
from hpc_search.stats import (
    Chosen,
    Comparison,
    FoldSizes,
    Interval,
    NullBand,
    PointScore,
    Row,
    Selected,
    rank_points,
)
from hpc_search.steering.choosing import by_rule

if TYPE_CHECKING:
    from hpc_search.stats.study import Study

#: Points whose interval stands in selection.json.
_SHOWN: Final = 100


class OuterChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What one outer fold chooses by its own folds; ``point`` is None where no point is complete in them."""

    outer: int
    folds: tuple[int, ...]
    point: int | None
    params: dict[str, Any] | None = None
    mean: float | None = None
    error: float | None = None


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in selection.json of one search; what cannot be said is None, and ``notes`` say why.

    ``intervals`` and the tests of ``comparison`` are of the best 100 points only, and of the chosen one.
    ``candidates`` are the complete points of the last stage, out of which one is chosen. ``train`` and
    ``val`` are the mean numbers of rows of the folds' sides. ``fresh``: its stage trained chosen points
    again.
    """

    rule: str = "best"
    simpler: tuple[str, ...] = ()
    chosen: Chosen | None = None
    estimand: str = ""
    stage: str = ""
    candidates: int = 0
    folds: int = 0
    seeds: int = 0
    train: float | None = None
    val: float | None = None
    intervals: tuple[Interval, ...] = ()
    selected: Selected | None = None
    comparison: Comparison | None = None
    null_band: NullBand | None = None
    #: Of so many points the scores of samples were used.
    sampled: int = 0
    outer: tuple[OuterChoice, ...] = ()
    fresh: bool = False
    notes: tuple[str, ...] = ()

    def interval(self, point: int) -> Interval | None:
        """Return the interval of *point*, None where it is not known."""
        return next((one for one in self.intervals if one.point == point), None)

    def point_of(self, fold: int) -> int | None:
        """Return the point that is chosen by *fold*: that of its outer fold where there is one."""
        return next((one.point for one in self.outer if fold in one.folds), self.point)

    @property
    def point(self) -> int | None:
        """The chosen point."""
        return None if self.chosen is None else self.chosen.point


def judge(layout: Layout, found: Outcome, splits: SplitsIndex | None) -> Judgement:
    """Return what can be said of the points of *found*, an outcome of one search."""
    part = found.part
    if part is None or not found.complete:
        return Judgement()
    # The best point is complete, and of the last stage that has a complete one.
    begun = staged.last_stage(found.ranked, found.scores)
    last = [score for score in begun if score.complete]
    stage = staged.block_of(found.ranked, last[0].point).stage
    blocks = [block for block in found.ranked if block.stage == stage]
    sizes = sizes_of(splits)
    used = [
        sizes[fold]
        for fold in dict.fromkeys(fold for block in blocks for fold in block.folds)
        if fold in sizes
    ]
    chosen = _chosen_of(found, part, last, used)
    judged = Judgement(
        rule=part.choose.rule,
        simpler=part.choose.simpler,
        chosen=chosen,
        stage=blocks[0].stage_name,
        candidates=len(last),
        folds=len({row.fold for row in last[0].rows if row.fold is not None}),
        seeds=len({row.seed for row in last[0].rows}),
        train=sum(size.train for size in used) / len(used) if used else None,
        val=sum(size.val for size in used) / len(used) if used else None,
        outer=_outer(found, part, begun, splits),
        fresh=blocks[0].strategy.kind == "top",
    )
    many = part.metric.reduction == "mean"
    reported = of_samples.Scores({})
    if many:
        reported = of_samples.read(layout, last[: of_samples.MOST], splits, part.metric.name)
    judged = msgspec.structs.replace(judged, sampled=len(reported.of_point), notes=reported.notes)
    if last[0].n < 2 and not reported.of_point:
        # One value a point: there is nothing to compute, and NumPy is not needed.
        return judged
    return _measured(judged, part, last, sizes, reported)


def _measured(
    judged: Judgement,
    part: Part,
    last: Sequence[PointScore],
    sizes: Mapping[int | None, FoldSizes],
    reported: of_samples.Scores,
) -> Judgement:
    from hpc_search.stats.comparison import compare
    from hpc_search.stats.intervals import intervals
    from hpc_search.stats.selection import null_band, select
    from hpc_search.stats.study import make_study

    study: Study | None = make_study(
        last,
        part.metric.goal,
        sizes=sizes or None,
        samples=reported.of_point or None,
        groups=reported.groups,
    )
    if study is None or judged.chosen is None:
        return judged
    point = judged.chosen.point
    return msgspec.structs.replace(
        judged,
        estimand=study.estimand,
        intervals=tuple(intervals(_best_of(study, point))),
        selected=select(study, judged.chosen),
        comparison=compare(study),
        null_band=null_band(study),
        notes=(*judged.notes, *([study.note] if study.note else [])),
    )


def _best_of(study: Study, point: int) -> Study:
    """Return *study* with the best points only, down to *point*: an interval is of one point alone."""
    last = study.points.index(point) + 1 if point in study.points else 0
    count = max(_SHOWN, last)
    points, means, units = study.points[:count], study.means[:count], study.units[:count]
    return dataclasses.replace(study, points=points, means=means, units=units)


def _chosen_of(
    found: Outcome, part: Part, scores: Sequence[PointScore], sizes: Sequence[FoldSizes]
) -> Chosen | None:
    ruled = scores if part.choose.rule != "best" else ()
    params = {score.point: found.params[found.of_point[score.point]] for score in ruled}
    return by_rule(part, scores, params, sizes)


def _outer(
    found: Outcome, part: Part, scores: Sequence[PointScore], splits: SplitsIndex | None
) -> tuple[OuterChoice, ...]:
    """Return what each outer fold chooses: by its own folds only, on which its test side had no influence."""
    folds_of: defaultdict[int, list[int]] = defaultdict(list)
    for fold in splits.folds if splits is not None else ():
        if fold.outer is not None:
            folds_of[fold.outer].append(fold.number)
    sizes = sizes_of(splits)
    return tuple(
        _outer_choice(found, part, scores, outer, folds, [sizes[fold] for fold in folds])
        for outer, folds in sorted(folds_of.items())
    )


def _outer_choice(
    found: Outcome,
    part: Part,
    scores: Sequence[PointScore],
    outer: int,
    folds: Sequence[int],
    sizes: Sequence[FoldSizes],
) -> OuterChoice:
    rows: list[Row] = [row for score in scores for row in score.rows if row.fold in folds]
    seeds = len({row.seed for row in scores[0].rows})
    own = rank_points(rows, part.metric.goal, lambda _: len(folds) * seeds)
    chosen = _chosen_of(found, part, own, sizes)
    if chosen is None:
        return OuterChoice(outer=outer, folds=tuple(folds), point=None)
    score = next(one for one in own if one.point == chosen.point)
    return OuterChoice(
        outer=outer,
        folds=tuple(folds),
        point=chosen.point,
        params=found.params[found.of_point[chosen.point]],
        mean=score.mean,
        error=chosen.error if chosen.point == chosen.best else None,
    )
