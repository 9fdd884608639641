"""`bench stats`: whether intervals, sets and corrected scores keep what they say, on simulated studies."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import numpy as np

from tools.benchmarks import common
from tools.benchmarks.common import Report
from tools.benchmarks.studies import generators, learner
from tools.benchmarks.studies.generators import Setting
from tools.benchmarks.studies.judging import Judged, judge_many

_SPREADS: Final = (0.0, 1.0, 3.0, 10.0)
_KINDS: Final = ("repeats", "folds", "overlap", "samples")
#: The optimism at these spreads is small: it takes so many times more studies to measure.
_MORE: Final = {3.0: 3, 10.0: 4}
_QUICK: Final = 2
_SEEN: Final = 4.0  # an optimism below so many of its standard errors is not compared


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--studies", type=int, default=1_000, help="simulated for each setting")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK} studies a setting")


def settings() -> list[Setting]:
    """Return all generators."""
    spreads = [Setting(kind, spread, rho) for kind in _KINDS for rho in (0.0, 0.7) for spread in _SPREADS]
    leads = [Setting(kind, 5.0, rho, leader=True) for kind in _KINDS for rho in (0.0, 0.7)]
    return [*spreads, *leads, Setting("learner", 0.0), Setting("learner-folds", 0.0)]


def run(given: argparse.Namespace, report: Report) -> None:
    """Simulate, print a line a setting, then the worst of each figure beside what is asked."""
    studies = _QUICK if given.quick else given.studies
    report.say(f"machine: {common.machine()}")
    report.say(_GENERATORS)
    report.say(
        f"{'setting':<31} {'studies':>7} {'fixed':>6} {'width':>6} {'naive':>6} {'aware':>6} {'width':>6} "
        f"{'best in':>7} {'size':>5} {'single':>6} {'optimism':>8} {'found':>7} {'ratio':>6}"
    )
    started = time.perf_counter()
    table = {}
    with ProcessPoolExecutor(given.processes) as pool:
        for setting in settings():
            if given.quick and setting.rho:
                continue
            more = _MORE.get(setting.spread, 1) if setting.kind == "samples" and not given.quick else 1
            found = judge_many(pool, setting, studies * more)
            table[setting] = found
            report.say(_line(setting, found))
    report.say(f"({time.perf_counter() - started:.0f} s)")
    _figures(table, report)


_GENERATORS: Final = f"""\
{generators.POINTS} points, {generators.FOLDS} folds.
Fold noise: the sd of a fold's value around the point's true score, 1 here.
spread: true scores are normal with this sd; lead: one point is so much above the others, which are equal.
rho: the correlation of the points' errors. Errors, by kind:
  repeats        independent, without folds: plain t
  folds          independent from fold to fold
  overlap        a fifth of a fold's variance is common to the folds of a point, as Nadeau and Bengio take it
  samples        the mean of independent per-sample scores; {generators.SAMPLES} samples
  learner        {learner.POINTS} ridge classifiers refitted in each fold; {learner.SAMPLES} 0/1 scores;
                 true score = expected accuracy at the folds' training size
  learner-folds  the same, from fold values only
Columns: coverage and width of a fixed point's interval; coverage of the selected point's naive and of its
selection-aware interval, and its width; how often the true best is in the set that cannot be told from the
best, its size, how often it is a single point; the true optimism of the selected score, what the corrected
score takes off, their ratio."""


def _line(setting: Setting, found: Sequence[Judged]) -> str:
    optimism, asserted, error = _optimism(found)
    ratio = "-"
    if optimism > _SEEN * error:
        ratio = f"{asserted / optimism:.2f}+-{asserted * error / optimism**2:.2f}"
    return (
        f"{setting!s:<31} {len(found):>7} {_mean(found, 'fixed'):>6.3f} {_mean(found, 'width'):>6.3f} "
        f"{_mean(found, 'naive'):>6.3f} {_mean(found, 'aware'):>6.3f} {_mean(found, 'aware_width'):>6.3f} "
        f"{_mean(found, 'contained'):>7.3f} {_mean(found, 'size'):>5.1f} {_mean(found, 'single'):>6.3f} "
        f"{optimism:>8.4f} {asserted:>7.4f} {ratio:>6}"
    )


def _mean(found: Sequence[Judged], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in found]))


def _optimism(found: Sequence[Judged]) -> tuple[float, float, float]:
    """Return the true optimism, what we say it is, and the standard error of the former."""
    luck = np.array([one.luck for one in found])
    return float(luck.mean()), _mean(found, "optimism"), float(luck.std() / np.sqrt(len(luck)))


def _figures(table: dict[Setting, list[Judged]], report: Report) -> None:
    """Print each asked figure with the worst setting that it is asked of."""
    repeats = [found for setting, found in table.items() if setting.kind == "repeats"]
    split = [found for setting, found in table.items() if setting.kind != "repeats"]
    noise = [
        found for setting, found in table.items() if setting.spread == 0 and "learner" not in setting.kind
    ]
    three = [found for setting, found in table.items() if setting.spread == 3]
    leads = [found for setting, found in table.items() if setting.leader]
    share, points = "of studies", "points"
    least = min(_mean(found, "fixed") for found in repeats)
    most = max(_mean(found, "fixed") for found in repeats)
    report.figure("a fixed point's interval covers, repeats", least, 0.93, share, at_least=True)
    report.figure("a fixed point's interval covers at most, repeats", most, 0.97, share, at_least=False)
    least = min(_mean(found, "fixed") for found in split)
    report.figure("a fixed point's interval covers, folds", least, 0.93, share, at_least=True)
    least = min(_mean(found, "aware") for found in table.values())
    report.figure("the selected point's aware interval covers", least, 0.93, share, at_least=True)
    report.say(f"        (its naive one: {min(_mean(found, 'naive') for found in table.values()):.3f})")
    least = min(_mean(found, "contained") for found in table.values())
    report.figure("the set contains the true best", least, 0.95, share, at_least=True)
    most = max(_mean(found, "size") for found in three)
    report.figure("mean size of the set at spread 3", most, 6.0, points, at_least=False)
    least = min(1 - _mean(found, "single") for found in noise)
    report.figure("no single winner with noise only", least, 0.95, share, at_least=True)
    least = min(_mean(found, "single") for found in leads)
    report.figure("a lead of 5 fold noises is announced", least, 0.80, share, at_least=True)
    for setting, found in table.items():
        optimism, asserted, error = _optimism(found)
        if setting.sampled and optimism > _SEEN * error:
            off = abs(asserted - optimism) / optimism
            report.figure(f"corrected score off, {setting}", off, 0.30, "of the optimism", at_least=False)
