"""`bench restart` and `bench incarnations`: what a queue-wide restart costs, and how many files remain."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hpc_search.layout import Layout
from hpc_search.ledger import Ledger, history, read_index, this_process
from hpc_search.ledger.fold import fold
from hpc_search.planning import Numbering
from hpc_search.records import index
from hpc_search.records import journal as lines
from hpc_search.records.plan import Plan
from tools.benchmarks import common, synthetic
from tools.benchmarks.common import Report

#: No process has this number, so that whoever comes next sees a killed one as dead.
_NO_PID = 2**22 + 1


def add_restart(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench restart`."""
    parser.add_argument("--workers", type=int, default=64, help="workers started at once")
    parser.add_argument(
        "--trials", type=int, default=synthetic.DNA_POINTS, help="trials, nearly all finished"
    )
    parser.add_argument(
        "--index-lost", type=float, default=0.25, help="share of the ends that the index does not show"
    )


def run_restart(given: argparse.Namespace, report: Report) -> None:
    """Start many workers at once on a run whose workers were all killed: to reconcile it, and to end it."""
    with common.workplace(given, report) as place:
        what = f"{given.workers} workers restarted at once, {given.index_lost:.0%} of the index lost"
        layout = _killed(place / "reconciled", given)
        # They join, read what was done, give back what was interrupted, and find that nothing may be claimed.
        layout.stop.write_text("bench\n")
        restarted = _restart(layout, given)
        states = Counter(index.STATES[entry.state] for entry in read_index(layout)[1])
        report.say(f"exit codes {restarted.codes}; by the index {dict(states)}")
        wrong = states != {"done": given.trials - given.workers, "pending": given.workers}
        report.figure(f"{what}: trials in a wrong state", int(wrong), 1, "", at_least=False)
        report.figure(f"{what}: all of them have reconciled", restarted.seconds, 10.0, "s", at_least=False)

        layout = _killed(place / "ended", given)
        restarted = _restart(layout, given)
        done = sum(result.end.state == "done" for result in history.results(layout).values())
        report.say(
            f"without the stop: {done:,} of {given.trials:,} trials done after {restarted.seconds:.1f} s"
        )
        report.say(f"  from the start to an interrupted trial's next claim: {restarted.claims}")


class _Restarted(NamedTuple):
    codes: list[int]
    seconds: float
    claims: str


def _killed(place: Path, given: argparse.Namespace) -> Layout:
    """Return a run that is nearly done, each of whose workers was killed in the middle of a trial."""
    layout, plan = synthetic.dna_run(place, given.trials)
    finished = given.trials - given.workers
    synthetic.fill(layout, plan, finished, synthetic.Crew(workers=given.workers, killed=True), reports=2)
    if given.index_lost:
        # What a restart has then to find in the journals.
        _lose(layout, finished - int(given.index_lost * finished), finished)
    return layout


def _restart(layout: Layout, given: argparse.Namespace) -> _Restarted:
    """Start as many workers again, on the same seats; return how they ended."""
    old = set(history.live_workers(layout))
    began, clock = time.perf_counter(), time.time()
    workers = [
        subprocess.Popen(
            common.hpc("work", layout.root, "--token", "bench", "--seat", f"local:{number}"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in range(given.workers)
    ]
    codes = sorted({worker.wait() for worker in workers})
    seconds = time.perf_counter() - began
    return _Restarted(codes, seconds, _after(clock, _claims(layout, old)))


def _after(clock: float, times: list[float]) -> str:
    return common.spread([when - clock for when in times], "s")


def _lose(layout: Layout, first: int, end: int) -> None:
    """Let the index forget the trials *first* to *end* - 1."""
    with layout.claims.open("r+b") as file:
        header = index.parse_header(file.read(index.HEADER_BYTES))
        if header is not None:
            file.seek(0)
            file.write(index.encode_header(header._replace(finals=first, cursor=first)))
        file.seek(index.entry_offset(first))
        file.write(bytes((end - first) * index.RECORD_BYTES))


def _claims(layout: Layout, old: set[str]) -> list[float]:
    """Return when workers that are not *old* claimed a trial."""
    found = history.lines(layout, frozenset({b"claim"}))
    records = (lines.parse_line(line.data) for line in found if line.worker not in old)
    return [record.t for record in records if record is not None]


def add_incarnations(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench incarnations`."""
    parser.add_argument("--workers", type=int, default=64, help="seats")
    parser.add_argument(
        "--incarnations", type=int, default=300, help="workers on each seat, one after the other"
    )


def run_incarnations(given: argparse.Namespace, report: Report) -> None:
    """Start every seat again and again, half of the workers killed; count the files of the run."""
    with common.workplace(given, report) as place:
        layout, plan = synthetic.dna_run(place / "site", synthetic.DNA_POINTS)
        numbering = Numbering(plan)
        most, costs = 0, []
        for incarnation in range(given.incarnations):
            began = time.perf_counter()
            for seat in range(given.workers):
                _live(layout, plan, numbering, seat, incarnation)
            costs.append((time.perf_counter() - began) / given.workers)
            most = max(most, files(layout.root))
        report.say(f"one incarnation: {common.spread(costs, 's')}; the last one {costs[-1]:.3f} s")
        report.say(f"median of the last tenth: {statistics.median(costs[-max(1, len(costs) // 10) :]):.3f} s")
        name = f"{given.workers} workers x {given.incarnations} incarnations: most files at any time"
        report.figure(name, most, 1000, "files", at_least=False)


def _live(layout: Layout, plan: Plan, numbering: Numbering, seat: int, incarnation: int) -> None:
    """Do what a worker does that is started, finishes one trial, and leaves or is killed in the next."""
    me = replace(this_process("bench", f"local:{seat}"), restart=incarnation, pid=_NO_PID)
    ledger = Ledger(layout, plan, numbering, me)
    ledger.beat()
    ledger.recover()
    fold(layout, ledger.me)
    for claimed in ledger.claim(1):
        trial = claimed.trial
        ledger.start(claimed, 7, 0)
        end = lines.End(
            trial=trial.number, attempt=claimed.attempt, state="done", params=trial.params, value=0.5
        )
        ledger.finish(end)
    if (seat + incarnation) % 2:
        ledger.exit("bench")
    else:
        ledger.claim(1)
        ledger.close()


def files(root: Path) -> int:
    """Return the number of files and links below *root*."""
    return sum(len(names) for _, _, names in os.walk(root))
