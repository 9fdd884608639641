"""1,200 trials with 50 reports each and nothing to do: our worker and our ledger beside Optuna's journal."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from collections.abc import Callable
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
_PEER: Final = "Optuna, JournalStorage with a file, random points"
_EACH: Final = "reporting alone, one fsync after another for every report"
_FORKS: Final = "a process of the template for every trial, and nothing in it"
_SPACE: Final = "".join(f"  parameter_{number}: {{uniform: [0, 1]}}\n" for number in range(peers.PARAMETERS))
_CODE: Final = f"""
def nothing(trial):
    trial.used(*trial.params)
    for step in range({_REPORTS}):
        trial.report(step, score=0.1 * step)
    return {{"score": 0.5}}
"""
#: `work`, but what is read of a trial's reports is on the disk before more of them is.
_SYNCED: Final = """
import sys
from hpc_search.cli import main
from hpc_search.ledger import Ledger

reports = Ledger.reports

def synced(ledger, *given):
    reports(ledger, *given)
    ledger.journal.sync()

Ledger.reports = synced
sys.exit(main(["work", *sys.argv[1:]]))
"""
#: The processes of all trials, and nothing in them.
_EMPTY: Final = """
import gc, os, sys, time
import hpc_search.runners.template

gc.collect()
gc.freeze()
started = time.perf_counter()
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
print(time.perf_counter() - started)
"""
#: fsyncs that the time of one is taken from.
_FSYNCS: Final = 200
_Way = Callable[[Path], float]


def measure(given: argparse.Namespace, report: Report, place: Path) -> None:
    """Print the seconds of each way, and how many times faster it is than Optuna's journal."""
    trials, rounds = given.trials, given.rounds
    report.say(f"{trials:,} trials x {_REPORTS} reports of nothing, one way at a time, {rounds} times each")
    ways: dict[str, _Way] = {
        _PEER: lambda root: _optuna(root, trials),
        "reporting alone (the calls of the ledger)": _ours(trials, lambda run: _calls(run, sync=False)),
        _EACH: _ours(trials, lambda run: _calls(run, sync=True)),
        "the whole `work`, a process for every trial": _ours(
            trials, lambda run: _worker(run, common.hpc("work"))
        ),
        "the whole `work`, every report fsynced": _ours(
            trials, lambda run: _worker(run, common.script(_SYNCED))
        ),
        _FORKS: lambda _: _forks(trials),
    }
    taken: dict[str, list[float]] = {words: [] for words in ways}
    for number in range(rounds):
        for place_of, (words, way) in enumerate(ways.items()):
            taken[words].append(way(place / f"{number}-{place_of}"))
    _say(report, taken)
    report.say(f"  one fsync of a line here: {common.spread(_fsyncs(place), 's')}")


def _say(report: Report, taken: dict[str, list[float]]) -> None:
    peer = statistics.median(taken[_PEER])
    for words, seconds in taken.items():
        report.say(f"  {words}: {common.spread(seconds, 's')}")
        times = peer / statistics.median(seconds)
        if words in (_EACH, _FORKS):
            # What the disk and the kernel take, whoever asks them.
            report.say(f"    {common.number(times)} times faster than Optuna's journal")
        elif words != _PEER:
            report.figure(f"{words}: over Optuna's journal", times, 10, "times", at_least=True)


def _ours(trials: int, way: Callable[[Layout], float]) -> _Way:
    """Return what plans a run, measures *way* on it, and refuses a time in which not all was done."""

    def measured(root: Path) -> float:
        layout = _planned(root, trials)
        seconds = way(layout)
        _check(layout, trials)
        return seconds

    return measured


def _forks(trials: int) -> float:
    done = subprocess.run(
        common.script(_EMPTY, trials), capture_output=True, text=True, check=True, cwd=common.ROOT
    )
    return float(done.stdout)


def _fsyncs(place: Path) -> list[float]:
    taken = []
    with (place / "line").open("ab", buffering=0) as file:
        for _ in range(_FSYNCS):
            file.write(bytes(120))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - started)
    return taken


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
