"""`bench racing`: folds left out of simulated cross-validations, beside Optuna's pruners in the same run."""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Final, NamedTuple

from tools.benchmarks import common
from tools.benchmarks.common import Report
from tools.benchmarks.racing import contenders, real, studies

_SPREADS: Final = (0, 1, 3, 10)
_WORKERS: Final = (4, 64)
#: Noise with which Optuna's pruners are compared; with the others only our error is looked at.
_COMPARED: Final = ("independent", "correlated")
#: Asked: so much is saved at so many workers, from this spread on.
_ASKED: Final = (0.4, 4, 3)
#: Deviations of a simulated figure that it may be off by.
_SURE: Final = 3.0


class Row(NamedTuple):
    """One kind of study and who runs it."""

    noise: str
    spread: float
    workers: int
    name: str


class Found(NamedTuple):
    """One study: the share of fold-trainings saved, the regret, whether the best point was left out."""

    saved: float
    regret: float
    lost: bool
    #: Whether the chosen point is another one than without racing.
    other: bool


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--studies", type=int, default=1000, help="of each row")
    parser.add_argument("--peers", type=int, help="studies of each row of Optuna's (default: as many)")
    parser.add_argument("--spreads", type=common.numbers, default=list(_SPREADS), metavar="0,1,3,10")
    parser.add_argument("--workers", type=common.numbers, default=list(_WORKERS), metavar="4,64")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--real", type=int, default=4, help="studies through real workers")


def run(given: argparse.Namespace, report: Report) -> None:
    """Measure and print."""
    peers = given.studies if given.peers is None else given.peers
    report.say(common.machine())
    report.say(
        f"{studies.POINTS} points x {studies.FOLDS} folds; "
        "true scores: normal, their deviation is the spread times the fold noise; "
        f"error {contenders.ERROR:g}"
    )
    for noise, words in studies.NOISES.items():
        report.say(f"  {noise}: {words}")
    found: dict[Row, list[Found]] = {}
    for row, outcomes in _outcomes([*_rows(given, peers)], given.studies, peers, given.processes):
        found[row] = outcomes
        report.say(_shown(row, outcomes))
    _judge(report, found)
    with common.workplace(given, report) as place:
        real.measure(report, place, given.real)


def _rows(given: argparse.Namespace, peers: int) -> Iterator[Row]:
    """Yield ours first, which takes minutes; then Optuna's, which take an hour."""
    every = [
        Row(noise, spread, workers, name)
        for workers in given.workers
        for noise in studies.NOISES
        for spread in given.spreads
        for name in contenders.NAMES
    ]
    yield from (row for row in every if row.name in contenders.OURS)
    if peers:
        yield from (row for row in every if row.name not in contenders.OURS and row.noise in _COMPARED)


def _outcomes(rows: list[Row], count: int, peers: int, processes: int) -> Iterator[tuple[Row, list[Found]]]:
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        asked = {
            row: [
                pool.submit(_some, row, numbers)
                for numbers in _batches(count if row.name in contenders.OURS else peers)
            ]
            for row in rows
        }
        for row, waiting in asked.items():
            yield row, [one for batch in waiting for one in batch.result()]


def _batches(count: int, size: int = 50) -> Iterator[range]:
    for first in range(0, count, size):
        yield range(first, min(count, first + size))


def _some(row: Row, numbers: range) -> list[Found]:
    """Return how the studies *numbers* of *row* went."""
    contender = contenders.make(row.name)
    found = []
    for number in numbers:
        study = studies.study(row.noise, row.spread, number)
        outcome = contender(study, row.workers)
        found.append(
            Found(
                1 - outcome.trained / study.values.size,
                study.regret(outcome.chosen),
                study.best in outcome.out,
                outcome.chosen != study.best,
            )
        )
    return found


def _shown(row: Row, found: list[Found]) -> str:
    saved, regret, lost, other = (statistics.fmean(column) for column in zip(*found, strict=True))
    return (
        f"  {row.noise:11s} spread {row.spread:<4g} W={row.workers:<3d} {row.name:23s} "
        f"saved {saved:6.1%}  regret {regret:.3f}  best point left out {lost:6.2%}  "
        f"another one chosen {other:6.2%}  n={len(found)}"
    )


def _judge(report: Report, found: dict[Row, list[Found]]) -> None:
    least, workers, from_spread = _ASKED
    for row, outcomes in found.items():
        if row.name != "ours":
            continue
        saved = statistics.fmean(one.saved for one in outcomes)
        where = f"{row.noise}, spread {row.spread:g}, {row.workers} workers"
        if row.workers == workers and row.spread >= from_spread and row.noise in _COMPARED:
            report.figure(f"saved, {where}", 100 * saved, 100 * least, "%", at_least=True)
    lost = {row: statistics.fmean(one.lost for one in of) for row, of in found.items() if row.name == "ours"}
    worst = max(lost, key=lambda row: lost[row])
    named = f"{worst.noise}, spread {worst.spread:g}, {worst.workers} workers"
    what = f"best point left out, the worst of {len(lost)} rows ({named})"
    report.figure(what, 100 * lost[worst], 100 * contenders.ERROR, "%", at_least=False)
    more = [name for row in lost if (name := _worse(row, found))]
    named = f" ({'; '.join(more)})" if more else ""
    report.figure(f"rows with more regret than without racing{named}", len(more), 1, "rows", at_least=False)


def _worse(row: Row, found: dict[Row, list[Found]]) -> str:
    """Return the name of *row* where its regret is larger than without racing, beyond chance."""
    before = found[row._replace(name="no racing")]
    pairs = [one.regret - other.regret for one, other in zip(found[row], before, strict=True)]
    error = statistics.stdev(pairs) / len(pairs) ** 0.5
    if statistics.fmean(pairs) <= _SURE * error:
        return ""
    return f"{row.noise}, spread {row.spread:g}, {row.workers} workers: {statistics.fmean(pairs):.4f}"
