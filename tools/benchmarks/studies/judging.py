"""What our statistics say of each simulated study, beside the truth."""

from __future__ import annotations

import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from hpc_search.stats.comparison import compare
from hpc_search.stats.figures import Interval
from hpc_search.stats.intervals import intervals
from hpc_search.stats.selection import select
from tools.benchmarks.studies.generators import Setting, draw

CHUNK = 50


@dataclass(frozen=True)
class Judged:
    """One study: shares and sizes, to be averaged over studies.

    Attributes:
        fixed: The share of all points whose own interval covers; ``width``: its mean width.
        naive: Whether the selected point's own interval covers.
        aware: Whether its selection-aware interval does; ``aware_width``: its width.
        contained: Whether the true best is among those that cannot be told from the best. With equal true
            scores every point is, so one is taken that was fixed beforehand.
        luck: Observed less true score of the selected point, less the same of the truly best point: the
            latter is 0 on average and takes most of the scatter away.
    """

    fixed: float
    width: float
    naive: float
    aware: float
    aware_width: float
    contained: float
    size: float
    single: float
    luck: float
    optimism: float


def judge(setting: Setting, random: np.random.Generator) -> Judged:
    """Return what is said of one study."""
    study, truth = draw(setting, random)
    bands = intervals(study)
    compared, selected = compare(study), select(study)
    assert selected is not None
    best = int(truth.argmax())
    point, means = selected.point, dict(zip(study.points, study.means.tolist(), strict=True))
    return Judged(
        fixed=float(np.mean([_covers(band, truth[band.point]) for band in bands])),
        width=float(np.mean([(band.high or 0) - (band.low or 0) for band in bands])),
        naive=_covers(bands[0], truth[point]),
        aware=float(selected.low <= truth[point] <= selected.high),
        aware_width=selected.high - selected.low,
        contained=float(best in compared.alike),
        size=len(compared.alike),
        single=float(compared.winner is not None),
        luck=(selected.mean - truth[point]) - (means[best] - truth[best]),
        optimism=selected.optimism,
    )


def _covers(band: Interval, truth: float) -> float:
    return float(band.low is not None and band.high is not None and band.low <= truth <= band.high)


def _chunk(job: tuple[Setting, int, int]) -> list[Judged]:
    setting, seed, count = job
    random = np.random.default_rng([zlib.crc32(str(setting).encode()), seed])
    with threadpool_limits(1):
        return [judge(setting, random) for _ in range(count)]


def judge_many(pool: ProcessPoolExecutor, setting: Setting, studies: int) -> list[Judged]:
    """Return what is said of *studies* studies, always the same."""
    starts = range(0, studies, CHUNK)
    jobs = [(setting, start, min(CHUNK, studies - start)) for start in starts]
    return [one for chunk in pool.map(_chunk, jobs) for one in chunk]
