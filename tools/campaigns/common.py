"""What the campaigns share: the tally they return, the search they disturb, workers, the undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from hpc_search.errors import EXIT_DONE, EXIT_TEMPORARY
from hpc_search.layout import Layout
from hpc_search.ledger import history
from tools.campaigns.board import Board
from tools.campaigns.checker import Outcomes, Rules, Witness, hpc_search, outcomes, verdict

__all__ = [
    "Crew",
    "Outcomes",
    "Rules",
    "Site",
    "Tally",
    "Witness",
    "Workload",
    "hpc_search",
    "outcomes",
    "reference",
    "verdict",
]

#: Seconds before a worker that found nothing to do is replaced.
_IDLE: Final = 0.3
#: Seconds that a small run may take, and a worker to end, before the campaign calls it hung.
PATIENCE: Final = 180.0
CODE: Final = '''\
"""A training without training: every step draws from the trial's generator and saves."""

import contextlib
import random
import sys
import time

import h5py  # noqa: F401 - loaded once, in the template, not in every trial

#: A campaign that counts where a trial was killed watches its steps from outside.
_watched = getattr(sys.modules.get("sitecustomize"), "training", contextlib.nullcontext)


def train(trial):
    state = {"total": 0.0, "drawn": []}
    done = trial.restore(state=state)
    rate, width = trial.params["rate"], trial.params["width"]
    for step in range(done, trial.params["steps"]):
        with _watched():
            time.sleep(trial.params["pause"])
            state["total"] += random.gauss(rate, width)
            state["drawn"].append(random.random())
            trial.report(step, loss=state["total"])
            trial.save(step + 1, state=state)
    return {"loss": state["total"], "drawn": sum(state["drawn"]), "last": random.random()}
'''


@dataclass(slots=True)
class Tally:
    """Counts of what was done and seen, and what must not have happened."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return one line a count, then the problems."""
        lines = [f"{name:<40} {count}" for name, count in self.counts.items()]
        return "\n".join([*lines, *(f"PROBLEM: {problem}" for problem in self.problems)])


@dataclass(frozen=True, slots=True)
class Workload:
    """A search whose results depend on its generators, its order of steps, and what a checkpoint brings back.

    ``pause`` is the seconds that a step sleeps. ``claiming`` is the way of claiming that the plan pins,
    "" for the one that the planner chooses.
    """

    points: int = 8
    seeds: int = 2
    steps: int = 5
    pause: float = 0.0
    heartbeat: float = 0.2
    lease: float = 2.0
    keep_checkpoints: bool = False
    claiming: str = ""

    @property
    def trials(self) -> int:
        """How many trials the plan has."""
        return self.points * self.seeds

    def text(self) -> str:
        """Return the search file. No number of kills ends a trial."""
        return f"""\
name: chaos
trial: train.py:train
metric: {{name: loss, goal: min}}
space:
  rate: {{log_uniform: [1.0e-4, 1.0]}}
  width: {{int: [1, 1000]}}
fixed: {{steps: {self.steps}, pause: {self.pause}}}
strategy: {{random: {{points: {self.points}, seed: 0}}}}
seeds: {list(range(self.seeds))}
heartbeat: {self.heartbeat}
lease: {self.lease}
save_interval: 0
keep_checkpoints: {str(self.keep_checkpoints).lower()}
retry: {{error: 250, no_progress: 250}}
stop_after: 0
"""


class Site:
    """A planned run below *root*, and real workers on it; ``said`` is what they printed."""

    def __init__(self, root: Path, workload: Workload, *, log: Path | None = None) -> None:
        """Plan *workload* into *root*/run by the command that a user gives; workers print to *log*."""
        self.root = root
        self.workload = workload
        self.run = root / "run"
        self.layout = Layout(self.run)
        self._log = log or root / "worker.log"
        root.mkdir(parents=True, exist_ok=True)
        (root / "search.yaml").write_text(workload.text())
        (root / "train.py").write_text(getattr(workload, "code", CODE))
        claiming = {"HPC_SEARCH_CLAIMING": workload.claiming} if workload.claiming else {}
        planned = hpc_search("plan", root / "search.yaml", "--run", self.run, **claiming)
        if planned.returncode != 0:
            raise RuntimeError(f"plan: exit {planned.returncode}\n{planned.stdout}{planned.stderr}")

    def start(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        arguments: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a worker, in a session of its own; *prefix* goes before the command."""
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*prefix, sys.executable, "-m", "hpc_search", "work", str(self.run), *arguments],
                env={**os.environ, **(environment or {})},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self, most: int = 2000) -> str:
        """Return the end of what the workers printed."""
        return self._log.read_text(errors="replace")[-most:] if self._log.exists() else ""

    def tracebacks(self) -> list[str]:
        """Return what workers said that no user may see."""
        said = self.said(1 << 20)
        return [said[said.index("Traceback") :][:2000]] if "Traceback" in said else []

    def finished(self) -> bool:
        """Return whether every trial has a result by the journals."""
        return len(history.results(self.layout)) == self.workload.trials

    def work_to_the_end(self, environment: Mapping[str, str] | None = None, tries: int = 20) -> str:
        """Run undisturbed workers until one finds nothing left; return what is wrong, "" where nothing is.

        One more worker follows the one that finished: it cleans up what killed workers left.
        """
        was_finished = False
        for _ in range(tries):
            process = self.start(environment)
            try:
                code = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                end_session(process)
                return f"an undisturbed worker did not end in {PATIENCE:g} s: {self.said()}"
            if code != 0:
                return f"an undisturbed worker ended with status {code}: {self.said()}"
            if was_finished:
                return ""
            was_finished = self.finished()
        return f"{tries} undisturbed workers in turn found no work, and yet trials are left"


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill *process* and all in its session's group, and reap it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


@contextmanager
def all_ended(
    processes: list[subprocess.Popen[bytes]], board: Board | None = None
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Kill whatever of *processes*, and of what is on *board*, still runs when the block ends."""
    try:
        yield processes
    finally:
        if board is not None:
            board.end()
        for process in processes:
            end_session(process)


@cache
def reference(workload: Workload) -> Outcomes:
    """Return the outcomes of *workload* undisturbed: one worker, run once in this process's life.

    Raises:
        RuntimeError: The undisturbed run failed.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-reference-") as directory:
        site = Site(Path(directory), workload)
        problem = site.work_to_the_end()
        found = outcomes(site.layout)
    if problem or len(found.results) != workload.trials:
        raise RuntimeError(f"the undisturbed run: {problem or f'{len(found.results)} results'}")
    return found


def on_host(name: str) -> list[str]:
    """Return what to put before a worker's command so that its host has another *name* (needs root).

    Nobody can then judge it by its pid: only its lease says that it is dead.
    """
    return ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name]


class Crew:
    """The workers of a campaign on one run: those that end are replaced until every trial has ended."""

    def __init__(self, site: Site, workers: int, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        """Keep *workers* running, each made by *start*."""
        self._site = site
        self._workers = workers
        self._start = start
        self._begun = time.monotonic()
        self._wait_until = 0.0
        self.running: list[subprocess.Popen[bytes]] = []
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def staff(self, *, hopeless: float = PATIENCE) -> bool:
        """Replace workers that are gone; return whether there is work left and nothing went wrong.

        A run that is not at its end after *hopeless* seconds has lost a trial.
        """
        idle = False
        for process in [process for process in self.running if process.poll() is not None]:
            self.running.remove(process)
            idle = self._look_at(process) or idle
        if idle and self._site.finished():
            return False
        if time.monotonic() - self._begun > hopeless:
            self.problems.append(f"no end in sight after {hopeless:g} s: {self._site.said(300)}")
        if idle:
            # Where others hold all that is left, workers only come and go.
            self._wait_until = time.monotonic() + _IDLE
        elif time.monotonic() >= self._wait_until:
            while len(self.running) < self._workers:
                self.counts["workers started"] += 1
                self.running.append(self._start())
        return not self.problems

    def _look_at(self, process: subprocess.Popen[bytes]) -> bool:
        """Return whether a worker that ended found nothing to do, or gave up for now."""
        code = process.returncode
        self.counts["workers that gave up for now"] += code == EXIT_TEMPORARY
        if code not in (EXIT_DONE, EXIT_TEMPORARY, -signal.SIGKILL):
            self.problems.append(f"a worker ended with status {code}: {self._site.said()}")
        return code != -signal.SIGKILL

    def end(self) -> None:
        """Wait until every worker has found its way out."""
        wait_for(lambda: all(process.poll() is not None for process in self.running), PATIENCE)
        for process in self.running:
            if process.poll() is None:
                self.problems.append(f"a worker did not end in {PATIENCE:g} s: {self._site.said()}")
            else:
                self._look_at(process)


def wait_for(condition: Callable[[], bool], seconds: float, pause: float = 0.02) -> bool:
    """Return whether *condition* came true within *seconds*."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True
