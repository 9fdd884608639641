"""Kills of a torch training, by SIGKILL and by preemption, held bit for bit against an undisturbed one."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records import journal as lines
from tools.campaigns.common import Outcomes, Rules, Site, Tally, all_ended, end_session, outcomes, verdict
from tools.campaigns.common import wait_for as wait

HELP = "kill and resume of a torch training with everything that has state, with 0 and 2 loader workers"
#: The searches that are disturbed in turn: seconds between saves, and whether they are written beside.
MODES: Final = ((0.0, False), (0.0, True), (0.05, False), (0.05, True))
#: Who dies: "preemption" is SIGTERM to every process of the worker, then SIGKILL.
VICTIMS: Final = {"trial": 70, "worker": 10, "template": 10, "preemption": 10}
#: Reports between two kills in the mean, seconds that are drawn on top, seconds that a preempted worker gets.
_STEPS, _EXTRA, _GRACE = 10, 0.05, 15.0
#: Seconds without a trial process after which workers are looked at again.
_QUIET: Final = 60.0
_START: Final = frozenset({b"start"})
_REPORT: Final = frozenset({b"report"})
CODE: Final = '''\
import hashlib
import random

import numpy as np
import torch

from hpc_search.samplers import ResumableLoader


class Noisy(torch.utils.data.Dataset):
    """Items with noise of all three global generators."""

    def __init__(self):
        self.inputs = torch.randn(52, 8, generator=torch.Generator().manual_seed(3))
        self.labels = torch.arange(52) % 3

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        noise = 0.1 * torch.randn(8) + 0.01 * random.gauss(0, 1) + 0.01 * float(np.random.normal())
        return self.inputs[index] + noise, self.labels[index]


def build(trial):
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 24), torch.nn.BatchNorm1d(24), torch.nn.ReLU(), torch.nn.Dropout(0.2),
        torch.nn.Linear(24, 3),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedules = torch.optim.lr_scheduler
    return {
        "model": model,
        "optimizer": optimizer,
        "schedule": schedules.SequentialLR(
            optimizer,
            [schedules.LinearLR(optimizer, total_iters=10), schedules.CosineAnnealingLR(optimizer, 50)],
            [10],
        ),
        "averaged": torch.optim.swa_utils.AveragedModel(
            model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True
        ),
        "scaler": torch.amp.GradScaler("cpu", growth_interval=7),
        "noise": np.random.default_rng(trial.seed),
        "dropped": torch.Generator().manual_seed(trial.seed),
        "stopping": {"best": float("inf"), "weights": {}, "bad": 0, "losses": []},
        "loader": ResumableLoader(
            Noisy(), 8, seed=trial.seed, num_workers=trial.params["loader_workers"]
        ),
    }


def train_step(objects, inputs, labels):
    model, optimizer, scaler = objects["model"], objects["optimizer"], objects["scaler"]
    inputs = inputs + 0.01 * torch.from_numpy(objects["noise"].normal(size=inputs.shape)).float()
    inputs = inputs * torch.bernoulli(torch.full(inputs.shape, 0.9), generator=objects["dropped"])
    inputs = inputs + 1e-3 * random.random() + 1e-3 * float(np.random.rand())
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(inputs), labels)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    objects["schedule"].step()
    objects["averaged"].update_parameters(model)
    keep_best(objects["stopping"], loss.item(), model)
    return loss.item()


def keep_best(stopping, loss, model):
    stopping["losses"].append(loss)
    stopping["bad"] += 1
    if loss < stopping["best"]:
        stopping["best"], stopping["bad"] = loss, 0
        stopping["weights"] = {name: value.clone() for name, value in model.state_dict().items()}


def digest(*tensors):
    """48 bits, which a float holds exactly."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(str((tensor.dtype, tuple(tensor.shape))).encode() + tensor.numpy().tobytes())
    return int.from_bytes(found.digest()[:6], "little")


def train(trial):
    # Not by the search's own seeds: how saves are made must not matter.
    torch.manual_seed(trial.seed)
    np.random.seed(trial.seed)
    random.seed(trial.seed)
    objects = build(trial)
    step = trial.restore(**objects)
    while step < trial.params["steps"]:
        for inputs, labels in objects["loader"]:
            loss = train_step(objects, inputs, labels)
            step += 1
            rate = objects["optimizer"].param_groups[0]["lr"]
            trial.report(step, loss=loss, rate=rate, bad=objects["stopping"]["bad"])
            trial.save(step, **objects)
            if step == trial.params["steps"]:
                break
    states = objects["optimizer"].state_dict()["state"].values()
    drawn = [torch.rand(2), torch.tensor([random.random(), np.random.rand(), objects["noise"].normal()])]
    return {
        "loss": sum(objects["stopping"]["losses"]),
        "weights": digest(*objects["model"].state_dict().values()),
        "average": digest(*objects["averaged"].state_dict().values()),
        "best": digest(*objects["stopping"]["weights"].values()),
        "optimizer": digest(*(tensor for state in states for tensor in state.values())),
        "random": digest(*drawn, torch.rand(2, generator=objects["dropped"])),
    }
'''


@dataclass(frozen=True, slots=True)
class Training:
    """A search over the loader's workers, seed by seed."""

    interval: float = 0.0
    background: bool = False
    seeds: int = 2
    steps: int = 120
    claiming: str = ""

    @property
    def code(self) -> str:
        """The training."""
        return CODE

    @property
    def trials(self) -> int:
        """How many trials the plan has."""
        return 2 * self.seeds

    def text(self) -> str:
        """Return the search file. No number of kills ends a trial."""
        return f"""\
name: training
trial: train.py:train
metric: {{name: loss, goal: min}}
space: {{loader_workers: [0, 2]}}
fixed: {{steps: {self.steps}}}
strategy: grid
seeds: {list(range(self.seeds))}
heartbeat: 1
lease: 10
save_interval: {self.interval}
save_in_background: {str(self.background).lower()}
retry: {{error: 250, memory: 100, no_progress: 250}}
stop_after: 0
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the campaign."""
    parser.add_argument("--kills", type=int, default=300, help="at least so many kills")
    parser.add_argument("--steps", type=int, default=120, help="steps of a training")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of a run, two trials each")
    parser.add_argument("--workers", type=int, default=1, help="workers at a time")
    parser.add_argument(
        "--claiming", default="", help="lock or exclusive; the planner's choice where not given"
    )


def run(args: argparse.Namespace) -> Tally:
    """Disturb one run after the other, and hold each against one undisturbed run that saves in time."""
    tally = Tally()
    draw = random.Random(args.seed)
    expected = reference(Training(seeds=args.seeds, steps=args.steps))
    told: list[int] = []
    while tally.counts["kills"] < args.kills and not tally.problems:
        interval, background = MODES[tally.counts["runs"] % len(MODES)]
        tally.counts["runs"] += 1
        workload = Training(interval, background, args.seeds, args.steps, args.claiming)
        root = Path(args.directory) / f"run-{tally.counts['runs']:04d}"
        site: Any = Site(root, workload)  # type: ignore[arg-type]
        storm = _Storm(site, random.Random(draw.random()), args.workers)
        storm.rage(args.kills - tally.counts["kills"])
        problem = site.work_to_the_end()
        found = (
            [problem] if problem else verdict(site.run, expected, Rules(temporaries=storm.counts["kills"]))
        )
        facts = _Resumes(site.layout)
        found += storm.problems + facts.problems(every_step=interval == 0 and not background)
        name = f"interval {interval:g} s, {'beside' if background else 'in time'}"
        tally.problems += [f"run {tally.counts['runs']} ({name}): {problem}" for problem in found]
        tally.counts += storm.counts
        tally.counts["resumes"] += len(facts.resumed)
        tally.counts[f"steps lost at most: {name}"] = max(
            tally.counts[f"steps lost at most: {name}"], max((one.lost for one in facts.resumed), default=0)
        )
        tally.counts["steps lost"] += sum(one.lost for one in facts.resumed)
        tally.counts["checkpoints skipped"] += facts.notes["checkpoint skipped"]
        told += [one.step for one in facts.resumed]
        print(f"run {tally.counts['runs']} ({name}): {storm.counts['kills']} kills", flush=True)
        if not tally.problems:
            shutil.rmtree(root)
    tally.counts["different steps resumed at"] = len(set(told))
    tally.counts["median step resumed at"] = int(statistics.median(told)) if told else 0
    if len(told) < tally.counts["kills"] // 4:
        tally.problems.append(f"only {len(told)} resumes from a checkpoint for {tally.counts['kills']} kills")
    return tally


@cache
def reference(workload: Training) -> Outcomes:
    """Return the outcomes of *workload* undisturbed.

    Raises:
        RuntimeError: The undisturbed run failed.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-reference-") as directory:
        site: Any = Site(Path(directory), workload)  # type: ignore[arg-type]
        problem = site.work_to_the_end()
        found = outcomes(site.layout)
    if problem or len(found.results) != workload.trials:
        raise RuntimeError(f"the undisturbed run: {problem or f'{len(found.results)} results'}")
    return found


class _Storm:
    """Workers on one run, killed until it is finished or there were enough kills."""

    def __init__(self, site: Site, draw: random.Random, workers: int) -> None:
        self._site = site
        self._draw = draw
        self._workers = workers
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._killed: Counter[int] = Counter()

    def rage(self, kills: int) -> None:
        """Kill, at most *kills* times."""
        with all_ended([]) as running:
            while self.counts["kills"] < kills and not self._site.finished() and not self.problems:
                for process in [process for process in running if process.poll() is not None]:
                    running.remove(process)
                    self._note_end(process.returncode)
                while len(running) < self._workers:
                    running.append(self._site.start())
                worker = self._draw.choice(running)
                if self._starts(worker):
                    # By progress, not by time: on a slow machine a training has to come as far.
                    self._advance(worker, int(self._draw.expovariate(1 / _STEPS)))
                    time.sleep(self._draw.uniform(0, _EXTRA))
                    self._kill(worker)

    def _starts(self, worker: subprocess.Popen[bytes]) -> bool:
        """Wait for a trial that was not yet killed more often than it has steps for."""
        most = max(2, self._site.workload.steps // _STEPS)

        def runs() -> bool:
            trial = self._trial(worker.pid)
            return worker.poll() is not None or (trial is not None and self._killed[trial.trial] < most)

        return wait(runs, _QUIET, 0.1)

    def _advance(self, worker: subprocess.Popen[bytes], steps: int) -> None:
        goal = self._reports() + steps
        wait(lambda: worker.poll() is not None or self._reports() >= goal, _QUIET / 6, 0.05)

    def _reports(self) -> int:
        return sum(1 for _ in history.lines(self._site.layout, _REPORT))

    def _note_end(self, code: int) -> None:
        if code not in (0, -signal.SIGKILL, 75):
            self.problems.append(f"a worker ended with status {code}: {self._site.said()}")

    def _trial(self, worker: int) -> lines.Start | None:
        """Return the start of the trial that *worker* runs now."""
        below = {child.pid for child in _children(worker)}
        records = (lines.parse_line(line.data) for line in history.lines(self._site.layout, _START))
        started = [record for record in records if isinstance(record, lines.Start) and record.pid in below]
        return max(started, key=lambda record: record.t, default=None)

    def _kill(self, worker: subprocess.Popen[bytes]) -> None:
        who = self._draw.choices(list(VICTIMS), list(VICTIMS.values()))[0]
        trial = self._trial(worker.pid)
        if trial is None:
            return
        if who == "preemption":
            self._preempt(worker)
        else:
            with suppress(psutil.Error):
                process = psutil.Process(worker.pid if who == "worker" else trial.pid)
                (process.parent() or process if who == "template" else process).kill()
        self._killed[trial.trial] += 1
        self.counts["kills"] += 1
        self.counts[f"kills: {who}"] += 1
        self.counts[f"kills with {2 * (trial.trial // self._site.workload.seeds)} loader workers"] += 1

    def _preempt(self, worker: subprocess.Popen[bytes]) -> None:
        """Do what SLURM does: signal every process of the step, wait, kill."""
        every = [worker.pid, *(child.pid for child in _children(worker.pid))]
        for pid in every:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        wait(lambda: worker.poll() is not None or self._trial(worker.pid) is None, _GRACE)
        for pid in every:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end_session(worker)


def _children(pid: int) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return found


class _Resumes:
    """Where attempts went on, and how many reported steps each did again."""

    def __init__(self, layout: Layout) -> None:
        reported: defaultdict[int, dict[int, int]] = defaultdict(dict)
        resumed: defaultdict[int, dict[int, int]] = defaultdict(dict)
        self._preempted: set[tuple[int, int]] = set()
        self.notes: Counter[str] = Counter()
        for line in history.lines(layout, frozenset({b"report", b"note", b"end", b"start"})):
            record = lines.parse_line(line.data)
            if isinstance(record, lines.Report):
                known = reported[record.trial]
                known[record.attempt] = max(record.step, known.get(record.attempt, 0))
            elif isinstance(record, lines.Start):
                resumed[record.trial].setdefault(record.attempt, 0)
            elif isinstance(record, lines.End) and record.cause == "preempted":
                self._preempted.add((record.trial, record.attempt))
            elif isinstance(record, lines.Note):
                self.notes[record.event] += 1
                if record.event == "resumed" and record.trial is not None and record.attempt is not None:
                    resumed[record.trial][record.attempt] = int(record.text.removeprefix("step "))
        self._all = [one for trial in resumed for one in _resumes(trial, resumed[trial], reported[trial])]
        self.resumed = [one for one in self._all if one.step]

    def problems(self, *, every_step: bool) -> list[str]:
        """Return where more than one step was lost though each was saved, or there was a grace."""
        return [
            f"trial {one.trial}: attempt {one.attempt} went on at step {one.step}, reports went to {reached}"
            for one in self._all
            for reached in (one.reached if every_step else one.reached_before,)
            if reached - one.step > 1 and (every_step or (one.trial, one.attempt - 1) in self._preempted)
        ]


class _Resume(NamedTuple):
    """An attempt but the first: where it went on; the last step that all, or the one before it, reported."""

    trial: int
    attempt: int
    step: int
    reached: int
    reached_before: int

    @property
    def lost(self) -> int:
        """How many reported steps it did again."""
        return max(0, self.reached - self.step)


def _resumes(trial: int, resumed: Mapping[int, int], reported: Mapping[int, int]) -> list[_Resume]:
    # Attempts that were killed before they reported may not have said where they go on.
    return [
        _Resume(
            trial,
            attempt,
            resumed[attempt],
            max((step for other, step in reported.items() if other < attempt), default=0),
            reported.get(attempt - 1, 0),
        )
        for attempt in sorted(resumed)[1:]
        if attempt in reported
    ]
