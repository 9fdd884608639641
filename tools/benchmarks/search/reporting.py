"""1,200 trials with 50 reports each and nothing to do: our worker and our ledger beside Optuna's journal."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Final

from hpc_search.layout import Layout
from hpc_search.ledger import Claimed, Ledger, history, library_versions, this_process
from hpc_search.planning import Numbering
from hpc_search.records import journal as lines
from tools.benchmarks import common, ledger, peers, synthetic
from tools.benchmarks.common import Report
from tools.benchmarks.windows import Sample

_REPORTS: Final = 50
_SPACE: Final = "".join(f"  parameter_{number}: {{uniform: [0, 1]}}\n" for number in range(peers.PARAMETERS))
_CODE: Final = f"""
def nothing(trial):
    trial.used(*trial.params)
    for step in range({_REPORTS}):
        trial.report(step, score=0.1 * step)
    return {{"score": 0.5}}
"""
#: Printed beside the others: no worker does it, and Optuna neither forks nor isolates a trial.
_BOTH: Final = "`work`, a process for every trial and every report fsynced"
#: `work`, but every report is on the disk before the next one is read.
_SYNCED: Final = """
import sys
from hpc_search.cli import main
from hpc_search.ledger import Ledger

report = Ledger.report

def synced(ledger, *given):
    report(ledger, *given)
    ledger.journal.sync()

Ledger.report = synced
sys.exit(main(["work", *sys.argv[1:]]))
"""


def measure(given: argparse.Namespace, report: Report, place: Path) -> None:
    """Print the seconds of each way, and how many times faster it is than Optuna's journal."""
    trials = given.trials
    report.say(f"{trials:,} trials x {_REPORTS} reports of nothing, one process at a time, seconds")
    peer = _optuna(place / "optuna", trials)
    report.say(f"  Optuna, JournalStorage with a file, random points: {common.number(peer)} s")
    ways = {
        "`work`, a process for every trial": lambda root: _worker(root, common.hpc("work")),
        _BOTH: lambda root: _worker(root, common.script(_SYNCED)),
        "ledger calls alone": lambda root: _calls(root, sync=False),
        "ledger calls alone, every report fsynced": lambda root: _calls(root, sync=True),
    }
    for number, (words, way) in enumerate(ways.items()):
        layout = _planned(place / f"ours-{number}", trials)
        seconds = way(layout)
        _check(layout, trials)
        report.say(f"  {words}: {common.number(seconds)} s, {common.number(peer / seconds)} times faster")
        if words != _BOTH:
            report.figure(f"{words}: over Optuna's journal", peer / seconds, 10, "times", at_least=True)


def _planned(place: Path, trials: int) -> Layout:
    strategy = f"{{random: {{points: {trials}, seed: 0}}}}"
    path = synthetic.write_search(place, synthetic.search_text(_SPACE, strategy), _CODE)
    common.timed(common.hpc("plan", path, "--run", place / "run"))
    return Layout(place / "run")


def _worker(layout: Layout, argv: list[str]) -> float:
    return common.timed([*argv, str(layout.root)])


def _calls(layout: Layout, *, sync: bool) -> float:
    from hpc_search.planning import load_plan

    plan = load_plan(layout)
    started = time.perf_counter()
    me = this_process(seat="bench")
    joined = Ledger(layout, plan, Numbering(plan), me, library_versions())
    queue: list[Claimed] = []
    while ledger.one_trial(joined, queue, Sample(), me.host, sync=sync, ahead=8, reports=_REPORTS):
        pass
    joined.exit("bench")
    return time.perf_counter() - started


def _check(layout: Layout, trials: int) -> None:
    """Refuse a time in which not everything was done."""
    counts = {b"report": 0, b"end": 0}
    for line in history.lines(layout, frozenset(counts)):
        record = lines.parse_line(line.data)
        counts[b"end" if isinstance(record, lines.End) else b"report"] += 1
    if counts != {b"report": trials * _REPORTS, b"end": trials}:
        raise RuntimeError(f"{layout.root} has {counts}, not {trials} trials with {_REPORTS} reports each")


def _optuna(place: Path, trials: int) -> float:
    place.mkdir(parents=True)
    study = peers.study("journal", place)
    started = time.perf_counter()
    for _ in range(trials):
        peers.one_trial(study, _REPORTS)
    return time.perf_counter() - started
