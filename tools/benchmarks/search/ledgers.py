"""Searches through our real ledger in one process: planned, claimed, proposed and finished as by a worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpc_search.layout import Layout
from hpc_search.ledger import Claimed, Ledger, library_versions, this_process
from hpc_search.ledger.proposing import Proposer
from hpc_search.records import journal as lines
from hpc_search.records.plan import Plan
from hpc_search.steering.points import Points
from tools.benchmarks.search.functions import Problem
from tools.benchmarks.synthetic import planned


def made(place: Path, problem: Problem, kind: str, points: int, seed: int) -> tuple[Layout, Plan]:
    """Plan a search by the strategy *kind* below *place*."""
    return planned(place, problem.search(kind, points, seed))


@contextmanager
def joined(layout: Layout, plan: Plan, proposer: Proposer) -> Iterator[Ledger]:
    """Give the ledger of a worker whose points *proposer* chooses."""
    points = Points(layout, plan)
    ledger = Ledger(
        layout,
        plan,
        points,
        this_process(seat="bench"),
        library_versions(),
        proposals=points.proposals,
        proposer=proposer,
    )
    try:
        yield ledger
    finally:
        ledger.exit("bench")


def finish(ledger: Ledger, claimed: Claimed, value: float, reports: int = 0) -> None:
    """Run *claimed*: start, *reports* and a durable end with *value*."""
    trial, attempt = claimed.trial, claimed.attempt
    ledger.start(claimed, 7, 0)
    for step in range(reports):
        ledger.report(trial.number, attempt, step, {"loss": value + 1 / (step + 1)})
    ledger.finish(
        lines.End(
            trial=trial.number,
            attempt=attempt,
            state="done",
            params=trial.params,
            point=trial.point,
            fold=trial.fold,
            seed=trial.seed,
            block=trial.block,
            value=value,
            metrics={"loss": value},
            step=reports,
            seconds=0.01,
            started=time.time(),
            node=ledger.me.host,
            device="cpu",
            log=(0, 0),
        )
    )
