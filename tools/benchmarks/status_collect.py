"""`bench status` and `bench collect`: whole commands on finished runs, beside Optuna's trials_dataframe."""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Final

from hpc_search.layout import Layout
from tools.benchmarks import common, peers, synthetic
from tools.benchmarks.common import Report

_WORKERS: Final = 32
_FIGURES: Final = {10_000: 1.0, 100_000: 4.0}
_DATAFRAME: Final = """
import sys, time
from pathlib import Path
import optuna, pandas
from tools.benchmarks import peers
optuna.logging.set_verbosity(optuna.logging.ERROR)
started = time.perf_counter()
study = optuna.load_study(study_name="bench", storage=peers.storage("journal", Path(sys.argv[1])))
frame = study.trials_dataframe()
best = study.best_params
seconds = time.perf_counter() - started
assert len(frame) == int(sys.argv[2])
print(seconds)
"""


def add_status(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of status."""
    parser.add_argument("--trials", type=int, default=synthetic.DNA_POINTS)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--failures", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)


def add_collect(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of collect."""
    parser.add_argument("--trials", type=common.numbers, default=[10_000, 100_000], metavar="10000,100000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)


def run_status(given: argparse.Namespace, report: Report) -> None:
    """Measure `status` of a run that goes on: live workers on another machine, and failures."""
    with common.workplace(given, report) as place:
        layout, plan = synthetic.dna_run(place, given.trials)
        finished = min(given.trials, plan.trials) - given.workers
        crew = synthetic.Crew(
            workers=given.workers, killed=True, failed=max(1, finished // given.failures), host="node-07"
        )
        synthetic.fill(layout, plan, finished, crew, reports=1)
        for worker in layout.workers.iterdir():
            layout.heartbeat(worker.name).write_bytes(b"{}")
        what = f"{given.trials:,} trials, {given.workers} live workers, {given.failures} failures"
        for options in (("--json",), ()):
            argv = common.hpc("status", layout.root, *options)
            name = " ".join(["status", *options])
            first = []
            for _ in range(given.rounds):
                shutil.rmtree(layout.cache, ignore_errors=True)
                first.append(common.timed(argv))
            found = [common.timed(argv) for _ in range(given.rounds)]
            report.say(f"{name}, whole command, {what}")
            report.say(f"  first time {common.spread(first, 's')}; again {common.spread(found, 's')}")
            report.figure(
                f"{name} on {given.trials:,} trials, first",
                statistics.median(first),
                0.5,
                "s",
                at_least=False,
            )


def run_collect(given: argparse.Namespace, report: Report) -> None:
    """Measure `collect`."""
    with common.workplace(given, report) as place:
        for trials in given.trials:
            _collect(place, trials, given, report)


def _collect(place: Path, trials: int, given: argparse.Namespace, report: Report) -> None:
    layout, plan = synthetic.dna_run(place / f"ours-{trials}", trials)
    synthetic.fill(layout, plan, trials, synthetic.Crew(workers=_WORKERS))
    first: list[float] = []
    again: list[float] = []
    argv = common.hpc("collect", layout.root)
    for _ in range(given.rounds):
        _forget(layout)
        first.append(common.timed(argv))
        again.append(common.timed(argv))
    what = f"{trials:,} finished trials, {synthetic.REPORTS} reports each, {_WORKERS} journals"
    report.say(f"collect, whole command, {what}")
    report.say(f"  first time {common.spread(first, 's')}; again {common.spread(again, 's')}")
    if given.peers and trials <= 10_000:
        _dataframe(place, trials, statistics.median(first), report)
    asked = _FIGURES.get(trials, trials * 4.0 / 100_000)
    report.figure(f"collect of {trials:,} trials", statistics.median(first), asked, "s", at_least=False)


def _forget(layout: Layout) -> None:
    """Remove what an earlier collect made, seals included."""
    for path in (layout.results, layout.cache):
        shutil.rmtree(path, ignore_errors=True)
    for path in layout.seals.iterdir():
        path.unlink()
    layout.audit.unlink(missing_ok=True)


def _dataframe(place: Path, trials: int, ours: float, report: Report) -> None:
    import optuna

    folder = place / "optuna"
    folder.mkdir()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name="bench", storage=peers.storage("journal", folder), direction="maximize"
    )
    distribution = optuna.distributions.FloatDistribution(0.0, 1.0)
    names = [f"parameter_{number}" for number in range(peers.PARAMETERS)]
    for number in range(trials):
        study.add_trial(
            optuna.trial.create_trial(
                params={name: (number * (place + 1) % 997) / 997 for place, name in enumerate(names)},
                distributions=dict.fromkeys(names, distribution),
                intermediate_values={step: 0.1 * step for step in range(synthetic.REPORTS)},
                value=(number % 991) / 991,
            )
        )
    argv = common.script(_DATAFRAME, folder, trials)
    outputs = [
        subprocess.run(argv, capture_output=True, text=True, check=True, cwd=common.ROOT).stdout
        for _ in range(3)
    ]
    found = [float(text) for text in outputs]
    ratio = common.number(statistics.median(found) / ours)
    name = "Optuna load_study + trials_dataframe, imports not counted"
    report.say(f"  {name}: {common.spread(found, 's')}: {ratio} x ours")
