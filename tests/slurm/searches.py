"""A search on the test cluster as its user sees it: the command line, squeue, and the files of the run."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from hpc_search.layout import Layout
from hpc_search.ledger import history, read_state
from hpc_search.ledger.submits import Answer, submissions
from hpc_search.planning import load_plan
from hpc_search.records import index as codec
from hpc_search.records import journal
from tests.slurm.cluster import PROFILE, Cluster, Output
from tests.waiting import wait_until

#: Five steps, a hold while the file ``gate`` is there, five more; the state needs the generator's too.
HELD_TRIAL: Final = """
import os, random, time
from pathlib import Path

STEPS, HOLD = 10, 5

def train(trial):
    gate = Path("gate")
    state = {"total": 0.0}
    for step in range(trial.restore(state=state), STEPS):
        while step == HOLD and gate.exists():
            Path("held", f"{trial.number}-{trial.attempt}").touch()
            time.sleep(0.5)
            trial.save(step, state=state)
        state["total"] += trial.params["x"] * random.random()
        trial.report(step, total=state["total"])
        trial.save(step + 1, state=state)
    return {"total": state["total"]}
"""
HELD_SEARCH: Final = """
name: Held on SLURM
trial: trial.py:train
metric: {name: total, goal: max}
space: {x: [%s]}
strategy: grid
heartbeat: 1
lease: 20
"""
#: Held by a file ``gate-NUMBER-ATTEMPT``, where it saves, or ``deaf-NUMBER-ATTEMPT``, where it does not.
STEPPED_TRIAL: Final = """
import random, time
from pathlib import Path

STEPS, HOLD = 30, 10

def train(trial):
    name, state = f"{trial.number}-{trial.attempt}", {"total": 0.0}
    pace = Path("pace")
    for step in range(trial.restore(state=state), STEPS):
        while step == HOLD and ((deaf := Path(f"deaf-{name}").exists()) or Path(f"gate-{name}").exists()):
            Path("held", name).touch()
            time.sleep(0.1)
            if not deaf:
                trial.save(step, state=state)
        time.sleep(float(pace.read_text()) if pace.exists() else 0.0)
        state["total"] += trial.params["x"] * random.random()
        trial.report(step, total=state["total"])
        trial.save(step + 1, state=state)
    return {"total": state["total"]}
"""
STEPPED_SEARCH: Final = """
name: Stepped on SLURM
trial: trial.py:train
metric: {name: total, goal: max}
space: {x: [%s]}
strategy: grid
heartbeat: 1
lease: 8
save_interval: 1
"""
_FINAL: Final = {"done", "failed", "pruned"}
#: A prolog that notes when a task starts: token, array task, restart count, seconds.
NOTE_START: Final = """#!/bin/sh
echo "$SLURM_JOB_NAME $SLURM_ARRAY_TASK_ID ${{SLURM_RESTART_COUNT:-0}} $(date +%s.%N)" >>'{starts}'
"""
#: Every command by which SLURM can be asked or told something; srun starts the step itself.
CLIENTS: Final = ("sbatch", "scontrol", "squeue", "sacct", "sacctmgr", "scancel", "sinfo", "sstat")
COUNTING_CLIENT: Final = """#!/bin/sh
echo "$SLURM_ARRAY_TASK_ID ${{0##*/}} $1" >>{calls}
exec {real} "$@"
"""


class Search:
    """A directory with a search file, and the command line, run by root or by the ordinary user."""

    def __init__(self, cluster: Cluster, directory: Path, python: Path | None = None) -> None:
        """Work in *directory*; with *python* as the ordinary user, by that interpreter."""
        self.cluster = cluster
        self.directory = directory
        self.run = directory / "runs" / "my run"
        self.layout = Layout(self.run)
        self._python = python
        self._trials = 0

    def call(
        self, *arguments: str | Path, code: int = 0, environment: Mapping[str, str] | None = None
    ) -> Output:
        """Run a verb in the directory and check its exit code."""
        as_user = self._python is not None
        start = self.cluster.run_as_user if as_user else self.cluster.run
        argv = [self._python or sys.executable, "-m", "hpc_search", *arguments]
        done = start(*argv, cwd=self.directory, environment=environment, timeout=240)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}{self}"
        return done

    def write(self, name: str, text: str) -> None:
        """Write a file of the user's."""
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o755)

    def plan(self, search: str | Path) -> None:
        """Plan *search*: a file, or its text."""
        if isinstance(search, str):
            self.write("search.yaml", search)
        self.call("plan", search if isinstance(search, Path) else "search.yaml", "--run", self.run)

    def submit(
        self, *more: str, code: int = 0, environment: Mapping[str, str] | None = None, **changes: Any
    ) -> Output:
        """Submit to SLURM by the cluster's profile with *changes*."""
        profile = self.directory / "profile.yaml"
        if not profile.exists():
            # The checkout may not be readable for the ordinary user.
            self.write(profile.name, PROFILE.read_text())
        given = [f"--set={key}={value}" for key, value in changes.items()]
        command: list[str | Path] = [
            "submit",
            self.run,
            "--launcher=slurm",
            "--profile",
            profile,
            *given,
            *more,
        ]
        return self.call(*command, code=code, environment=environment)

    def run_locally(self) -> None:
        """Do all the work here."""
        self.call("submit", self.run, "--launcher=local", "--workers=2", "--wait")

    def status(self) -> dict[str, Any]:
        """Return what `status --json` prints."""
        counts: dict[str, Any] = json.loads(self.call("status", self.run, "--json").stdout)
        return counts

    def collect(self) -> bytes:
        """Return results.csv."""
        self.call("collect", self.run)
        return (self.run / "results" / "results.csv").read_bytes()

    def attempts(self) -> list[dict[str, str]]:
        """Return the rows of attempts.csv, which `collect` wrote."""
        with (self.run / "results" / "attempts.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def wait(self, timeout: float = 150) -> None:
        """Wait until every trial has ended."""
        wait_until(lambda: self.states().keys() <= _FINAL, timeout, on_timeout=lambda: self)

    def states(self) -> Counter[str]:
        """Count the trials by state, as `status` does: asking the command line over and over takes a core."""
        self._trials = self._trials or load_plan(self.layout).trials
        return Counter(codec.STATES[entry.state] for entry in read_state(self.layout, self._trials)[1])

    def wait_for_the_end_of_all_jobs(self, timeout: float = 90) -> None:
        """Wait until squeue shows nothing of the run."""
        wait_until(lambda: not self.jobs(), timeout, on_timeout=lambda: self)

    def tokens(self) -> list[str]:
        """Return the names that the jobs of the run have in squeue."""
        return [one.token for one in submissions(self.layout)]

    def jobs(self) -> list[list[str]]:
        """Return (array id, name, state, node) of each task of the run in squeue."""
        shown = self.cluster.run("squeue", "-h", "-r", "-o", "%F|%j|%T|%N").stdout.splitlines()
        run_id = load_plan(self.layout).run_id[-8:]
        return [row.split("|") for row in shown if f"-{run_id}-" in row]

    def running_tasks(self) -> dict[str, str]:
        """Return JOB_TASK -> node of the tasks that run."""
        shown = self.cluster.run("squeue", "-h", "-r", "-t", "RUNNING", "-o", "%i|%j|%N").stdout.splitlines()
        names = set(self.tokens())
        return {row[0]: row[2] for row in (line.split("|") for line in shown) if row[1] in names}

    def incarnations(self) -> list[str]:
        """Return how each start of the only task of the run ended, in order, as sacct tells."""
        (token,) = self.tokens()
        asked = self.cluster.run("sacct", "-X", "-D", "-n", "-P", f"--name={token}", "-o", "Start,State")
        return [row.split("|")[1].split()[0] for row in sorted(asked.stdout.splitlines())]

    def records(self, *kinds: str) -> list[tuple[str, Any]]:
        """Return (worker, record) of each journal line of these kinds."""
        wanted = frozenset(kind.encode() for kind in kinds)
        return [(line.worker, journal.parse_line(line.data)) for line in history.lines(self.layout, wanted)]

    def reports(self) -> dict[tuple[int, int], dict[str, float]]:
        """Return the metrics of every report by (trial, step); equal ones of several attempts are one."""
        found: dict[tuple[int, int], dict[str, float]] = {}
        for _, record in self.records("report"):
            known = found.setdefault((record.trial, record.step), record.metrics)
            assert known == record.metrics
        return found

    def resumed(self) -> dict[tuple[int, int, str], int]:
        """Return the step from which an attempt went on, by (trial, attempt, worker)."""
        notes = [(worker, note) for worker, note in self.records("note") if note.event == "resumed"]
        return {
            (note.trial, note.attempt, worker): int(note.text.removeprefix("step ")) for worker, note in notes
        }

    def first_steps(self, attempt: int) -> dict[int, int]:
        """Return the first step that *attempt* made, by trial; it reports those before it again."""
        resumed = self.resumed()
        steps: dict[int, list[int]] = {}
        for worker, record in self.records("report"):
            key = record.trial, record.attempt, worker
            if record.attempt == attempt and record.step >= resumed.get(key, 0):
                steps.setdefault(record.trial, []).append(record.step)
        return {trial: min(of_trial) for trial, of_trial in steps.items()}

    def __str__(self) -> str:
        """Return what shows where a test fails: jobs, logs of jobs and of workers."""
        logs = [*self.run.glob("submitit/*.log"), *self.run.glob("workers/*/log.txt")]
        texts = [f"== {path}\n{path.read_text(errors='replace')[-2000:]}" for path in logs]
        ids = [job.id for one in submissions(self.layout) if isinstance(one, Answer) for job in one.jobs]
        return "\n".join(["", self.cluster.picture(",".join(ids)) if ids else "", *texts])


class HeldSearch(Search):
    """A search whose trials stop half-way while the file ``gate`` is there."""

    def __init__(self, cluster: Cluster, directory: Path, trials: int) -> None:
        """Plan it in *directory*."""
        super().__init__(cluster, directory)
        (directory / "held").mkdir()
        self.gate = directory / "gate"
        self.gate.touch()
        self.write("trial.py", HELD_TRIAL)
        self.plan(HELD_SEARCH % ", ".join(map(str, range(1, trials + 1))))

    def wait_until_held(self, trials: int, attempt: int = 1, timeout: float = 120) -> None:
        """Wait until so many trials stand at the gate in this attempt."""
        held = self.directory / "held"
        wait_until(lambda: len(list(held.glob(f"*-{attempt}"))) == trials, timeout, on_timeout=lambda: self)

    def undisturbed(self) -> bytes:
        """Return results.csv of the same search, planned anew and run on this machine without a gate."""
        other = Search(self.cluster, self.directory)
        other.run = self.directory / "runs" / "undisturbed"
        other.layout = Layout(other.run)
        assert not self.gate.exists()
        other.plan(self.directory / "search.yaml")
        other.run_locally()
        return other.collect()


class SteppedSearch(Search):
    """A search whose trials take 30 steps, as slowly as ``pace`` says, and can be held at the tenth."""

    def __init__(self, cluster: Cluster, directory: Path, trials: int) -> None:
        """Plan it in *directory*."""
        super().__init__(cluster, directory)
        (directory / "held").mkdir(parents=True)
        self.write("trial.py", STEPPED_TRIAL)
        self.write("note-start", NOTE_START.format(starts=directory / "starts"))
        self.plan(STEPPED_SEARCH % ", ".join(map(str, range(1, trials + 1))))

    def send(self, workers: int, **changes: Any) -> str:
        """Submit so that *workers* are live, and note when each task starts."""
        prolog = json.dumps([str(self.directory / "note-start")])
        return self.submit(f"--workers={workers}", prolog=prolog, **changes).stdout

    def held(self) -> set[str]:
        """Return NUMBER-ATTEMPT of the trials that stood at the tenth step."""
        return set(os.listdir(self.directory / "held"))

    def wait_until_held(self, *names: str, timeout: float = 60) -> None:
        """Wait until each of *names*, NUMBER-ATTEMPT, has come to the tenth step."""
        wait_until(lambda: set(names) <= self.held(), timeout, on_timeout=lambda: self)

    def task_of(self, trial: int, attempt: int = 1) -> str:
        """Return JOB_TASK, as scancel wants it, of the worker that claimed *trial*."""
        opened = self.opening_of(trial, attempt)
        (array,) = {row[0] for row in self.jobs() if row[1] == opened.token}
        return f"{array}_{opened.seat.split(':')[1]}"

    def opening_of(self, trial: int, attempt: int = 1) -> journal.Open:
        """Return the first record of the worker that claimed *trial*."""
        claims = [(worker, record) for worker, record in self.records("claim") if record.trial == trial]
        (owner,) = (worker for worker, record in claims if record.attempt == attempt)
        opened: journal.Open = next(record for worker, record in self.records("open") if worker == owner)
        return opened


@contextmanager
def cancelled_at_the_end(search: Search) -> Iterator[Search]:
    """Give *search*, and leave nothing of it in the queue."""
    try:
        yield search
    finally:
        with suppress(OSError, AssertionError):
            for token in search.tokens():
                search.cluster.run("scancel", f"--name={token}")
            search.wait_for_the_end_of_all_jobs()


def on_this_machine(mark: str) -> list[str]:
    """Return the command lines of processes outside the nodes whose arguments or environment hold *mark*.

    Nodes are namespaces of this machine: their processes are in /proc as well.
    """
    here = os.stat("/proc/self/ns/pid").st_ino
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            known = command + (entry / "environ").read_bytes()
            if mark.encode() in known and os.stat(entry / "ns" / "pid").st_ino == here:
                found.append(f"{entry.name} {command.decode(errors='replace')}")
    return [line for line in found if not line.startswith(f"{os.getpid()} ")]


def on_the_nodes(token: str) -> list[int]:
    """Return the pids, on this machine, of the workers of *token* that run on the nodes."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_text().split("\0")
            if "work" in words and token in words and "srun" not in words[0]:
                found.append(int(entry.name))
    return found


def counting_clients(directory: Path, calls: Path) -> str:
    """Put clients that note their calls into *directory*; return the profile's prolog that uses them."""
    directory.mkdir()
    for name in CLIENTS:
        real = shutil.which(name)
        client = directory / name
        client.write_text(COUNTING_CLIENT.format(calls=calls, real=real))
        client.chmod(0o755)
    return f'["export PATH={directory}:$PATH"]'
