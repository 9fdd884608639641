"""SIGKILL of workers that propose the points they claim: as many points as asked for, none of them twice.

Whatever was killed, every point of the plan ends once, each with parameters of its own; the log of proposed
points has one entry for each; every proposal follows again from what the ledger says it was made from;
and whoever plans, submits or works once more adds nothing.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hpc_search.errors import EXIT_DONE, EXIT_FAILED
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.ledger.proposals import Proposals
from hpc_search.planning import load_plan
from hpc_search.space import canonical
from hpc_search.steering.proposer import replay
from tools.campaigns.checker import hpc_search
from tools.campaigns.common import Crew, Site, Tally, Workload, all_ended, end_session

HELP = "SIGKILL of workers of a search that proposes its points: the budget stays exact"
#: Every third trial fails for good: it consumes its point too.
CODE: Final = '''\
"""A function with a valley; where it is rough, the trial fails."""


def train(trial):
    x, y = trial.params["x"], trial.params["y"]
    if trial.number % 9 == 5:
        raise ValueError("fails at every attempt")
    trial.report(0, loss=(x - 2) ** 2)
    return {"loss": (x - 2) ** 2 + (y - 3) ** 2 + trial.params["depth"]}
'''
_POLL: Final = 0.05


@dataclass(frozen=True, slots=True)
class Asked(Workload):
    """A search of so many ``points``, which ``strategy`` proposes."""

    strategy: str = "tpe"
    code: str = CODE

    def text(self) -> str:
        """Return the search file."""
        return f"""\
name: budget
trial: train.py:train
metric: {{name: loss, goal: min}}
space:
  x: {{uniform: [-5, 10]}}
  y: {{uniform: [0, 15]}}
  depth: {{int: [1, 4]}}
strategy: {{{self.strategy}: {{points: {self.points}, seed: 1}}}}
heartbeat: {self.heartbeat}
lease: {self.lease}
retry: {{no_progress: 250}}
stop_after: 0
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the campaign."""
    parser.add_argument("--points", type=int, default=1200, help="points to be proposed")
    parser.add_argument("--workers", type=int, default=64, help="workers at a time")
    parser.add_argument("--kills", type=int, default=200, help="at most so many kills")
    parser.add_argument("--pause", type=float, default=0.5, help="mean seconds between two kills")
    parser.add_argument("--strategy", default="tpe", help="one that proposes")
    parser.add_argument("--patience", type=float, default=3000.0, help="seconds for all of it")
    parser.add_argument(
        "--claiming", default="", help="lock or exclusive; the planner's choice where not given"
    )


def run(args: argparse.Namespace) -> Tally:
    """Kill workers of one run until it has ended, and judge it."""
    tally = Tally()
    draw = random.Random(args.seed)
    asked = Asked(points=args.points, seeds=1, strategy=args.strategy, claiming=args.claiming)
    site = Site(Path(args.directory) / "run", asked)
    crew = Crew(site, args.workers, site.start)
    began = time.monotonic()
    next_kill = began
    with all_ended(crew.running):
        while crew.staff(hopeless=args.patience):
            time.sleep(_POLL)
            if crew.running and time.monotonic() >= next_kill and tally.counts["kills"] < args.kills:
                next_kill = time.monotonic() + draw.expovariate(1 / args.pause)
                end_session(draw.choice(crew.running))
                tally.counts["kills"] += 1
        crew.end()
    tally.counts["seconds"] = round(time.monotonic() - began)
    tally.counts += crew.counts
    tally.problems += crew.problems
    if not tally.problems:
        tally.problems += [*_judged(site, tally), *site.tracebacks()]
    return tally


def _judged(site: Site, tally: Tally) -> list[str]:
    before = _state(site.layout)
    problem = site.work_to_the_end()
    if problem:
        return [problem]
    failed = any(found.end.state == "failed" for found in history.results(site.layout).values())
    for code, command in (
        (EXIT_DONE, ("plan", site.root / "search.yaml", "--run", site.run)),
        (EXIT_FAILED if failed else EXIT_DONE, ("submit", site.run, "--launcher", "local")),
    ):
        done = hpc_search(*command)
        if done.returncode != code:
            return [f"{command[0]} again: exit {done.returncode}\n{done.stdout}{done.stderr}"]
    after = _state(site.layout)
    problems = [] if before == after else ["one more worker, plan and submit changed the results"]
    return [*problems, *_counted(site, tally), *_replayed(site.layout, tally)]


def _state(layout: Layout) -> dict[int, str]:
    return {trial: found.checksum for trial, found in history.results(layout).items()}


def _counted(site: Site, tally: Tally) -> list[str]:
    points = site.workload.points
    results = history.results(site.layout)
    keys = Counter(canonical(found.end.params) for found in results.values())
    log = Proposals(site.layout)
    log.read()
    tally.counts["points that ended"] = len(results)
    tally.counts["different points"] = len(keys)
    tally.counts["entries of the log"] = len(log)
    tally.counts["files of the log"] = len(list(site.layout.proposals.iterdir()))
    tally.counts += Counter(f"points {found.end.state}" for found in results.values())
    problems = []
    if sorted(results) != list(range(points)):
        problems.append(f"{len(results)} trials ended, asked for {points}")
    if len(keys) != points:
        problems.append(f"points were proposed twice: {[key for key, n in keys.items() if n > 1][:5]}")
    if sorted(log.all) != list(range(points)):
        problems.append(f"the log has {len(log.all)} points")
    differing = [n for n, found in results.items() if n in log.all and found.end.params != log.all[n].params]
    if differing:
        problems.append(f"trials that ran with other parameters than were proposed: {differing[:5]}")
    return problems


def _replayed(layout: Layout, tally: Tally) -> list[str]:
    """Return the proposals that do not follow again from the ledger."""
    found = replay(layout, load_plan(layout))
    tally.counts["proposals made again, equal"] = sum(one.equal for one in found)
    return [
        f"point {one.entry.point}: {one.entry.params} from {one.entry.seen}, now {one.params}"
        for one in found
        if not one.equal
    ][:5]


__all__ = ["HELP", "options", "run"]
