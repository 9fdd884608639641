"""The subcommands of tools/bench."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from tools.benchmarks import (
    checkpoint,
    grid,
    ledger,
    overhead,
    packing,
    plan,
    racing,
    restart,
    search,
    slots,
    startup,
    status_collect,
    studies,
)
from tools.benchmarks.common import Report, add_common


class Bench(NamedTuple):
    """One subcommand."""

    summary: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Report], None]


_BENCHES: Final = {
    "ledger": Bench("claim + 10 reports + durable finish by many processes", ledger.add, ledger.run),
    "plan": Bench("`plan` of 54,675 and 10^6 points and of 1,000 of 10^18", plan.add, plan.run),
    "status": Bench(
        "`status` on 54,675 finished trials", status_collect.add_status, status_collect.run_status
    ),
    "collect": Bench(
        "`collect` of 10,000 and 100,000 finished trials",
        status_collect.add_collect,
        status_collect.run_collect,
    ),
    "checkpoint": Bench("save and load of a training's state", checkpoint.add, checkpoint.run),
    "overhead": Bench("start to start of two trivial trials in one worker", overhead.add, overhead.run),
    "grid": Bench("every trial of the DNA grid once, by hand: minutes", grid.add, grid.run),
    "restart": Bench(
        "64 workers restarted at once on a run of 54,675", restart.add_restart, restart.run_restart
    ),
    "incarnations": Bench(
        "files after 64 workers x 300 incarnations", restart.add_incarnations, restart.run_incarnations
    ),
    "slots": Bench(
        "trials of 1 s, of 0.01 s and CPU-bound ones on 16 slots of real SLURM", slots.add, slots.run
    ),
    "packing": Bench(
        "1, 2, 4 and 8 workers on one GPU, with and without MPS: needs a GPU", packing.add, packing.run
    ),
    "search": Bench(
        "strategies, early stopping and their cost, beside Optuna's own: 25 minutes", search.add, search.run
    ),
    "racing": Bench(
        "folds left out of simulated cross-validations, beside Optuna's pruners: an hour",
        racing.add,
        racing.run,
    ),
    "stats": Bench(
        "coverage of intervals and sets on simulated studies with known truth", studies.add, studies.run
    ),
    "help": Bench("`--help`, and what an import of the core loads", startup.add, startup.run),
}


def main(arguments: Sequence[str]) -> int:
    """Run one bench; 0, with --strict 1 where a figure was missed, 2 where it could not be measured."""
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measures hpc_search beside its peers; prints PASS or FAIL against the asked figures.",
    )
    benches = parser.add_subparsers(title="benches", metavar="BENCH", required=True)
    for name, bench in _BENCHES.items():
        one = benches.add_parser(name, help=bench.summary, description=bench.summary)
        bench.add(one)
        add_common(one)
        one.set_defaults(run=bench.run, what=name)
    given = parser.parse_args(arguments)
    report = Report()
    try:
        given.run(given, report)
    except RuntimeError as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return 2
    if report.missed:
        report.say(f"bench {given.what}: {len(report.missed)} figures missed: {'; '.join(report.missed)}")
    return 1 if report.missed and given.strict else 0
