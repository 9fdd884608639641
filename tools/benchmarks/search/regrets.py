"""What 16 workers at once find on each function, beside Optuna's own study with as many."""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final, NamedTuple

from hpc_search.strategies.random import Random
from tools.benchmarks.common import Report, quantile
from tools.benchmarks.search import testing
from tools.benchmarks.search.contenders import Found, Optunas, Ours, simulate
from tools.benchmarks.search.functions import PROBLEMS

#: A Gaussian process takes a tenth of a second and more for each point.
_FEW: Final = "gp"


class Row(NamedTuple):
    """One strategy on one function with so many workers."""

    kind: str
    function: str
    workers: int
    points: int


class Pair(NamedTuple):
    """What both found with one seed."""

    ours: Found
    theirs: Found


def measure(given: argparse.Namespace, report: Report) -> None:
    """Print a row for each strategy, function and number of workers, and what follows from all of them."""
    rows = [
        Row(kind, function, workers, given.few if kind == _FEW else given.points)
        for kind in given.kinds
        for function in given.functions
        for workers in given.workers
    ]
    words = "median (quartiles), both from the same random points; p: ours is worse, Wilcoxon"
    report.say(f"regret at the end, {given.repeats} seeds, {words}")
    found = {}
    for row, pairs in _pairs(rows, given.repeats, given.processes):
        found[row] = pairs
        report.say(_shown(row, pairs))
    _judge(report, found)


def _pairs(rows: list[Row], repeats: int, processes: int) -> Iterator[tuple[Row, list[Pair]]]:
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=partial(alone, torch=any(row.kind == _FEW for row in rows))
    ) as pool:
        asked = {row: [pool.submit(pair, row, seed) for seed in range(repeats)] for row in rows}
        for row, waiting in asked.items():
            yield row, [one.result() for one in waiting]


def alone(*, torch: bool) -> None:
    """Let the libraries of this process use one core: two threads that wait for each other are slower."""
    from threadpoolctl import threadpool_limits

    if torch:
        from torch import set_num_threads

        set_num_threads(1)
    threadpool_limits(1)


def pair(row: Row, seed: int) -> Pair:
    """Return what both find with *seed*."""
    problem = PROBLEMS[row.function]
    ours = Ours(row.kind, problem, row.points, seed)
    theirs = Optunas(row.kind, problem, seed, start=Random(row.points, seed))
    return Pair(*(simulate(one, problem, row.workers, row.points, seed) for one in (ours, theirs)))


def _regrets(row: Row, pairs: list[Pair]) -> tuple[list[float], list[float]]:
    least = PROBLEMS[row.function].least
    return [one.ours.value - least for one in pairs], [one.theirs.value - least for one in pairs]


def _shown(row: Row, pairs: list[Pair]) -> str:
    ours, theirs = _regrets(row, pairs)
    asked = row.points * len(pairs)
    times = [
        1000 * sum(side) / asked for side in zip(*((a.seconds, b.seconds) for a, b in pairs), strict=True)
    ]
    return (
        f"  {row.kind:9s} {row.function:10s} W={row.workers:<3d} {row.points} points  "
        f"ours {testing.quartiles(ours):24s} optuna {testing.quartiles(theirs):24s} "
        f"p {testing.worse(ours, theirs):.3f}  {times[0]:.1f} / {times[1]:.1f} ms a point"
    )


def _judge(report: Report, found: dict[Row, list[Pair]]) -> None:
    regrets = {row: _regrets(row, pairs) for row, pairs in found.items()}
    names = [f"{row.kind} {row.function} W={row.workers}" for row in regrets]
    values = testing.holm([testing.worse(*both) for both in regrets.values()])
    beyond = [
        name
        for name, (ours, theirs) in zip(names, regrets.values(), strict=True)
        if statistics.median(ours) > quantile(theirs, 0.75)
    ]
    worse = [name for name, value in zip(names, values, strict=True) if value < testing.ALPHA]
    rows = f"of {len(names)} rows"
    report.figure(
        f"median regret above Optuna's upper quartile, {rows}{_listed(beyond)}",
        len(beyond), 1, "rows", at_least=False,
    )  # fmt: skip
    report.figure(
        f"worse than Optuna's (one-sided Wilcoxon, Holm over all rows, alpha {testing.ALPHA}), "
        f"{rows}{_listed(worse)}; least p {min(values, default=1.0):.2g}",
        len(worse), 1, "rows", at_least=False,
    )  # fmt: skip


def _listed(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""
