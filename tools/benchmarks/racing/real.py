"""The same studies through real ledgers and referees: what they decide is what was simulated."""

from __future__ import annotations

import heapq
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from hpc_search.layout import Layout
from hpc_search.ledger import Claimed, Ledger, history
from hpc_search.records.plan import Plan
from hpc_search.steering.referee import Referee
from tools.benchmarks import common, synthetic
from tools.benchmarks.common import Report
from tools.benchmarks.racing import contenders, studies
from tools.benchmarks.racing.studies import Study
from tools.benchmarks.search import ledgers

_SEARCH: Final = """\
name: racing
trial: bench_trial.py:value
metric: {{name: score, goal: max}}
space: {{point: {{int: [0, {last}]}}}}
strategy: grid
data: {{index: data.csv, id: id, label: y}}
folds: {{kfold: {folds}}}
racing: {{error: {error}}}
"""
_CODE: Final = """\
import json
from pathlib import Path

def value(trial):
    table = json.loads(Path({path!r}).read_text())
    return {{"score": table[trial.params["point"]][trial.fold]}}
"""
_SPREADS: Final = (1.0, 3.0)
_WORKERS: Final = 4


def measure(report: Report, place: Path, count: int) -> None:
    """Print how many studies were decided as simulated: four ledgers in their order, and one real worker."""
    same = {"4 workers' ledgers and referees": 0, "1 worker, its trials in processes of their own": 0}
    saved = 0
    for number in range(count):
        study = studies.study("independent", _SPREADS[number % len(_SPREADS)], number)
        for (words, known), way, workers in zip(
            same.items(), (_ledgers, _worker), (_WORKERS, 1), strict=True
        ):
            simulated = contenders.ours(study, workers)
            left_out = way(place / f"{number}-{workers}", study)
            same[words] = known + (left_out == sorted(simulated.decisions))
            saved += len(left_out)
    report.say(f"{count} studies through our real code; {saved} fold-trainings left out")
    for words, found in same.items():
        report.figure(f"decided as simulated: {words}", found, count, "studies", at_least=True)


def _planned(place: Path, study: Study) -> tuple[Layout, Plan]:
    points, folds = study.values.shape
    place.mkdir(parents=True)
    rows = "".join(f"s{row},{row % 2}\n" for row in range(4 * folds))
    (place / "data.csv").write_text(f"id,y\n{rows}")
    table = place / "table.json"
    table.write_text(str(study.values.tolist()))
    text = _SEARCH.format(last=points - 1, folds=folds, error=contenders.ERROR)
    return synthetic.planned(place, text, _CODE.format(path=str(table)))


def _worker(place: Path, study: Study) -> list[int]:
    layout, _ = _planned(place, study)
    common.timed([*common.hpc("work"), str(layout.root)])
    return _left_out(layout)


def _left_out(layout: Layout) -> list[int]:
    return sorted(number for number, one in history.results(layout).items() if one.end.state == "pruned")


def _ledgers(place: Path, study: Study) -> list[int]:
    """Let four workers claim, judge and finish in the order of the simulation."""
    layout, plan = _planned(place, study)
    with ExitStack() as stack:
        free = [stack.enter_context(ledgers.joined(layout, plan, lambda _: None)) for _ in range(_WORKERS)]
        referees = {ledger.id: Referee.of(ledger) for ledger in free}
        busy: list[tuple[float, int, Ledger, Claimed]] = []
        clock = 0.0
        while free or busy:
            ledger = free.pop() if free else None
            claimed = _next(ledger, referees[ledger.id]) if ledger is not None else None
            if ledger is not None and claimed is not None:
                fold = claimed.trial.fold or 0
                seconds = float(study.seconds[claimed.trial.point, fold])
                heapq.heappush(busy, (clock + seconds, claimed.trial.number, ledger, claimed))
            if not free and busy:
                clock, _, ledger, claimed = heapq.heappop(busy)
                ledgers.finish(
                    ledger, claimed, float(study.values[claimed.trial.point, claimed.trial.fold or 0])
                )
                free.append(ledger)
    return _left_out(layout)


def _next(ledger: Ledger, referee: Referee | None) -> Claimed | None:
    """Return the next trial that runs, as `worker.rungs` finds it."""
    while referee is not None:
        claimed = referee.advance() or ledger.claim()
        kept = referee.sift(claimed)
        if kept or not claimed:
            return kept[0] if kept else None
    return None
