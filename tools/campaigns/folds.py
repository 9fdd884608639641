"""A cross-validation whose attempts are killed: what it publishes must be what the undisturbed one does."""

from __future__ import annotations

import argparse
import csv
import io
import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hpc_search.fsck import check_run
from hpc_search.layout import Layout
from tools.campaigns import checker
from tools.campaigns.audits import audit_problems
from tools.campaigns.common import Crew, Rules, Site, Tally, Workload, all_ended, outcomes, verdict

HELP = "kills of attempts in a 5-fold search; the published files are compared with the undisturbed run's"
#: Files of the results that are the same whatever was killed.
FILES: Final = ("summary.csv", "top_k.json", "best_hyperparams.json")
#: Tables whose columns of values are.
TABLES: Final = ("results.csv", "folds.csv")
#: Their columns that say who made a result, when and how often it was tried.
PROVENANCE: Final = ("attempt", "worker", "node", "device", "slice_", "seconds", "started", "ended", "code")
#: Samples of the data, and how many of a fold's validation side come of them.
_ROWS: Final = 60
#: Seconds between two looks at the workers.
_POLL: Final = 0.05
_CODE: Final = '''\
"""Ridge regression by gradient descent, saved at every step; some attempts are killed at some step."""

import os
import random
import signal
import time

import h5py  # noqa: F401 - loaded once, in the template, not in every trial


VICTIMS = ("trial", "template", "keeper", "worker")


def sample(name):
    draw = random.Random(name)
    x = [draw.gauss(0, 1) for _ in range(4)]
    return x, x[0] - 2 * x[1] + draw.gauss(0, 0.3)


def doomed(trial):
    """Return the step at which this attempt is killed, and whom; None where it is not."""
    rate = float(os.environ.get("CHAOS_RATE", "0"))
    draw = random.Random(f"{os.environ.get('CHAOS_SEED', '')}/{trial.number}/{trial.attempt}")
    if draw.random() >= rate:
        return None
    return draw.randrange(trial.params["steps"]), draw.choice(["trial", *VICTIMS])


def parents():
    """Yield those above this process: the template, its keeper, the worker."""
    pid = os.getpid()
    while True:
        with open(f"/proc/{pid}/stat") as file:
            pid = int(file.read().rpartition(")")[2].split()[1])
        yield pid
        with open(f"/proc/{pid}/cmdline") as file:
            if "work" in file.read().split("\\0"):
                return


def strike(whom, trial):
    with open(os.environ["CHAOS_KILLS"], "a") as file:
        file.write(f"{trial.number} {trial.attempt} {whom}\\n")
    above = list(parents())
    victims = {"trial": os.getpid(), "template": above[0], "keeper": above[-2], "worker": above[-1]}
    os.kill(victims[whom], signal.SIGKILL)
    time.sleep(60)


def train(trial):
    state = {"w": [0.0] * 4, "drawn": 0.0}
    done = trial.restore(state=state)
    rate, width = trial.params["rate"], trial.params["width"]
    train = [sample(name) for name in trial.split.train]
    val = [(name, *sample(name)) for name in trial.split.val]
    end = doomed(trial)
    for step in range(done, trial.params["steps"]):
        if end is not None and step >= end[0]:
            strike(end[1], trial)
        time.sleep(trial.params["pause"])
        for x, y in random.sample(train, width):
            error = sum(w * one for w, one in zip(state["w"], x)) - y
            state["w"] = [w - rate * error * one for w, one in zip(state["w"], x)]
        state["drawn"] += random.random()
        trial.report(step, loss=state["drawn"])
        trial.save(step + 1, state=state)
    scores = [(sum(w * one for w, one in zip(state["w"], x)) - y) ** 2 for _, x, y in val]
    trial.report_samples([name for name, _, _ in val], scores)
    return {"loss": sum(scores) / len(scores), "drawn": state["drawn"]}
'''


@dataclass(frozen=True, slots=True)
class Folded(Workload):
    """18 points x 5 folds; ``data`` is where the samples are named."""

    points: int = 18
    seeds: int = 1
    folds: int = 5
    code: str = _CODE

    @property
    def trials(self) -> int:
        """How many trials the plan has."""
        return self.points * self.folds

    def text(self) -> str:
        """Return the search file."""
        head = super(Folded, self).text().partition("space:\n")[0]
        tail = super(Folded, self).text().partition("seeds:")[2].partition("\n")[2]
        widths = list(range(2, 2 + self.points // 3))
        return f"""{head}space: {{rate: [0.01, 0.05, 0.2], width: {widths}}}
fixed: {{steps: {self.steps}, pause: {self.pause}}}
strategy: grid
data: {{index: data.csv, id: sample}}
folds: {{kfold: {self.folds}}}
{tail}"""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the campaign."""
    parser.add_argument("--rate", type=float, default=0.3, help="share of the attempts that are killed")
    parser.add_argument("--runs", type=int, default=3, help="how many searches are disturbed")
    parser.add_argument("--workers", type=int, default=3, help="workers at a time")
    parser.add_argument("--points", type=int, default=18, help="points of a search, a multiple of 3")


def run(args: argparse.Namespace) -> Tally:
    """Run one search undisturbed, then others with kills, each held against the first."""
    tally = Tally()
    workload = Folded(points=args.points, steps=6, pause=0.01)
    undisturbed = _Folds(Path(args.directory) / "undisturbed", workload)
    problem = undisturbed.site.work_to_the_end()
    if problem:
        tally.problems.append(f"the undisturbed run: {problem}")
        return tally
    undisturbed.collect()
    draw = random.Random(args.seed)
    for number in range(1, args.runs + 1):
        folds = _Folds(Path(args.directory) / f"run-{number:02d}", workload)
        crew = folds.disturb(args.rate, draw.randrange(2**31), args.workers)
        found = [*crew.problems] or folds.judge(undisturbed)
        tally.counts += folds.counts + crew.counts
        tally.problems += [f"run {number}: {one}" for one in found]
        if tally.problems:
            break
        shutil.rmtree(folds.site.root)
    tally.counts["runs"] = number
    return tally


class _Folds:
    """One cross-validation."""

    def __init__(self, root: Path, workload: Folded) -> None:
        root.mkdir(parents=True)
        (root / "data.csv").write_text("sample\n" + "".join(f"s{row}\n" for row in range(_ROWS)))
        self.site = Site(root, workload)
        self.counts: Counter[str] = Counter()
        self._kills = root / "kills"

    def disturb(self, rate: float, seed: int, workers: int) -> Crew:
        """Work to the end while the share *rate* of the attempts is killed."""
        environment = {"CHAOS_RATE": str(rate), "CHAOS_SEED": str(seed), "CHAOS_KILLS": str(self._kills)}
        crew = Crew(self.site, workers, lambda: self.site.start(environment))
        with all_ended(crew.running):
            while crew.staff():
                time.sleep(_POLL)
            if not crew.problems:
                crew.end()
        return crew

    def judge(self, undisturbed: _Folds) -> list[str]:
        """Return what is not as it should be; count what was done."""
        facts = checker.facts_of(self.site.layout)
        kills = self._kills.read_text().split("\n")[:-1] if self._kills.exists() else []
        self.counts["trials"] = self.site.workload.trials
        self.counts["attempts"] = checker.attempts(facts)
        self.counts["attempts killed"] = len(kills)
        self.counts += Counter(f"killed with the attempt: {line.split()[2]}" for line in kills)
        self.counts["resumed from a checkpoint"] = facts.notes["resumed"]
        expected = outcomes(undisturbed.site.layout)
        rules = Rules(reports_lost=True, temporaries=len(kills))
        problem = self.site.work_to_the_end()
        return [
            *([problem] if problem else []),
            *verdict(self.site.run, expected, rules),
            *self.collect(),
            *self._differences(undisturbed),
            *self.site.tracebacks(),
        ]

    def collect(self) -> list[str]:
        """Collect; return what `collect` and `fsck` say is wrong."""
        collected = checker.hpc_search("collect", self.site.run, "--audit")
        problems = [] if collected.returncode == 0 else [f"collect: {collected.stderr[-500:]}"]
        problems += audit_problems(self.site.layout)
        report = check_run(self.site.layout)
        return problems + [f"fsck: {one.text()}" for one in report.findings if one.level != "note"]

    def _differences(self, undisturbed: _Folds) -> list[str]:
        mine, theirs = self.site.layout, undisturbed.site.layout
        self.counts["files compared"] = len(FILES) + len(TABLES)
        found = [
            f"{name} differs from the undisturbed run's"
            for name in FILES
            if mine.result(name).read_bytes() != theirs.result(name).read_bytes()
        ]
        found += [
            f"{name}: values differ from the undisturbed run's"
            for name in TABLES
            if values(mine, name) != values(theirs, name)
        ]
        return found


def values(layout: Layout, name: str) -> bytes:
    """Return the columns of a table of the results that are no provenance, as CSV."""
    with layout.result(name).open(newline="") as file:
        rows = list(csv.reader(file))
    kept = [at for at, column in enumerate(rows[0]) if not column.startswith(PROVENANCE)]
    text = io.StringIO()
    csv.writer(text).writerows([[row[at] for at in kept] for row in rows])
    return text.getvalue().encode()
