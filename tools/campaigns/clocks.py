"""Workers whose clocks are wrong by hours or days, or run too fast or too slow, the monotonic ones too."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tools.campaigns import checker
from tools.campaigns.common import (
    Crew,
    Rules,
    Site,
    Tally,
    Witness,
    Workload,
    all_ended,
    on_host,
    reference,
    verdict,
)

HELP = "workers with wrong clocks: off by hours and days, at 0.2 to 30 times speed (libfaketime)"
LIBRARIES: Final = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
RATES: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 30.0)
_DAY: Final = 86400
_POLL, _BETWEEN_KILLS, _SAMPLE = 0.03, 1.5, 1.0


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the campaign."""
    parser.add_argument("--trials", type=int, default=200, help="at least so many trials")
    parser.add_argument(
        "--workers", type=int, default=4, help="workers at a time, each with a clock of its own"
    )
    parser.add_argument("--points", type=int, default=20, help="points of a run, two seeds each")
    parser.add_argument(
        "--lease", type=float, default=2.0, help="lease in seconds, of each worker's own clock"
    )
    parser.add_argument(
        "--claiming", default="", help="lock or exclusive; the planner's choice where not given"
    )


def library() -> Path | None:
    """Return libfaketime, None where it is not installed."""
    found = [path for root in LIBRARIES for path in Path(root).glob("**/faketime/libfaketimeMT.so.1")]
    return found[0] if found else None


def run(args: argparse.Namespace) -> Tally:
    """Work one run after the other by workers with wrong clocks, some of them killed.

    Raises:
        SystemExit: libfaketime is not installed.
    """
    preload = library()
    if preload is None:
        raise SystemExit("clocks: libfaketime is not installed: apt-get install faketime")
    tally = Tally()
    draw = random.Random(args.seed)
    workload = Workload(points=args.points, steps=6, pause=0.02, lease=args.lease, claiming=args.claiming)
    rounds = 0
    while tally.counts["trials"] < args.trials and not tally.problems:
        rounds += 1
        site = Site(Path(args.directory) / f"run-{rounds:04d}", workload)
        shift = _Shift(site, random.Random(draw.random()), args.workers, preload)
        shift.work()
        tally.counts += shift.counts + shift.crew.counts
        tally.problems += [
            f"run {rounds}: {problem}" for problem in (*shift.crew.problems, *_judge(site, shift, tally))
        ]
        if not tally.problems:
            shutil.rmtree(site.root)
    tally.counts["runs"] = rounds
    return tally


def _judge(site: Site, shift: _Shift, tally: Tally) -> list[str]:
    problem = site.work_to_the_end()
    if problem:
        return [problem]
    shift.witness.sample()
    facts = checker.facts_of(site.layout)
    tally.counts["trials"] += site.workload.trials
    tally.counts["attempts"] += checker.attempts(facts)
    tally.counts["trials taken over"] += sum(end.cause == "lost" for _, _, end in facts.ends)
    tally.counts["results superseded"] += facts.notes["superseded"]
    tally.counts["duplicate attempts that ended"] += checker.duplicates(facts)
    rules = Rules(stamps=False, reports_lost=True, temporaries=shift.counts["kills"])
    found = verdict(site.run, reference(site.workload), rules)
    return [*shift.witness.problems, *site.tracebacks(), *found]


class _Shift:
    """Workers on one run, no two with the same clock."""

    def __init__(self, site: Site, draw: random.Random, workers: int, preload: Path) -> None:
        self._site = site
        self._draw = draw
        self._preload = preload
        self.witness = Witness(site.layout)
        self.crew = Crew(site, workers, self._start)
        self.counts: Counter[str] = Counter()

    def work(self) -> None:
        """Work until every trial has ended."""
        next_kill = next_sample = time.monotonic() + _BETWEEN_KILLS
        with all_ended(self.crew.running) as running:
            while self.crew.staff():
                time.sleep(_POLL)
                if running and time.monotonic() >= next_kill:
                    next_kill = time.monotonic() + self._draw.expovariate(1 / _BETWEEN_KILLS)
                    self._draw.choice(running).send_signal(signal.SIGKILL)
                    self.counts["kills"] += 1
                if time.monotonic() >= next_sample:
                    self.witness.sample()
                    next_sample = time.monotonic() + _SAMPLE
            self.crew.end()

    def _start(self) -> subprocess.Popen[bytes]:
        offset = self._draw.choice(
            (0, self._draw.uniform(-30, 30) * _DAY, self._draw.uniform(-12, 12) * 3600)
        )
        rate = self._draw.choice(RATES)
        self.counts["workers at a wrong time"] += offset != 0
        self.counts[f"workers at {rate:g} times speed"] += 1
        clock = {
            "LD_PRELOAD": str(self._preload),
            "FAKETIME": f"{offset:+.3f}s x{rate:g}",
            # The other way round libfaketime makes every sleep of Python fail.
            "FAKETIME_DONT_FAKE_MONOTONIC": "0",
            "FAKETIME_NO_CACHE": "1",
        }
        return self._site.start(clock, prefix=on_host(f"node{self.crew.counts['workers started']}"))
