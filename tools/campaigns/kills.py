"""SIGKILL of workers, templates and trials, most of them inside of claim, finish, checkpoint and training."""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tools.campaigns import checker
from tools.campaigns.board import Board, Place, victims_of
from tools.campaigns.common import (
    PATIENCE,
    Crew,
    Rules,
    Site,
    Tally,
    Witness,
    Workload,
    all_ended,
    end_session,
    reference,
    verdict,
    wait_for,
)

HELP = "SIGKILL of random workers, templates and trials, counted by phase"
#: Probability that an entry into a phase sets the timer.
CHANCES: Final = {
    "claim": 0.08,
    "finish": 0.06,
    "checkpoint": 0.12,
    "training": 0.10,
    "recover": 0.03,
    "reconcile": 0.03,
    "beat": 0.02,
}
#: The phases in which at least half of the kills have to fall.
INSIDE: Final = frozenset({"claim", "finish", "checkpoint", "training"})
#: Kills of one run; then it is worked to its end and judged.
_ROUND: Final = 100
#: Seconds between two looks, between two kills from outside (mean) and between two looks at the results.
_POLL, _OUTSIDE, _SAMPLE = 0.03, 0.7, 2.0
#: Kills from outside before the timers have to be ahead.
_LEAD: Final = 4


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the campaign."""
    parser.add_argument("--kills", type=int, default=2000, help="at least so many kills")
    parser.add_argument("--workers", type=int, default=3, help="workers at a time")
    parser.add_argument("--points", type=int, default=24, help="points of a run, two seeds each")
    parser.add_argument(
        "--claiming", default="", help="lock or exclusive; the planner's choice where not given"
    )


def run(args: argparse.Namespace) -> Tally:
    """Kill in one run after the other, each worked to its end and held against the undisturbed one."""
    tally = Tally()
    draw = random.Random(args.seed)
    workload = Workload(points=args.points, steps=8, pause=0.002, claiming=args.claiming)
    rounds = 0
    while tally.counts["kills"] < args.kills and not tally.problems:
        rounds += 1
        site = Site(Path(args.directory) / f"run-{rounds:04d}", workload)
        storm = _Storm(site, random.Random(draw.random()), args.workers)
        storm.kill_some(min(_ROUND, args.kills - tally.counts["kills"]))
        tally.counts += storm.counts + storm.crew.counts
        problems = [*storm.crew.problems, *_judge(site, storm, tally)]
        tally.problems += [f"run {rounds}: {problem}" for problem in problems]
        if not tally.problems:
            shutil.rmtree(site.root)
    tally.counts["runs"] = rounds
    inside = sum(tally.counts[name] for name in tally.counts if name.rpartition(" in ")[2] in INSIDE)
    tally.counts["kills inside of the four phases"] = inside
    if 2 * inside < tally.counts["kills"] and args.kills >= _ROUND:
        tally.problems.append(f"only {inside} of {tally.counts['kills']} kills fell into {sorted(INSIDE)}")
    return tally


def _judge(site: Site, storm: _Storm, tally: Tally) -> list[str]:
    problem = site.work_to_the_end()
    if problem:
        return [problem]
    storm.witness.sample()
    facts = checker.facts_of(site.layout)
    expected = reference(site.workload)
    tally.counts["trials"] += site.workload.trials
    tally.counts["attempts"] += checker.attempts(facts)
    tally.counts["duplicate attempts that ended"] += checker.duplicates(facts)
    tally.counts["results superseded"] += facts.notes["superseded"]
    tally.counts["temporary names left"] += len(checker.leftovers(site.run))
    found = checker.outcomes(site.layout, facts)
    tally.counts["reports that no journal has"] += checker.missing_reports(found.reports, expected.reports)
    ends, steps = storm.board.promises()
    tally.counts["durable end records promised"] += len(ends)
    return [
        *storm.witness.problems,
        *checker.broken_promises(site.layout, ends, steps, checkpoints=True),
        *verdict(site.run, expected, Rules(reports_lost=True, temporaries=storm.counts["kills"])),
        *site.tracebacks(),
    ]


class _Storm:
    """Workers on one run, killed again and again."""

    def __init__(self, site: Site, draw: random.Random, workers: int) -> None:
        self._site = site
        self._draw = draw
        self._workers = workers
        self._seed = draw.randrange(2**32)
        self.board = Board(site.root / "board")
        self.crew = Crew(site, workers, self._start)
        self.witness = Witness(site.layout)
        self.counts: Counter[str] = Counter()

    def kill_some(self, kills: int) -> None:
        """Kill until so many *kills* were made or all trials have ended."""
        self.board.arm(CHANCES)
        next_kill = next_sample = time.monotonic() + self._draw.expovariate(1 / _OUTSIDE)
        with all_ended(self.crew.running, self.board):
            while self.counts["kills"] < kills and self.crew.staff():
                time.sleep(_POLL)
                self._count(self.board.fallen(), "by their own timer")
                # A kill from outside falls into a phase by chance only: they are the fewer.
                if time.monotonic() >= next_kill and self._may_kill():
                    next_kill = time.monotonic() + self._draw.expovariate(1 / _OUTSIDE)
                    self._kill_one()
                if time.monotonic() >= next_sample:
                    self.witness.sample()
                    next_sample = time.monotonic() + _SAMPLE
            self._end()

    def _end(self) -> None:
        """Kill the workers at once; what they started must find that out by itself."""
        self.board.arm({})
        for process in self.crew.running:
            end_session(process)
        wait_for(lambda: not self.board.living(), PATIENCE)
        left = [place.kind for place in self.board.living()]
        self.crew.problems += [f"a {kind} lived on without its worker" for kind in left]

    def _start(self) -> subprocess.Popen[bytes]:
        seat = self._draw.randrange(2 * self._workers)
        # Half of them sit on a seat of a submission, as the local launcher's do; the others are helpers.
        arguments = ["--token", "chaos", "--seat", f"local:{seat}"] if seat < self._workers else []
        environment = self.board.environment(f"{self._seed}/{self.crew.counts['workers started']}")
        return self._site.start(environment, arguments=arguments)

    def _kill_one(self) -> None:
        place = victims_of(self.board.living(), self._draw)
        died = self.board.kill(place) if place is not None else None
        if died is not None:
            self._count([died], "from outside")

    def _may_kill(self) -> bool:
        """Return whether at most about a third of the kills came from outside."""
        return 2 * self.counts["kills from outside"] <= self.counts["kills by their own timer"] + _LEAD

    def _count(self, places: list[Place], how: str) -> None:
        for place in places:
            self.counts["kills"] += 1
            self.counts[f"kills {how}"] += 1
            self.counts[f"kills of a {place.kind} in {place.phase}"] += 1
