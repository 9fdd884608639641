"""A proposal after 1,200 finished trials, and the first one of a worker that comes new to them."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from hpc_search.layout import Layout
from hpc_search.ledger.proposing import Proposed
from hpc_search.records.plan import Plan
from hpc_search.steering.proposer import Proposer
from hpc_search.strategies.random import Random
from tools.benchmarks import common, peers
from tools.benchmarks.common import Report
from tools.benchmarks.search import ledgers
from tools.benchmarks.search.contenders import Optunas, Ours
from tools.benchmarks.search.functions import PROBLEMS, Params, Problem

_Told = TypeVar("_Told", Ours, Optunas)
_PROBLEM: Final = "training"
_REPORTS: Final = 50
#: Proposals that are timed, ours and Optuna's in turns.
_ASKED: Final = 15


def measure(given: argparse.Namespace, report: Report, place: Path) -> None:
    """Print both, and what the other strategies take."""
    problem = PROBLEMS[_PROBLEM]
    layout, plan, points = _filled(place / "ours", problem, given.trials)
    report.say(f"a proposal after {given.trials:,} finished trials x {_REPORTS} reports, 5 parameters")
    firsts = [_first(layout, plan, len(points)) for _ in range(5)]
    for part, words in enumerate(("reading the journals", "the whole first proposal", "of it CPU")):
        seconds = [first[part] for first in firsts]
        report.say(f"  a new worker, {words}: {common.spread(seconds, 's')}")
    whole = statistics.median(first[1] for first in firsts)
    report.figure("history rebuilt from the journals and proposed from", whole, 1.0, "s", at_least=False)
    _beside(report, place, layout, plan, points)
    for kind in (kind for kind in given.kinds if kind in ("cmaes", "evolution")):
        ours = _told(Ours(kind, problem, 2 * given.trials, 0), points)
        theirs = _told(Optunas(kind, problem, 0), points)
        times = _turns({"ours": ours.ask, "optuna": theirs.ask})
        shown = ", ".join(f"{words} {common.spread(seconds, 's')}" for words, seconds in times.items())
        report.say(f"  {kind}: {shown}")


def _filled(place: Path, problem: Problem, trials: int) -> tuple[Layout, Plan, list[Params]]:
    """Return a run with room for as many again, whose first *trials* were random and are done."""
    layout, plan = ledgers.made(place, problem, "tpe", 2 * trials, 0)
    drawn = Random(trials, 0)
    points = [drawn.point(problem.space, number) for number in range(trials)]
    with ledgers.joined(layout, plan, lambda point: Proposed(points[point])) as ledger:
        for params in points:
            (claimed,) = ledger.claim()
            ledgers.finish(ledger, claimed, problem.value(params), _REPORTS)
    return layout, plan, points


def _first(layout: Layout, plan: Plan, point: int) -> tuple[float, float, float]:
    """Return the seconds of reading all journals, of a new worker's whole first proposal, and of its CPU."""
    proposer = Proposer(layout, plan)
    started, cpu = time.perf_counter(), time.process_time()
    proposer._refresh()  # noqa: SLF001 - a part of the next line
    read = time.perf_counter() - started
    proposer(point)
    return read, time.perf_counter() - started, time.process_time() - cpu


def _beside(report: Report, place: Path, layout: Layout, plan: Plan, points: list[Params]) -> None:
    problem = PROBLEMS[_PROBLEM]
    proposer = Proposer(layout, plan)
    in_memory = _told(Optunas("tpe", problem, 0), points)
    (place / "optuna").mkdir()
    in_file = _told(Optunas("tpe", problem, 0, peers.storage("journal", place / "optuna")), points)
    proposer(len(points))
    times = _turns(
        {
            "ours, from the run (look, history, digest, model)": lambda: proposer(len(points)),
            "Optuna, ask and suggest, in memory": in_memory.ask,
            "Optuna, ask and suggest, JournalStorage": in_file.ask,
        }
    )
    for words, seconds in times.items():
        report.say(f"  tpe: {words}: {common.spread(seconds, 's')}")
    ours, memory, _ = (statistics.median(seconds) for seconds in times.values())
    report.figure("tpe: a proposal over Optuna's in memory", ours / memory, 1.3, "times", at_least=False)


def _told(contender: _Told, points: list[Params]) -> _Told:
    """Return *contender* after it has taken all *points*."""
    for params in points:
        contender.add(params, PROBLEMS[_PROBLEM].value(params))
    return contender


def _turns(ways: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {words: [] for words in ways}
    for _ in range(_ASKED):
        for words, way in ways.items():
            started = time.perf_counter()
            way()
            found[words].append(time.perf_counter() - started)
    return found
