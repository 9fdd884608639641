"""Disks full of bytes or of inodes at random moments: the last checkpoint loads, and work goes on."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

from tools.campaigns import checker
from tools.campaigns.board import Board
from tools.campaigns.common import Crew, Rules, Site, Tally, Witness, Workload, all_ended, reference, verdict
from tools.campaigns.mounts import mounted, possible

HELP = "a disk without room or without inodes, at random moments (tmpfs)"
#: Episodes of one run; then it is worked to its end and judged.
_ROUND: Final = 10
_SIZE: Final = "size=8m,nr_inodes=400"
#: Seconds that the disk has room, and that it has none.
_ROOM, _FULL = (0.2, 1.2), (0.2, 1.5)
_POLL: Final = 0.02
_BLOCK: Final = 4096


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the campaign."""
    parser.add_argument("--episodes", type=int, default=50, help="at least so many times without room")
    parser.add_argument("--workers", type=int, default=3, help="workers at a time")
    parser.add_argument("--points", type=int, default=24, help="points of a run, two seeds each")
    parser.add_argument(
        "--claiming", default="", help="lock or exclusive; the planner's choice where not given"
    )


def run(args: argparse.Namespace) -> Tally:
    """Fill the disk of one run after the other; each ends, when there is room, like the undisturbed one.

    Raises:
        SystemExit: This process cannot mount.
    """
    if not possible():
        raise SystemExit("disks: needs root and mount")
    tally = Tally()
    draw = random.Random(args.seed)
    workload = Workload(points=args.points, steps=8, pause=0.02, claiming=args.claiming)
    rounds = 0
    while tally.counts["episodes"] < args.episodes and not tally.problems:
        rounds += 1
        root = Path(args.directory) / f"run-{rounds:04d}"
        disk = _Disk(root, random.Random(draw.random()), args.workers)
        with mounted(root / "disk", "-t", "tmpfs", "-o", _SIZE, "tmpfs"):
            disk.work(workload, min(_ROUND, args.episodes - tally.counts["episodes"]))
        tally.counts += disk.counts
        tally.problems += [f"run {rounds}: {problem}" for problem in disk.problems]
        if not tally.problems:
            shutil.rmtree(root)
    tally.counts["runs"] = rounds
    return tally


class _Disk:
    """One run on a small disk, and somebody else's files that come and go on it."""

    def __init__(self, root: Path, draw: random.Random, workers: int) -> None:
        root.mkdir(parents=True)
        self._root = root
        self._filler = root / "disk" / "of-others"
        self._board = Board(root / "board")
        self._draw = draw
        self._seed = draw.randrange(2**32)
        self._workers = workers
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def work(self, workload: Workload, episodes: int) -> None:
        """Fill and free the disk so many times, or until all trials have ended; then work to the end."""
        site = Site(self._root / "disk" / "site", workload, log=self._root / "worker.log")
        witness = Witness(site.layout)
        crew = Crew(site, self._workers, lambda: self._start(site))
        with all_ended(crew.running, self._board):
            while self.counts["episodes"] < episodes and self._for_a_while(crew, _ROOM):
                self._episode(site, crew)
                witness.sample()
        self.counts += crew.counts
        self.problems += crew.problems or self._judge(site, witness)

    def _start(self, site: Site) -> subprocess.Popen[bytes]:
        self.counts["incarnations"] += 1
        return site.start(self._board.environment(f"{self._seed}/{self.counts['incarnations']}"))

    def _for_a_while(self, crew: Crew, seconds: tuple[float, float]) -> bool:
        end = time.monotonic() + self._draw.uniform(*seconds)
        while time.monotonic() < end:
            if not crew.staff():
                return False
            time.sleep(_POLL)
        return True

    def _episode(self, site: Site, crew: Crew) -> None:
        kind = self._draw.choice(("bytes", "inodes"))
        self.counts["episodes"] += 1
        self.counts[f"episodes without {kind}"] += 1
        self._filler.mkdir(exist_ok=True)
        try:
            end = time.monotonic() + self._draw.uniform(*_FULL)
            while time.monotonic() < end and crew.staff():
                # What a worker frees is taken at once.
                (self._take_bytes if kind == "bytes" else self._take_inodes)()
                time.sleep(_POLL)
            self._loads(site)
        finally:
            shutil.rmtree(self._filler)

    def _take_bytes(self) -> None:
        path = self._filler / f"{len(os.listdir(self._filler))}"
        with suppress(OSError), path.open("wb", buffering=0) as file:
            while file.write(bytes(_BLOCK)) == _BLOCK:
                pass
        if path.exists() and path.stat().st_size == 0:
            path.unlink()

    def _take_inodes(self) -> None:
        first = len(os.listdir(self._filler))
        with suppress(OSError):
            for number in range(first, first + 10_000):
                (self._filler / f"i{number}").touch()

    def _loads(self, site: Site) -> None:
        """See that what was durable before is there and that the newest checkpoints load, with no room."""
        ends, steps = self._board.promises()
        self.counts["promises looked at"] += len(ends) + len(steps)
        self.problems += checker.broken_promises(site.layout, ends, steps, checkpoints=True)

    def _judge(self, site: Site, witness: Witness) -> list[str]:
        problem = site.work_to_the_end()
        if problem:
            return [problem]
        witness.sample()
        facts = checker.facts_of(site.layout)
        self.counts["trials"] += site.workload.trials
        self.counts["attempts"] += checker.attempts(facts)
        self.counts["checkpoints not saved"] += facts.notes["checkpoint not saved"]
        rules = Rules(reports_lost=True, temporaries=0)
        found = verdict(site.run, reference(site.workload), rules)
        return [*witness.problems, *site.tracebacks(), *found]
