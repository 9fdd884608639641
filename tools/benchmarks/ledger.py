"""`bench ledger`: claim + 10 reports + durable finish, by 1, 8 and 32 processes, beside Optuna's storages."""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from hpc_search import mounts
from hpc_search.layout import Layout
from hpc_search.ledger import Claimed, Ledger, history, library_versions, this_process
from hpc_search.planning import Numbering
from hpc_search.records import journal as lines
from hpc_search.records.plan import Plan
from tools.benchmarks import common, peers, synthetic, windows
from tools.benchmarks.common import Report
from tools.benchmarks.windows import Sample, Window

#: Trials that a window cannot use up: more than any rate here times its seconds.
_PER_SECOND: Final = 20_000
#: Trials claimed at a time, by the way of claiming.
_AHEAD: Final = {"lock": 8, "exclusive": 32}
_MODES: Final = {"ours": "hpc_search, one fsync a trial", "synced": "hpc_search, every report fsynced"}
_PEERS: Final = {"journal": "Optuna JournalStorage", "sqlite": "Optuna RDBStorage, SQLite"}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--workers", type=common.numbers, default=[1, 8, 32], metavar="1,8,32")
    parser.add_argument(
        "--finished",
        type=common.numbers,
        default=[0],
        metavar="0,1000000",
        help="trials finished before the window; several are measured in turns",
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="window of ours")
    parser.add_argument(
        "--peer-seconds", type=float, default=12.0, help="window of a peer (its workers sleep)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of ours")
    parser.add_argument("--peer-rounds", type=int, default=1, help="rounds that include the peers")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--sync-reports",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also with every report fsynced",
    )

    parser.add_argument(
        "--ahead",
        type=int,
        default=0,
        help="trials claimed at a time (default: 8 by the lock, 32 by names; a worker takes up to 256 of so "
        "short ones; 1 is a lock at its worst)",
    )
    parser.add_argument(
        "--claiming",
        choices=("lock", "exclusive"),
        help="how trials are claimed (default: what `plan` chooses for the mount)",
    )
    parser.add_argument(
        "--second-mount",
        type=Path,
        metavar="DIR",
        help="what --dir is called by a second client of its file system: half of the processes use that",
    )


@dataclass(slots=True)
class Cell:
    """All rounds of one way with one number of workers."""

    rates: list[float] = field(default_factory=list)
    claim: list[float] = field(default_factory=list)
    finish: list[float] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)
    twice: int = 0
    lost: int = 0

    def add(self, window: Window) -> None:
        """Take one window."""
        self.rates.append(window.rate)
        self.claim += window.waits("claim")
        self.finish += window.waits("finish")
        self.opened += [sample.opened for sample in window.samples]


class Key(NamedTuple):
    """What a cell measures."""

    mode: str
    workers: int
    finished: int


def run(given: argparse.Namespace, report: Report) -> None:
    """Measure and print."""
    if given.claiming:
        os.environ[mounts.VARIABLE] = given.claiming
    with common.workplace(given, report) as place:
        modes = ["ours", "synced"] if given.sync_reports else ["ours"]
        cells: dict[Key, Cell] = {}
        windows_made = itertools.count()
        for number in range(given.rounds):
            with_peers = given.peers and number < given.peer_rounds
            for workers in given.workers:
                for finished in given.finished:
                    for mode in modes:
                        key = Key(mode, workers, finished)
                        cell = cells.setdefault(key, Cell())
                        # A new name each time: the other client may have the old one in its cache.
                        _ours(place / f"ours-{next(windows_made)}", key, cell, given)
                for peer in _PEERS if with_peers else ():
                    cell = cells.setdefault(Key(peer, workers, 0), Cell())
                    opener = peers.opener(peer, place / f"{peer}-{workers}-{number}")
                    cell.add(windows.run_window(opener, workers, given.peer_seconds))
            report.say(f"round {number + 1} of {given.rounds} done")
        _print(cells, given, report)


def _ours(place: Path, key: Key, cell: Cell, given: argparse.Namespace) -> None:
    layout, plan = synthetic.dna_run(place, key.finished + int(_PER_SECOND * max(1.0, given.seconds)))
    if key.finished:
        synthetic.mark_finished(layout, plan, key.finished)
    layouts = [layout]
    if given.second_mount is not None:
        # place is DIR/hpc-search-bench-.../ours-N
        layouts.append(Layout(given.second_mount / place.parent.name / place.name / "run"))
    opener = _opener(layouts, plan, sync=key.mode == "synced", ahead=given.ahead)
    window = windows.run_window(opener, key.workers, given.seconds)
    cell.add(window)
    twice, ended = check_journals(layout)
    cell.twice += twice
    cell.lost += max(0, sum(sample.trials for sample in window.samples) - ended)
    shutil.rmtree(place)


def _opener(layouts: list[Layout], plan: Plan, *, sync: bool, ahead: int) -> windows.Opener:
    def opened(sample: Sample) -> tuple[Callable[[], bool], Callable[[], None]]:
        # The processes are forked one after the other: their numbers alternate.
        layout = layouts[os.getpid() % len(layouts)]
        me = this_process(seat="bench")
        nonlocal ahead
        ledger = Ledger(layout, plan, Numbering(plan), me, library_versions())
        ahead = ahead or _AHEAD[ledger.claiming]
        queue: list[Claimed] = []

        def one() -> bool:
            return one_trial(ledger, queue, sample, me.host, sync=sync, ahead=ahead)

        def close() -> None:
            ledger.give_back(queue)
            ledger.exit("bench")

        return one, close

    return opened


def one_trial(
    ledger: Ledger,
    queue: list[Claimed],
    sample: Sample,
    node: str,
    *,
    sync: bool,
    ahead: int = 1,
    reports: int = synthetic.REPORTS,
) -> bool:
    """Do with the ledger what a worker does for one trial; False where nothing is left."""
    clock = time.perf_counter
    if not queue:
        began = clock()
        queue += ledger.claim(ahead)
        sample.wait("claim", clock() - began)
    if not queue:
        return False
    claimed = queue.pop(0)
    trial, attempt = claimed.trial, claimed.attempt
    started = time.time()
    ledger.start(claimed, 7, 0)
    for step in range(reports):
        ledger.report(trial.number, attempt, step, {"score": 0.1 * step})
        if sync:
            ledger.journal.sync()
    end = lines.End(
        trial=trial.number,
        attempt=attempt,
        state="done",
        params=trial.params,
        point=trial.point,
        fold=trial.fold,
        seed=trial.seed,
        block=trial.block,
        value=0.5,
        metrics={"score": 0.5},
        step=reports,
        seconds=0.01,
        started=started,
        node=node,
        device="cpu",
        log=(0, 0),
    )
    began = clock()
    ledger.finish(end)
    sample.wait("finish", clock() - began)
    return True


def check_journals(layout: Layout) -> tuple[int, int]:
    """Return (attempts claimed twice, trials with a final end record), from the journals.

    What is given back at the end of a window may be claimed again, as another attempt.
    """
    claims: Counter[tuple[int, int]] = Counter()
    ends: set[int] = set()
    for line in history.lines(layout, frozenset({b"claim", b"end"})):
        record = lines.parse_line(line.data)
        if isinstance(record, lines.Claim):
            claims[record.trial, record.attempt] += 1
        elif isinstance(record, lines.End) and record.state in lines.FINAL:
            ends.add(record.trial)
    return sum(count > 1 for count in claims.values()), len(ends)


def _print(cells: dict[Key, Cell], given: argparse.Namespace, report: Report) -> None:
    what = f"claim ({given.ahead or 'some'} at a time) + start + {synthetic.REPORTS} reports + durable finish"
    report.say(f"{what}, 9 parameters; trials a second")
    for key, cell in cells.items():
        name = (_MODES | _PEERS)[key.mode]
        rates = common.spread(cell.rates)
        report.say(f"  {name:36} W={key.workers:<3} {rates:>32}/s{_ratio(cells, key)}")
        if key.mode in _MODES:
            report.say(f"    waits in ms: claim {_waits(cell.claim)}; finish {_waits(cell.finish)}")
            opened = common.spread(cell.opened, "s")
            report.say(f"    claimed twice {cell.twice}, lost {cell.lost}; joining the run {opened}")
    for key, cell in cells.items():
        if key.mode in _MODES:
            _figures(cells, key, cell, report)


def _waits(seconds: list[float]) -> str:
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    parts = [
        f"{name} {common.number(1e3 * common.quantile(seconds, share))}" for name, share in shares.items()
    ]
    return ", ".join([*parts, f"max {common.number(1e3 * max(seconds, default=0.0))}"])


def _peer_rate(cells: dict[Key, Cell], peer: str, workers: int) -> float:
    cell = cells.get(Key(peer, workers, 0))
    return statistics.median(cell.rates) if cell is not None else 0.0


def _ratio(cells: dict[Key, Cell], key: Key) -> str:
    if key.mode in _PEERS:
        return ""
    ours = statistics.median(cells[key].rates)
    rates = {words: _peer_rate(cells, peer, key.workers) for peer, words in _PEERS.items()}
    found = [f"{common.number(ours / rate)} x {words}" for words, rate in rates.items() if rate > 0]
    text = f" = {', '.join(found)}" if found else ""
    return f" with {key.finished:,} finished before{text}"


def _figures(cells: dict[Key, Cell], key: Key, cell: Cell, report: Report) -> None:
    rate, times = {"ours": (4000.0, 50.0), "synced": (1500.0, 20.0)}[key.mode]
    name = f"{_MODES[key.mode]}, {key.workers} processes, {key.finished:,} finished"
    report.figure(f"{name}: claimed twice or lost", cell.twice + cell.lost, 1, "trials", at_least=False)
    if key.workers != 32:
        return
    found = statistics.median(cell.rates)
    report.figure(name, found, rate, "trials/s", at_least=True)
    if key.mode == "ours":
        slowest = max(common.quantile(cell.claim, 0.999), common.quantile(cell.finish, 0.999))
        report.figure(f"{name}: 99.9th percentile of waits", slowest, 0.25, "s", at_least=False)
    peer = _peer_rate(cells, "journal", key.workers)
    if peer > 0:
        report.figure(f"{name}: over Optuna's journal", found / peer, times, "times", at_least=True)
