"""Power cuts: the workers are stopped, the image of their ext4 is copied without sync, the copy is mounted.

What only the page cache of the mounted file system held is not in the copy, as after a power cut; the
journal of ext4 is replayed when the copy is mounted, at the same path. The workers of before are gone.
"""

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
from tools.campaigns.board import Board, send, stopped
from tools.campaigns.common import (
    Crew,
    Rules,
    Site,
    Tally,
    Witness,
    Workload,
    all_ended,
    hpc_search,
    reference,
    verdict,
    wait_for,
)
from tools.campaigns.mounts import make_image, mounted, possible

HELP = "power cuts: the disk's image copied without sync and mounted again"
#: Cuts of one run; then it is worked to its end and judged.
_ROUND: Final = 6
_MEBIBYTES: Final = 48
#: Without auto_da_alloc a rename does not write the file out: what was not fsynced is lost.
_OPTIONS: Final = ("loop", "loop,noauto_da_alloc")
#: Seconds of work before a cut, counted while a trial runs.
_WORK: Final = (0.02, 1.5)
_POLL: Final = 0.02


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the campaign."""
    parser.add_argument("--cuts", type=int, default=50, help="at least so many power cuts")
    parser.add_argument("--workers", type=int, default=3, help="workers at a time")
    parser.add_argument("--points", type=int, default=20, help="points of a run, two seeds each")
    parser.add_argument(
        "--claiming", default="", help="lock or exclusive; the planner's choice where not given"
    )


def run(args: argparse.Namespace) -> Tally:
    """Cut the power in one run after the other, each worked to its end and held against the undisturbed one.

    Raises:
        SystemExit: This process cannot mount.
    """
    if not possible():
        raise SystemExit("powercut: needs root, mount and mkfs.ext4")
    tally = Tally()
    draw = random.Random(args.seed)
    workload = Workload(points=args.points, steps=5, pause=0.005, claiming=args.claiming)
    rounds = 0
    while tally.counts["cuts"] < args.cuts and not tally.problems:
        rounds += 1
        root = Path(args.directory) / f"run-{rounds:04d}"
        plant = _Plant(root, workload, random.Random(draw.random()), args.workers)
        plant.work(min(_ROUND, args.cuts - tally.counts["cuts"]), _OPTIONS[rounds % 2])
        tally.counts += plant.counts
        tally.problems += [f"run {rounds} ({_OPTIONS[rounds % 2]}): {problem}" for problem in plant.problems]
        if not tally.problems:
            shutil.rmtree(root)
    tally.counts["runs"] = rounds
    return tally


class _Plant:
    """One run on an ext4 of its own, and its workers, until the power goes."""

    def __init__(self, root: Path, workload: Workload, draw: random.Random, workers: int) -> None:
        root.mkdir(parents=True)
        self._image = root / "disk.img"
        self._copy = root / "copy.img"
        self._mount = root / "disk"
        self._board = Board(root / "board")
        self._workload = workload
        self._draw = draw
        self._seed = draw.randrange(2**32)
        self._workers = workers
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def work(self, cuts: int, how: str) -> None:
        """Plan, work and cut the power so many times, then work to the end."""
        make_image(self._image, _MEBIBYTES)
        with mounted(self._mount, "-o", how, str(self._image)):
            site = Site(self._mount / "site", self._workload)
            witness = Witness(site.layout)
            self._cut([])
        for number in range(cuts):
            self.counts["cuts"] += 1
            with mounted(self._mount, "-o", how, str(self._image)):
                self._check(site, witness)
                if self.problems:
                    return
                if number == cuts - 1 or site.finished():
                    self._to_the_end(site, witness)
                    return
                self._disturb(site, witness)

    def _disturb(self, site: Site, witness: Witness) -> None:
        crew = Crew(site, self._workers, lambda: self._start(site))
        left = self._draw.uniform(*_WORK)
        with all_ended(crew.running, self._board):
            while left > 0 and crew.staff():
                time.sleep(_POLL)
                if any(place.kind == "trial" for place in self._board.living()):
                    left -= _POLL
            self._cut(crew.running)
            witness.sample()
        self.counts += crew.counts
        self.problems += crew.problems

    def _start(self, site: Site) -> subprocess.Popen[bytes]:
        self.counts["incarnations"] += 1
        return site.start(self._board.environment(f"{self._seed}/{self.counts['incarnations']}"))

    def _cut(self, running: list[subprocess.Popen[bytes]]) -> None:
        """Stop all processes and copy what the disk has."""
        places = self._board.living() if running else []
        for place in places:
            send(place, signal.SIGSTOP)
        wait_for(lambda: all(stopped(place) for place in self._board.living()), 10)
        shutil.copyfile(self._image, self._copy)
        self._board.end()
        # The mounted one is unmounted later, and what it writes then is of no interest.
        self._image.unlink()
        self._copy.replace(self._image)

    def _check(self, site: Site, witness: Witness) -> None:
        """Hold what the disk has against what was promised before the cut."""
        status = hpc_search("status", site.run, "--json")
        if status.returncode != 0:
            self.problems.append(f"status after the cut: exit {status.returncode}: {status.stderr}")
            return
        ends, steps = self._board.promises()
        self.counts["promises looked at"] += len(ends) + len(steps)
        self.problems += checker.broken_promises(site.layout, ends, steps, checkpoints=True)
        witness.sample()
        self.problems += witness.problems

    def _to_the_end(self, site: Site, witness: Witness) -> None:
        problem = site.work_to_the_end()
        if problem:
            self.problems.append(problem)
            return
        witness.sample()
        facts = checker.facts_of(site.layout)
        self.counts["trials"] += site.workload.trials
        self.counts["attempts"] += checker.attempts(facts)
        self.counts["durable end records promised"] += len(self._board.promises()[0])
        rules = Rules(reports_lost=True, temporaries=self.counts["incarnations"])
        expected = reference(site.workload)
        found = checker.outcomes(site.layout, facts)
        self.counts["reports that no journal has"] += checker.missing_reports(found.reports, expected.reports)
        self.problems += [*witness.problems, *site.tracebacks(), *verdict(site.run, expected, rules)]
