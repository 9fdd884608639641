"""SIGSTOP of workers for several leases: others take their trials over, the sleepers wake up as zombies."""

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
from tools.campaigns.board import Board, Place, send, stopped
from tools.campaigns.common import (
    PATIENCE,
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
    wait_for,
)

HELP = "SIGSTOP of workers, templates and trials for several leases, then SIGCONT"
#: Probability that an entry into a phase stops the process there.
CHANCES: Final = {"claim": 0.05, "finish": 0.10, "checkpoint": 0.015, "recover": 0.03, "beat": 0.01}
#: What is stopped, by weight: all of a worker, only its supervisor (its trial ends meanwhile, so that a late
#: result comes), only its trial.
_PARTS: Final = {"tree": 5, "worker": 5, "trial": 1}
_POLL, _BETWEEN, _SAMPLE = 0.03, 0.4, 1.0
#: A pause in leases. The lock of the index may be held all the time: it is waited for 60 s.
_LEASES: Final = (2.0, 5.0)
#: Pauses of one run; then everybody wakes up.
_ROUND: Final = 60


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the campaign."""
    parser.add_argument("--pauses", type=int, default=300, help="at least so many pauses")
    parser.add_argument("--workers", type=int, default=5, help="workers at a time, the stopped ones included")
    parser.add_argument("--points", type=int, default=6, help="points of a run, two seeds each")
    parser.add_argument("--lease", type=float, default=1.0, help="lease in seconds")
    parser.add_argument(
        "--claiming", default="", help="lock or exclusive; the planner's choice where not given"
    )


def run(args: argparse.Namespace) -> Tally:
    """Pause in one run after the other; each ends, with all sleepers woken, like the undisturbed one."""
    tally = Tally()
    draw = random.Random(args.seed)
    workload = Workload(
        points=args.points, steps=8, pause=0.05, heartbeat=0.2, lease=args.lease, claiming=args.claiming
    )
    rounds = 0
    while tally.counts["pauses"] < args.pauses and not tally.problems:
        rounds += 1
        site = Site(Path(args.directory) / f"run-{rounds:04d}", workload)
        night = _Night(site, random.Random(draw.random()), args.workers)
        night.pass_by(min(_ROUND, args.pauses - tally.counts["pauses"]))
        tally.counts += night.counts + night.crew.counts
        problems = [*night.crew.problems, *_judge(site, night, tally)]
        tally.problems += [f"run {rounds}: {problem}" for problem in problems]
        if not tally.problems:
            shutil.rmtree(site.root)
    tally.counts["runs"] = rounds
    return tally


def _judge(site: Site, night: _Night, tally: Tally) -> list[str]:
    problem = site.work_to_the_end()
    if problem:
        return [problem]
    night.witness.sample()
    facts = checker.facts_of(site.layout)
    expected = reference(site.workload)
    tally.counts["trials"] += site.workload.trials
    tally.counts["attempts"] += checker.attempts(facts)
    tally.counts["trials taken over"] += sum(end.cause == "lost" for _, _, end in facts.ends)
    tally.counts["results of zombies superseded"] += facts.notes["superseded"]
    tally.counts["duplicate attempts that ended"] += checker.duplicates(facts)
    found = verdict(site.run, expected, Rules(stamps=False))
    return [*night.witness.problems, *site.tracebacks(), *found]


class _Night:
    """Workers on one run, of which some always sleep."""

    def __init__(self, site: Site, draw: random.Random, workers: int) -> None:
        self._site = site
        self._draw = draw
        self._board = Board(site.root / "board")
        self._seed = draw.randrange(2**32)
        #: Pid of a worker -> when it wakes up, and its processes that sleep.
        self._asleep: dict[int, tuple[float, list[Place]]] = {}
        self.witness = Witness(site.layout)
        self.crew = Crew(site, workers, self._start)
        self.counts: Counter[str] = Counter()

    def pass_by(self, pauses: int) -> None:
        """Stop and continue until so many *pauses* were made or all trials ended; then wake everybody."""
        self._board.arm(CHANCES)
        next_pause = next_sample = time.monotonic() + _BETWEEN
        with all_ended(self.crew.running, self._board) as running:
            while self.counts["pauses"] < pauses and self.crew.staff():
                time.sleep(_POLL)
                self._notice()
                self._wake(time.monotonic())
                if time.monotonic() >= next_pause:
                    next_pause = time.monotonic() + self._draw.expovariate(1 / _BETWEEN)
                    self._stop_one(running)
                if time.monotonic() >= next_sample:
                    self.witness.sample()
                    next_sample = time.monotonic() + _SAMPLE
            self._board.arm({})
            self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        number = self.crew.counts["workers started"]
        environment = self._board.environment(f"{self._seed}/{number}", signal.SIGSTOP)
        return self._site.start(environment, prefix=on_host(f"node{number}"))

    def _notice(self) -> None:
        """Find the processes that their own timer stopped; most take the rest of their worker with them."""
        known = {place.pid for _, sleepers in self._asleep.values() for place in sleepers}
        for place in self._board.living():
            if place.pid not in known and place.kind in ("worker", "trial") and stopped(place):
                worker = self._worker_of(place)
                whole = worker == place.pid and self._draw.random() < 0.7
                others = (
                    [other for other in self._board.tree(worker) if other.pid != place.pid] if whole else []
                )
                self._put_to_sleep(worker, [place, *others], f"{place.kind} in {place.phase}")

    def _worker_of(self, place: Place) -> int:
        workers = [process.pid for process in self.crew.running]
        trees = ((worker, self._board.tree(worker)) for worker in workers)
        return next((worker for worker, tree in trees if place in tree), place.pid)

    def _stop_one(self, running: list[subprocess.Popen[bytes]]) -> None:
        awake = sorted(process.pid for process in running if process.pid not in self._asleep)
        trees = {worker: self._board.tree(worker) for worker in awake}
        # Who holds no trial can sleep as long as it likes.
        busy = [worker for worker, tree in trees.items() if any(place.kind == "trial" for place in tree)]
        if len(awake) < 2 or not busy:
            return
        worker = self._draw.choice(busy)
        part = self._draw.choices([*_PARTS], [*_PARTS.values()])[0]
        places = [place for place in trees[worker] if part in ("tree", place.kind)]
        if places:
            self._put_to_sleep(worker, places, f"{part} from outside")

    def _put_to_sleep(self, worker: int, places: list[Place], what: str) -> None:
        for place in places:
            send(place, signal.SIGSTOP)
        seconds = self._draw.uniform(*_LEASES) * self._site.workload.lease
        _, before = self._asleep.get(worker, (0.0, []))
        self._asleep[worker] = (time.monotonic() + seconds, [*before, *places])
        self.counts["pauses"] += 1
        self.counts[f"pauses: {what}"] += 1

    def _wake(self, now: float) -> None:
        for worker, (until, places) in list(self._asleep.items()):
            if now >= until:
                del self._asleep[worker]
                for place in self._draw.sample(places, len(places)):
                    send(place, signal.SIGCONT)

    def _end(self) -> None:
        """Wake everybody; each must find its way out."""

        def all_out() -> bool:
            self._notice()
            self._wake(float("inf"))
            return all(process.poll() is not None for process in self.crew.running)

        wait_for(all_out, PATIENCE)
        self.crew.end()
        self.crew.problems += [f"a {place.kind} still lives" for place in self._board.living()]
