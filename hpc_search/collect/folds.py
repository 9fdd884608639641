"""folds.csv: one row a fold, made from the plan each time, so that none can stand there twice. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from hpc_search.collect import staged
from hpc_search.collect.columns import Column, spread
from hpc_search.collect.outcome import Outcome
from hpc_search.collect.reading import Attempt
from hpc_search.collect.selection import Judgement
from hpc_search.collect.sides import SIDES
from hpc_search.layout import Layout
from hpc_search.records.plan import Block
from hpc_search.records.splits import SplitsIndex
from hpc_search.stats import PointScore, mean, sample_sd

#: Search -> what is said of it.
Judgements = Mapping[str, Judgement]


class _Row(NamedTuple):
    part: str
    stage: str
    fold: int
    states: Counter[str]
    trials: int
    point: int | None
    #: Mean over the seeds of the point, of its value and of every number that its trials returned.
    value: float | None
    metrics: dict[str, float]
    #: Of every complete point its mean over the seeds.
    values: list[float]
    shown: list[Attempt]


def fold_columns(found: Outcome, splits: SplitsIndex | None, judged: Judgements) -> list[Column]:
    """Return folds.csv of *found*; no columns where nothing is split."""
    rows = list(_all_rows(found, judged))
    if not rows:
        return []
    ended = [sum(row.states.values()) for row in rows]
    labels = [{"search": row.part, "stage": row.stage} for row in rows]
    names = ["search"] * bool(found.plan.search.searches) + ["stage"] * staged.has_stages(found.ranked)
    metrics = [row.metrics for row in rows]
    return [
        *spread("", names, labels),
        Column("fold", [row.fold for row in rows]),
        *_split_columns([row.fold for row in rows], splits),
        Column("trials", [row.trials for row in rows]),
        *(Column(state, [row.states[state] for row in rows]) for state in ("done", "failed", "pruned")),
        Column("left", [row.trials - count for row, count in zip(rows, ended, strict=True)]),
        Column("point", [row.point for row in rows]),
        Column("value", [row.value for row in rows]),
        *spread("metric_", sorted({name for one in metrics for name in one}), metrics),
        Column("points_complete", [len(row.values) for row in rows]),
        Column("mean", [mean(row.values) if row.values else None for row in rows]),
        Column("sd", [sample_sd(row.values) for row in rows]),
        Column("audit_log", [_relative(Layout(Path()).audit_fold(row.fold)) for row in rows]),
        *_checkpoints(found, rows),
    ]


def _relative(path: Path) -> str:
    return path.as_posix()


def _split_columns(folds: Sequence[int], splits: SplitsIndex | None) -> list[Column]:
    records = {} if splits is None else {fold.number: fold for fold in splits.folds}
    of_row = [records.get(fold) for fold in folds]
    columns = [Column("outer", [one.outer if one is not None else None for one in of_row])]
    for side in SIDES:
        paths = [one.sides.get(side, "") if one is not None else "" for one in of_row]
        files = [splits.files.get(path) if splits is not None else None for path in paths]
        columns += [
            Column(f"{side}_rows", [one.rows if one is not None else None for one in files]),
            Column(f"{side}_manifest", paths),
            Column(f"{side}_digest", [one.digest if one is not None else "" for one in files]),
        ]
    return columns


def _checkpoints(found: Outcome, rows: Sequence[_Row]) -> list[Column]:
    """Return where the checkpoints of the shown point are, where the search keeps them."""
    if not found.plan.search.keep_checkpoints:
        return []
    places = [
        " ".join(_relative(Layout(Path()).checkpoint_dir(end.trial)) for end in row.shown) for row in rows
    ]
    return [Column("checkpoints", places)]


def _all_rows(found: Outcome, judged: Judgements) -> Iterator[_Row]:
    if not any(block.folds for block in found.ranked):
        return
    blocks: defaultdict[tuple[str, int], list[Block]] = defaultdict(list)
    for block in found.ranked:
        blocks[block.part, block.stage].append(block)
    ends = staged.split(found.ranked, found.ends)
    scores: defaultdict[tuple[str, int], list[PointScore]] = defaultdict(list)
    for score in found.scores:
        block = staged.block_of(found.ranked, score.point)
        scores[block.part, block.stage].append(score)
    for key, mine in blocks.items():
        yield from _rows_of(mine, ends.get(key, []), scores[key], judged.get(key[0]))


def _rows_of(
    blocks: Sequence[Block],
    ends: Sequence[Attempt],
    scores: Sequence[PointScore],
    judged: Judgement | None,
) -> Iterator[_Row]:
    states: defaultdict[int | None, Counter[str]] = defaultdict(Counter)
    for (fold, state), count in Counter((end.fold, end.state) for end in ends).items():
        states[fold][state] = count
    values = _values(scores)
    of_point = {score.point: score for score in scores}
    first = blocks[0]
    best = next((score.point for score in scores if score.complete), None)
    chosen = judged if judged is not None and judged.stage == first.stage_name else None
    for fold in dict.fromkeys(fold for block in blocks for fold in block.folds):
        point = best if chosen is None else chosen.point_of(fold)
        mine = [
            cast("Attempt", row)
            for row in (of_point[point].rows if point in of_point else [])
            if row.fold == fold and row.value is not None
        ]
        yield _Row(
            part=first.part,
            stage=first.stage_name,
            fold=fold,
            states=states[fold],
            trials=sum(block.points * len(block.seeds) for block in blocks if fold in block.folds),
            point=point,
            value=mean([row.value for row in mine if row.value is not None]) if mine else None,
            metrics=_metrics(mine),
            values=values[fold],
            shown=mine,
        )


def _values(scores: Sequence[PointScore]) -> defaultdict[int | None, list[float]]:
    """Return fold -> the mean over the seeds of each complete point."""
    found: defaultdict[int | None, list[float]] = defaultdict(list)
    for score in scores:
        if score.complete:
            of_fold: defaultdict[int | None, list[float]] = defaultdict(list)
            for row in score.rows:
                if row.value is not None:
                    of_fold[row.fold].append(row.value)
            for fold, values in of_fold.items():
                found[fold].append(mean(values))
    return found


def _metrics(ends: Sequence[Attempt]) -> dict[str, float]:
    """Return the mean over *ends* of every number that all of them returned."""
    rows: list[Mapping[str, Any]] = [end.metrics or {} for end in ends]
    names = set(rows[0]).intersection(*rows[1:]) if rows else set()
    return {
        name: mean([float(row[name]) for row in rows])
        for name in names
        if all(isinstance(row[name], int | float) for row in rows)
    }
