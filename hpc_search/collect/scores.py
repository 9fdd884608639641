"""The scores of samples that trials reported, and whether they agree with the metric and the manifests."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, cast

from hpc_search import durable
from hpc_search.collect.reading import Attempt
from hpc_search.collect.sides import Sides
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records import archive
from hpc_search.records import samples as codec
from hpc_search.records.splits import SplitsIndex
from hpc_search.stats import FoldSamples, PointScore, mean

#: Of so many of the best points samples are read: those of which `stats.study` uses some.
MOST: Final = 100
#: A mean that was taken in single precision differs by less of the largest score.
_NEAR: Final = 1e-5


class Scores(NamedTuple):
    """Point -> the scores of all its trials; id -> group, None where the data have none; what is wrong."""

    of_point: dict[int, list[FoldSamples]]
    groups: dict[str | int, str] | None = None
    notes: tuple[str, ...] = ()


def read(layout: Layout, best: Sequence[PointScore], splits: SplitsIndex | None, metric: str) -> Scores:
    """Return the scores of the points *best*, those of which every trial has some that can be believed.

    They have to be of exactly the samples of the fold's validation side, and their mean has to be the metric.
    """
    ends = {score.point: [cast("Attempt", row) for row in score.rows] for score in best}
    with_some = {point: rows for point, rows in ends.items() if all(row.samples for row in rows)}
    if not with_some:
        return Scores({})
    sides = Sides(layout, splits)
    files = _files(layout, (end for rows in with_some.values() for end in rows))
    found: dict[int, list[FoldSamples]] = {}
    wrong: defaultdict[str, list[str]] = defaultdict(list)
    for point, rows in with_some.items():
        read_ones = [_checked(end, files, sides, metric, wrong) for end in rows]
        if whole := [one for one in read_ones if one is not None]:
            found[point] = whole
        if len(whole) < len(rows):
            found.pop(point, None)
    notes = []
    for what, those in wrong.items():
        count = "1 trial" if len(those) == 1 else f"{len(those):,} trials"
        notes.append(f"warning: scores of samples are not used: {count} {what}: {those[0]}")
    return Scores(found, sides.groups, tuple(notes))


def _checked(
    end: Attempt,
    files: Mapping[tuple[str, int], bytes],
    sides: Sides,
    metric: str,
    wrong: Mapping[str, list[str]],
) -> FoldSamples | None:
    """Return the scores of *end*, None where something is *wrong* with them."""
    worker, place = end.worker, end.samples or (0, 0, 0, "")
    segment, offset, size, checksum = place
    record = codec.parse_samples(files.get((worker, segment), b"")[offset : offset + size], checksum)
    name = f"trial {end.trial}"
    if record is None:
        wrong["with scores that do not verify or are missing"].append(name)
        return None
    side = sides.val(end.fold)
    if side is not None and (len(record.ids) != len(side) or set(record.ids) != side):
        there = len(side & set(record.ids))
        what = f"{name} has {len(record.ids):,} scores, of {there:,} of the {len(side):,} samples"
        wrong["reported them of other samples than those of their validation side"].append(what)
        return None
    middle = mean(record.scores) if record.scores else math.nan
    scale = max(map(abs, (middle, end.value or 0.0, *record.scores)), default=0.0)
    if end.value is None or not abs(middle - end.value) <= _NEAR * scale:
        shown = f"{name} reported {metric} = {end.value!r}, the mean of its {len(record.ids):,} samples is"
        what = f"{shown} {middle!r} (a mean of batches that are not all of one size?)"
        wrong["reported another metric than their mean"].append(what)
        return None
    return FoldSamples(end.fold, end.seed, record.ids, record.scores)


def _files(layout: Layout, ends: Iterable[Attempt]) -> dict[tuple[str, int], bytes]:
    """Return (worker, segment) -> the file with the samples; of workers that are gone from the archives."""
    found: dict[tuple[str, int], bytes] = {}
    gone: dict[tuple[str, str], tuple[str, int]] = {}
    for key in {(end.worker, end.samples[0]) for end in ends if end.samples is not None}:
        worker, segment = key
        try:
            found[key] = durable.read_bytes(layout.samples(worker, segment))
        except OSError:
            gone[worker, f"samples.{segment}.bin"] = key
    for data in history.archives(layout) if gone else ():
        for section in archive.sections(data):
            key_of = gone.get((section.worker, section.name))
            if key_of is not None:
                found.setdefault(key_of, section.content(data))
    return found
