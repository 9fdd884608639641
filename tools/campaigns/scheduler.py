"""Real SLURM: preemption, time limit, requeue, signals, scancel, suspension; nodes and controller crash."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.slurm.attempts import Attempt, attempts, lost_work, resume_times, started_twice, wrong_causes
from tests.slurm.cluster import CLUSTER, Cluster, is_up, why_not
from tests.slurm.searches import SteppedSearch, cancelled_at_the_end
from tools.campaigns.checker import Outcomes, Rules, duplicates, facts_of, outcomes, verdict
from tools.campaigns.common import Tally, wait_for
from tools.campaigns.scheduler_faults import FAULTS, SAVE_INTERVAL, Scene

HELP = (
    "real SLURM: preemption, time limit, requeue, signals, scancel, suspension; crashes of nodes, controller"
)
#: Trials of a search.
_TRIALS: Final = 16
#: Seconds that a save may take on a busy machine.
_BUSY: Final = 1.0


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the campaign."""
    parser.add_argument("--each", type=int, default=10, help="at least so many faults of each kind")
    parser.add_argument("--faults", nargs="*", choices=list(FAULTS), help="only these kinds")
    parser.add_argument(
        "--claiming", default="", help="lock or exclusive; the planner's choice where not given"
    )


def run(args: argparse.Namespace) -> Tally:
    """Do each kind of fault to one search after the other until it happened often enough."""
    tally = Tally()
    if reason := why_not():
        tally.problems.append(f"nothing was done: {reason}")
        return tally
    if args.claiming:
        os.environ["HPC_SEARCH_CLAIMING"] = args.claiming
    with _cluster() as cluster:
        calm = SteppedSearch(cluster, Path(args.directory) / "calm", _TRIALS)
        calm.run_locally()
        campaign = _Campaign(
            cluster, Path(args.directory), outcomes(calm.layout), random.Random(args.seed), tally
        )
        for name in args.faults or FAULTS:
            campaign.repeat(name, args.each)
    campaign.summarise()
    return tally


@contextmanager
def _cluster() -> Iterator[Cluster]:
    directory = Path(os.environ.get("HPC_SEARCH_CLUSTER_DIR", "/tmp/hpc_search-cluster"))
    was_up = is_up()
    if not was_up:
        subprocess.run([CLUSTER, "up"], check=True, stdout=subprocess.DEVNULL)
    os.environ["SLURM_CONF"] = str(directory / "etc" / "slurm.conf")
    try:
        yield Cluster(directory, os.environ.get("HPC_CLUSTER_USER", "labuser"))
    finally:
        if not was_up:
            subprocess.run([CLUSTER, "down"], check=False, stdout=subprocess.DEVNULL)


@dataclass(slots=True)
class _Campaign:
    cluster: Cluster
    directory: Path
    reference: Outcomes
    draw: random.Random
    tally: Tally
    resumes: list[float] = field(default_factory=list)
    #: Steps lost by attempts that were told to end, seconds of work lost by those that were not.
    told: list[int] = field(default_factory=list)
    untold: list[float] = field(default_factory=list)

    def repeat(self, name: str, each: int) -> None:
        """Play scenes until the fault *name* was done *each* times, or something is wrong."""
        done, scenes, began = 0, 0, time.monotonic()
        while done < each:
            scenes += 1
            directory = self.directory / f"{name}-{scenes}"
            search = SteppedSearch(self.cluster, directory, _TRIALS)
            with cancelled_at_the_end(search):
                hits, problems = self._play(name, search, each - done)
            done += hits
            self.tally.problems += [f"{name} {scenes}: {problem}" for problem in problems]
            if problems:
                break
            self._repair()
            shutil.rmtree(directory)
        for problem in self.tally.problems:
            print(f"PROBLEM: {problem}", flush=True)
        self.tally.counts[f"{name}: faults"] = done
        self.tally.counts[f"{name}: searches"] = scenes
        print(f"{name}: {done} faults, {scenes} searches, {time.monotonic() - began:.0f} s", flush=True)

    def _play(self, name: str, search: SteppedSearch, missing: int) -> tuple[int, list[str]]:
        fault = FAULTS[name]
        scene = Scene(search, random.Random(self.draw.random()), fault)
        hits = 0
        scene.begin()
        while hits < missing and (tasks := scene.next()):
            hits += fault.inflict(scene, tasks)
        if not scene.finish():
            return hits, [f"not finished: {search.states()}{search}"]
        found = attempts(search)
        interrupted = sum(one.cause in ("preempted", "lost") for one in found)
        problems = self._judge(name, scene, found)
        if fault.exact and interrupted > hits:
            problems.append(f"{interrupted} attempts were interrupted by {hits} faults")
        return min(hits, interrupted) if fault.ends else hits, problems

    def _judge(self, name: str, scene: Scene, found: list[Attempt]) -> list[str]:
        search = scene.search
        lost = lost_work(found)
        resumes = resume_times(search, found)
        counts = self.tally.counts
        counts[f"{name}: attempts preempted"] += sum(one.cause == "preempted" for one in found)
        counts[f"{name}: attempts lost"] += sum(one.cause == "lost" for one in found)
        counts[f"{name}: results superseded"] += duplicates(facts_of(search.layout))
        counts[f"{name}: tasks started twice"] += started_twice(search)
        # One that does not hear what it is told is killed by its worker, or by SLURM.
        told = [one for one in lost if one.told and not scene.fault.deaf]
        self.told += [one.steps for one in told]
        self.untold += [one.seconds for one in lost if one not in told]
        self.resumes += resumes
        if resumes:
            counts[f"{name}: ms from task start to next step"] = round(1000 * statistics.median(resumes))
        problems = [f"{one.steps} steps lost with a warning: {one}" for one in told if one.steps > 1]
        problems += [
            f"more lost than a save interval: {one}" for one in lost if one.unsaved > SAVE_INTERVAL + _BUSY
        ]
        rules = Rules(stamps=scene.fault.stamps)
        return [
            *problems,
            *wrong_causes(found),
            *scene.witness.problems,
            *verdict(search.run, self.reference, rules),
        ]

    def _repair(self) -> None:
        """Wait until all nodes take jobs again."""

        def usable() -> bool:
            self.cluster.control("resume")
            shown = self.cluster.run("sinfo", "-h", "-N", "-p", "low", "-o", "%T").stdout.split()
            return bool(shown) and set(shown) <= {"idle"}

        if not wait_for(usable, 120, pause=1):
            self.tally.problems.append(f"the cluster is not whole again: {self.cluster.picture()}")

    def summarise(self) -> None:
        """Count what was lost and how long it took to go on."""
        counts = self.tally.counts
        counts["interrupted with a warning"] = len(self.told)
        counts["steps lost with a warning, most"] = max(self.told, default=0)
        counts["interrupted without a warning"] = len(self.untold)
        counts["ms lost without a warning, most"] = round(1000 * max(self.untold, default=0))
        counts["requeued trials that went on"] = len(self.resumes)
        if self.resumes:
            counts["ms from task start to next step, median"] = round(1000 * statistics.median(self.resumes))
            counts["ms from task start to next step, most"] = round(1000 * max(self.resumes))
