"""What the test side gave, in numbers: mean, spread, interval, and what they do not say."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any, Final

from hpc_search import durable, splits
from hpc_search.layout import Layout
from hpc_search.records.plan import Plan
from hpc_search.records.search import Part
from hpc_search.records.splits import SplitsIndex
from hpc_search.records.vault import Interval, Value
from hpc_search.search.evaluating import Gave
from hpc_search.stats import FoldSamples, FoldSizes, Row, rank_points

Id = str | int
#: Of a fixed test side there are no folds to fall back on.
_FOLDS: Final = ", so the folds are used instead"
#: Sides that are trained on, by what a refit trains on.
_TRAINED: Final = {"train": ("train",), "train+val": ("train", "val")}


def values_of(plan: Plan, gave: Sequence[Gave], layout: Layout, index: SplitsIndex | None) -> list[Value]:
    """Return every metric of every search over its states, the one that the search selects by first."""
    found: list[Value] = []
    for part in plan.search.parts:
        mine = [one for one in gave if one.unit.part == part.name]
        common = set.intersection(*(set(one.metrics) for one in mine)) if mine else set()
        names = sorted(common)
        names.sort(key=lambda name: name != part.metric.name)
        found += [_value(part, name, mine, layout, index) for name in names]
    return found


def _value(part: Part, name: str, gave: Sequence[Gave], layout: Layout, index: SplitsIndex | None) -> Value:
    from hpc_search.stats.choice import unit_values
    from hpc_search.stats.points import sample_sd

    rows = [
        Row(one.unit.trial, 0, one.unit.fold, one.unit.seed, "done", "", one.metrics[name]) for one in gave
    ]
    [score] = rank_points(rows, part.metric.goal, lambda _: len(rows))
    units = unit_values(score.values)
    folds = len({row.fold for row in rows}) > 1
    selects = name == part.metric.name or len(gave[0].metrics) == 1
    sampled = gave if selects and all(one.samples is not None for one in gave) else ()
    interval, note = _interval(part, score, sampled, layout, index if folds else None)
    if interval is None and not folds and len(units) > 1:
        note = f"{note}The spread is that over seeds: it says nothing about how few the test samples are."
    if interval is None and selects and not sampled and part.test is not None and part.test.callable:
        note = f"{note} No interval: `trial.report_samples` in {part.test.callable} would give one.".lstrip()
    return Value(
        part=part.name,
        metric=name,
        mean=math.fsum(units) / len(units),
        sd=sample_sd(units),
        n=len(units),
        interval=interval,
        note=note,
    )


def _interval(
    part: Part, score: Any, sampled: Sequence[Gave], layout: Layout, index: SplitsIndex | None
) -> tuple[Interval | None, str]:
    """Return the 95 % interval of the mean, and why it is not over samples; *index* where there are folds."""
    from hpc_search.stats.intervals import intervals
    from hpc_search.stats.study import make_study

    samples = {0: [_scores(one) for one in sampled]} if sampled else None
    groups = _groups(layout, {one.unit.fold for one in sampled})
    if samples is not None and not groups and (exact := _binomial(samples[0])) is not None:
        return exact, ""
    sizes = dict(_sizes(index, sampled)) if index is not None else None
    study = make_study([score], part.metric.goal, sizes=sizes, samples=samples, groups=groups or None)
    if study is None:
        return None, ""
    [found] = intervals(study)
    over_samples = study.clusters is not None
    if found.low is None or found.high is None or not (over_samples or study.folds):
        return None, f"{study.note.replace(_FOLDS, '')} ".lstrip()
    method, _, over = found.method.partition(" over ") if over_samples else found.method.partition(" on ")
    return Interval(low=found.low, high=found.high, method=method, over=over), study.note


def _scores(one: Gave) -> FoldSamples:
    assert one.samples is not None
    return FoldSamples(one.unit.fold, one.unit.seed, one.samples.ids, one.samples.scores)


def _binomial(samples: Sequence[FoldSamples]) -> Interval | None:
    """Return Wilson's interval (1927) where the states of one fold say right or wrong of each sample.

    The mean over several seeds varies less than one answer does: then it is wider than it had to be.
    """
    scores = [one.scores for one in samples]
    if len({one.fold for one in samples}) > 1 or not {score for one in scores for score in one} <= {0.0, 1.0}:
        return None
    if len({frozenset(one.ids) for one in samples}) > 1 or not scores[0]:
        return None
    count = len(scores[0])
    share, z = sum(map(sum, scores)) / count / len(scores), NormalDist().inv_cdf(0.975)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    method = "Wilson" if len(scores) == 1 else "Wilson, as of one seed"
    return Interval(low=middle - half, high=middle + half, method=method, over=f"{count} samples")


def _sizes(index: SplitsIndex, sampled: Sequence[Gave]) -> Iterator[tuple[int | None, FoldSizes]]:
    """Yield of every fold how many rows a refit trains on, and how many it is tested on."""
    on = sampled[0].unit.on if sampled else "train+val"
    for fold in index.folds:
        rows = {side: index.files[path].rows for side, path in fold.sides.items()}
        yield fold.number, FoldSizes(sum(rows.get(side, 0) for side in _TRAINED[on]), rows.get("test", 0))


def _groups(layout: Layout, folds: set[int | None]) -> dict[Id, str]:
    """Return the group of each test sample of *folds*, {} where the data have none."""
    found: dict[Id, str] = {}
    for fold in folds - {None}:
        text = durable.read_bytes(layout.split_manifest(fold or 0, "test")).decode()
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(rows, [])
        if "group" in header:
            place = header.index("group")
            found |= {key: row[place] for row in rows for key in _keys(row[0])}
    return found


def _keys(text: str) -> tuple[Id, ...]:
    """Return what a manifest's id may be to a trial: ids are whole numbers, or texts."""
    return (int(text), text) if text.removeprefix("-").isdecimal() else (text,)


# -- what the numbers do not say
def notes_of(gave: Sequence[Gave], layout: Layout, index: SplitsIndex | None) -> list[str]:
    """Return honest sentences: test rows by which the point was chosen, and scores of other rows."""
    if index is None:
        return []
    return [*_seen(gave, layout, index), *_other_samples(gave, layout, index)]


def _side(layout: Layout, index: SplitsIndex, fold: int, side: str) -> set[Id]:
    path = next((one.sides.get(side, "") for one in index.folds if one.number == fold), "")
    if not path:
        return set()
    text = durable.read_bytes(layout.root / path).decode()
    return set(splits.parse_manifest(text, index.ids, path))


def _seen(gave: Sequence[Gave], layout: Layout, index: SplitsIndex) -> Iterator[str]:
    """Yield how many test rows stand on validation sides by which the tested point was chosen."""
    seen = count = 0
    sides: dict[tuple[int, ...], set[Id]] = {}
    places = dict.fromkeys((one.unit.fold, one.unit.chose) for one in gave if one.unit.fold is not None)
    for fold, chose in places:
        if chose not in sides:
            sides[chose] = set().union(*(_side(layout, index, other, "val") for other in chose))
        test = _side(layout, index, fold or 0, "test")
        count += len(test)
        seen += len(test & sides[chose])
    if seen:
        yield (
            f"{seen:,} of the {count:,} test rows are validation rows of other folds, by which the point was "
            "chosen: the value is a little too good; nested folds do not have that"
        )


def _other_samples(gave: Sequence[Gave], layout: Layout, index: SplitsIndex) -> Iterator[str]:
    for one in gave:
        if one.samples is None or one.unit.fold is None:
            continue
        test, told = _side(layout, index, one.unit.fold, "test"), set(one.samples.ids)
        if told != test:
            others = f", and of {len(told - test):,} others" if told - test else ""
            yield (
                f"trial {one.unit.trial} reported scores of {len(told & test):,} of the "
                f"{len(test):,} test rows{others}"
            )
