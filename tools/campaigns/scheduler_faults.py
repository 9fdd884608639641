"""What the scheduler and the machines do to the tasks of a search."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.slurm.cluster import Cluster
from tests.slurm.searches import SteppedSearch
from tools.campaigns.checker import Witness
from tools.campaigns.common import wait_for

#: `save_interval` and `lease` of the search, seconds.
SAVE_INTERVAL: Final = 1.0
_LEASE: Final = 8.0
#: Steps of a trial.
_STEPS: Final = 30
#: Seconds: a whole search, and one wait for tasks to run again.
_PATIENCE, _AGAIN = 400.0, 120.0
_URGENT: Final = ("sbatch", "--parsable", "-p", "high", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")

#: JOB_TASK -> node of tasks that run.
Tasks = dict[str, str]


@dataclass(frozen=True, slots=True)
class Fault:
    """Does something to running tasks of a scene, and returns how often; ``profile`` is how they are sent."""

    inflict: Callable[[Scene, Tasks], int]
    profile: dict[str, Any] = field(default_factory=dict)
    workers: int = 8
    #: Seconds of a step until enough faults were done, so that they find trials at work.
    pace: float = 0.5
    #: Whether first attempts stop half-way and do not hear that they have to end.
    deaf: bool = False
    #: Whether it is done once a search, right after `submit`.
    at_once: bool = False
    #: Whether processes run all the time, so that the times in the journals can be compared.
    stamps: bool = True
    #: Whether no other task than the chosen ones may notice.
    exact: bool = False
    #: Whether it ends the attempt that it finds; then those that did not find one do not count.
    ends: bool = True


@dataclass(slots=True)
class Scene:
    """A search on the cluster while a fault is done to it."""

    search: SteppedSearch
    draw: random.Random
    fault: Fault
    witness: Witness = field(init=False)
    _left: int = 1

    def __post_init__(self) -> None:
        self.witness = Witness(self.search.layout)

    @property
    def cluster(self) -> Cluster:
        """The cluster that it runs on."""
        return self.search.cluster

    def begin(self) -> None:
        """Submit the search."""
        self.search.write("pace", str(self.fault.pace))
        if self.fault.deaf:
            for trial in range(self.search.states().total()):
                (self.search.directory / f"deaf-{trial}-1").touch()
        self.send()

    def send(self) -> None:
        """Submit again, as a user does who sees that trials are left."""
        self.search.send(self.fault.workers, **self.fault.profile)

    def ended(self) -> bool:
        """Look at the results; return whether every trial has ended."""
        self.witness.sample()
        return self.search.states().keys() <= {"done", "failed", "pruned"}

    def hear(self) -> None:
        """Let all trials hear, and go on, from now on."""
        for path in self.search.directory.glob("deaf-*"):
            path.unlink()

    def next(self) -> Tasks:
        """Wait for the next moment; return the tasks that run then, none where the search is over."""
        if self.fault.at_once:
            self._left -= 1
            return {"": ""} if self._left == 0 else {}
        self.wait(lambda: 0 < len(self.search.running_tasks()) <= self.search.states()["running"])
        # In the middle of a trial, at any step.
        time.sleep(self.draw.uniform(0.5, _STEPS * min(self.fault.pace, 0.2)))
        return {} if self.ended() else self.search.running_tasks()

    def wait(self, condition: Callable[[], bool]) -> bool:
        """Wait until *condition*, or the end of the search; submit where nothing is left in the queue."""

        def met() -> bool:
            if self.ended() or condition():
                return True
            if not self.search.jobs():
                self.send()
            return False

        return wait_for(met, _AGAIN, pause=0.3)

    def finish(self) -> bool:
        """Go on to the end as a user and an operator do; return whether it came."""
        self.hear()
        self.search.write("pace", "0.05")
        next_try = 0.0

        def over() -> bool:
            nonlocal next_try
            if self.ended():
                return True
            if time.monotonic() > next_try:
                next_try = time.monotonic() + 5
                self.cluster.control("resume")
                if not self.search.jobs():
                    self.send()
            return False

        return wait_for(over, _PATIENCE, pause=0.5)


# -- faults


def _preempted(scene: Scene, tasks: Tasks) -> int:
    jobs = [
        scene.cluster.run(*_URGENT, f"--nodelist={node}").stdout.strip()
        for node in sorted(set(tasks.values()))
    ]
    for job in jobs:
        scene.cluster.wait(job, timeout=150)
    return len(tasks)


def _each(*command: str) -> Callable[[Scene, Tasks], int]:
    """Return a fault that gives *command* for half of the tasks."""

    def fault(scene: Scene, tasks: Tasks) -> int:
        chosen = scene.draw.sample(sorted(tasks), (len(tasks) + 1) // 2)
        return sum(scene.cluster.run(*command, task).returncode == 0 for task in chosen)

    return fault


def _all_cancelled(scene: Scene, tasks: Tasks) -> int:
    scene.search.call("cancel", scene.search.run)
    if scene.draw.random() < 0.5:
        scene.search.wait_for_the_end_of_all_jobs()
    scene.send()
    return len(tasks)


def _out_of_time(scene: Scene, tasks: Tasks) -> int:
    wait_for(lambda: scene.ended() or not tasks.keys() & scene.search.running_tasks().keys(), 120, pause=0.5)
    if scene.fault.deaf:
        # The warning was not heard; SLURM's KILL comes some seconds later.
        wait_for(lambda: "COMPLETING" not in {row[2] for row in scene.search.jobs()}, 60, pause=0.5)
    scene.hear()
    return len(tasks)


def _suspended(scene: Scene, tasks: Tasks) -> int:
    chosen = scene.draw.sample(sorted(tasks), min(3, len(tasks)))
    for task in chosen:
        scene.cluster.run("scontrol", "suspend", task)
    time.sleep(_LEASE + scene.draw.uniform(1, 8))
    return sum(scene.cluster.run("scontrol", "resume", task).returncode == 0 for task in chosen)


def _broken(how: str) -> Callable[[Scene, Tasks], int]:
    """Return a fault that breaks up to two nodes by *how* until their tasks run elsewhere."""

    def fault(scene: Scene, tasks: Tasks) -> int:
        used = sorted(set(tasks.values()))
        nodes = scene.draw.sample(used, min(2, len(used)))
        for node in nodes:
            scene.cluster.control(how, node)
        # It takes SLURM 20 to 30 s to call the nodes down, and some more to start their tasks elsewhere.
        scene.wait(lambda: not set(nodes) & set(scene.search.running_tasks().values()))
        scene.wait(lambda: bool(scene.search.running_tasks()))
        for node in nodes:
            scene.cluster.control("start-node", node)
        return len(nodes)

    return fault


def _controller(*how: str) -> Callable[[Scene, Tasks], int]:
    """Return a fault that restarts slurmctld at a random moment."""

    def fault(scene: Scene, tasks: Tasks) -> int:
        del tasks
        time.sleep(scene.draw.uniform(0.0, 2.5))
        scene.cluster.control("restart-ctld", *how)
        return 1

    return fault


_SPREAD: Final = {"cpus": 2}
_MINUTE: Final = {"time": 1}
FAULTS: Final[dict[str, Fault]] = {
    "preempted-grace": Fault(_preempted),
    "preempted": Fault(_preempted, {"partition": "abrupt"}),
    "preempted-deaf": Fault(_preempted, {"partition": "abrupt"}, deaf=True),
    "requeued": Fault(_each("scontrol", "requeue"), exact=True),
    "requeued-alone": Fault(_each("scontrol", "requeue"), workers=1, exact=True),
    "usr1": Fault(_each("scancel", "--signal=USR1"), exact=True),
    "usr2": Fault(_each("scancel", "--signal=USR2"), exact=True),
    "scancelled-one": Fault(_each("scancel"), exact=True),
    "scancelled-all": Fault(_all_cancelled),
    "suspended": Fault(_suspended, stamps=False, ends=False),
    "time-warned": Fault(_out_of_time, _MINUTE, pace=1.0),
    "time-unwarned": Fault(_out_of_time, {**_MINUTE, "signal_delay": 0}, pace=1.0),
    "time-deaf": Fault(_out_of_time, {**_MINUTE, "signal_delay": 0}, deaf=True),
    # It takes SLURM half a minute to notice; the trials of silent nodes must not have ended by then.
    "node-crashed": Fault(_broken("kill-node"), _SPREAD),
    "node-silent": Fault(_broken("kill-slurmd"), _SPREAD, pace=3.0),
    "controller-restarted": Fault(_controller(), ends=False),
    "controller-killed": Fault(_controller("--kill"), pace=0.05, at_once=True, ends=False),
}
