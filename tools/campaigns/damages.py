"""The runs that `flips` damages, the damages, and what is compared afterwards."""

from __future__ import annotations

import csv
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hpc_search import durable
from hpc_search.collect import collect
from hpc_search.config.profile import Profile, signed_profile
from hpc_search.launchers.base import token
from hpc_search.layout import Layout
from hpc_search.ledger import history, this_process
from hpc_search.ledger.fold import fold
from hpc_search.ledger.submits import Answer, Intent, Job
from hpc_search.records import checked
from hpc_search.search import open_run, plan_search, status
from hpc_search.search.doctor import doctor
from hpc_search.status import Status
from tools.campaigns.common import wait_for

#: trial -> (state, value, detail of a failure)
Results = dict[int, tuple[str, float | None, str]]
KINDS: Final = ("flipped", "cut", "removed")
_TIMEOUT: Final = 120.0
_SEARCH: Final = """\
name: flips
trial: train.py:train
metric: {name: loss, goal: min}
space: {rate: [0.1, 0.2, 0.3]}
strategy: grid
data: {index: data.csv, id: sample, label: y}
folds: {stratified: 2, test_share: 0.2}
heartbeat: 0.2
lease: 2
save_interval: 0
keep_checkpoints: true
"""
_CODE: Final = """\
import os
import random
import time
from pathlib import Path


def train(trial):
    state = {"total": 0.0}
    for step in range(trial.restore(state=state), 3):
        state["total"] += random.gauss(trial.params["rate"], 1.0)
        print("step", step, flush=True)
        trial.report(step, loss=state["total"])
        trial.save(step + 1, state=state)
        if step == 1 and os.environ.get("FLIPS_HANG") == str(trial.number):
            Path(os.environ["FLIPS_MARK"]).touch()
            time.sleep(600)
    trial.report_samples(trial.split.val, [state["total"] + random.random() for _ in trial.split.val])
    return {"loss": state["total"], "last": random.random()}
"""


@dataclass(frozen=True, slots=True)
class Damage:
    """One damage: the file, what is done to it, and where (a byte flipped by *mask*, or the new size)."""

    path: str
    kind: str
    place: int = 0
    mask: int = 0

    def __str__(self) -> str:
        where = f" at {self.place}" if self.kind != "removed" else ""
        return f"{self.path} {self.kind}{where}" + (f" by {self.mask:#04x}" if self.mask else "")

    def do(self, run: Path) -> None:
        """Damage the copy at *run*."""
        path = run / self.path
        if self.kind == "removed":
            path.unlink()
        elif self.kind == "cut":
            os.truncate(path, self.place)
        else:
            data = bytearray(path.read_bytes())
            data[self.place] ^= self.mask
            path.write_bytes(data)


def damages(run: Path, rng: random.Random, places: int) -> Iterator[Damage]:
    """Yield the damages of every file below *run*: *places* flips and cuts each, and one removal."""
    for path in sorted(path for path in run.rglob("*") if path.is_file() and not path.is_symlink()):
        name = path.relative_to(run).as_posix()
        size = path.stat().st_size
        for _ in range(places if size else 0):
            yield Damage(name, "flipped", rng.randrange(size), 1 << rng.randrange(8))
            yield Damage(name, "cut", rng.randrange(size))
        yield Damage(name, "removed")


def class_of(path: str) -> str:
    """Return *path* with its worker, trial and number replaced: files of one kind are counted together."""
    text = re.sub(r"[0-9a-f]{16}", "W", path)
    text = re.sub(r"checkpoints/\d+/a\d+-W\.[01]", "checkpoints/N/aN-W.S", text)
    text = re.sub(r"submitit/.*", "submitit/", text)
    return re.sub(r"\b\d{4}\b", "NNNN", text)


class Desk:
    """A run made once, kept aside, and copied to where it was made for every damage."""

    def __init__(self, root: Path, *, finished: bool, claiming: str = "") -> None:
        """Make the run below *root*: one archive, a submission, checkpoints, samples, a collect."""
        self.root = root
        self.run = root / "run"
        self.pristine = root / "pristine"
        self.layout = Layout(self.run)
        root.mkdir(parents=True, exist_ok=True)
        (root / "search.yaml").write_text(_SEARCH)
        (root / "train.py").write_text(_CODE)
        rows = "".join(f"s{number},{number % 2}\n" for number in range(20))
        (root / "data.csv").write_text(f"sample,y\n{rows}")
        self._make(finished=finished, claiming=claiming)
        self.ended = results(self.layout)
        self.status: Status = status(open_run(str(self.run)))
        shutil.move(self.run, self.pristine)
        self.reference = self._undisturbed()

    def _make(self, *, finished: bool, claiming: str) -> None:
        before = os.environ.get("HPC_SEARCH_CLAIMING")
        if claiming:
            os.environ["HPC_SEARCH_CLAIMING"] = claiming
        try:
            plan_search(self.root / "search.yaml", str(self.run))
        finally:
            if claiming and before is None:
                del os.environ["HPC_SEARCH_CLAIMING"]
        self._checked("work", str(self.run), "--trials", "1")
        fold(self.layout, this_process(), many=1)
        if finished:
            self._checked("submit", str(self.run), "--launcher", "local", "--workers", "1", "--wait")
        else:
            self._checked("work", str(self.run), "--trials", "2")
            self._killed()
        self._submitted()
        doctor(str(self.run))
        collect(self.layout)

    def _submitted(self) -> None:
        """Leave what a submission to SLURM, long over, leaves."""
        durable.replace(self.layout.profile, signed_profile(Profile(name="flips", partition="main")))
        self.layout.submits.mkdir(mode=0o700, exist_ok=True)
        number = 1 + len(list(self.layout.submits.glob("*.jobs.json")))
        answer = Answer(
            number=number,
            token=token(open_run(str(self.run)).plan, number),
            launcher="slurm",
            tasks=1,
            host="login",
            outcome="sent",
            jobs=(Job(id="17"),),
        )
        intent = Intent(**{name: getattr(answer, name) for name in Intent.__struct_fields__})
        durable.replace(self.layout.submit_intent(number), checked.encode(intent))
        durable.replace(self.layout.submit_record(number), checked.encode(answer))

    def _checked(self, *arguments: str) -> None:
        done = _hpc_search(*arguments)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")

    def _killed(self) -> None:
        """Run a worker and kill it in the middle of a trial that has saved."""
        mark = self.root / "mark"
        environment = {**os.environ, "FLIPS_HANG": "3", "FLIPS_MARK": str(mark)}
        command = [sys.executable, "-m", "hpc_search", "work", str(self.run)]
        with (self.root / "killed.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                if not wait_for(mark.exists, _TIMEOUT):
                    raise RuntimeError(f"the worker to be killed did not come: {log.name}")
                # The last save is in the journal when the supervisor has beaten again.
                time.sleep(0.5)
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait(_TIMEOUT)

    def _undisturbed(self) -> Results:
        self.fresh(None)
        code, said = self.work()
        found = results(self.layout)
        if code != 0 or any(state != "done" for state, _, _ in found.values()):
            raise RuntimeError(f"the undisturbed run ends with status {code}: {found}\n{said}")
        return found

    def fresh(self, damage: Damage | None) -> None:
        """Put a fresh copy of the run where it was made, and damage it."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.pristine, self.run, symlinks=True)
        if damage is not None:
            damage.do(self.run)

    def work(self) -> tuple[int, str]:
        """Run a worker to its end; return its status and what it said."""
        try:
            done = _hpc_search("work", str(self.run))
        except subprocess.TimeoutExpired as error:
            return -1, f"no end in {error.timeout:g} s"
        return done.returncode, done.stderr


def _hpc_search(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hpc_search", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )


def results(layout: Layout) -> Results:
    """Return the results by the journals."""
    return {
        trial: (result.end.state, result.end.value, result.end.detail)
        for trial, result in history.results(layout).items()
    }


def published_rows(layout: Layout) -> Results:
    """Return the results by results.csv."""
    with layout.result("results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        int(row["trial"]): (row["state"], float(row["value"]) if row["value"] else None, row["cause"])
        for row in rows
    }
