"""Telling the workers of a run at once that it is paused, and letting those go on that wait in the queue.

The mark in RUN is what counts: whoever starts or looks later sees it. This only makes it quick, and lets
waiting tasks keep their age.
"""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from hpc_search.launchers import processes, submission
from hpc_search.launchers.base import ActiveJobs
from hpc_search.launchers.slurm import SlurmLauncher
from hpc_search.layout import Layout
from hpc_search.ledger import submits
from hpc_search.site.client import ask

#: Why a task waits that `scontrol hold` of its user holds.
_HELD: Final = "JobHeldUser"


@dataclass(frozen=True, slots=True)
class Told:
    """Workers told to save and end, tasks that wait and are held (or go on), and what could not be done."""

    running: int = 0
    waiting: int = 0
    problem: str = ""


def pause(layout: Layout, mark: str, publish: Callable[[], object]) -> Told:
    """Hold the tasks that wait, *publish* the pause, then tell running workers to look: two calls an array.

    In this order: the place of a task that ends is taken at once by one that waits. *mark* is in the names of
    the run's jobs.
    """
    active = _active(layout, mark)
    waiting = {name: jobs.pending for name, jobs in (active or {}).items() if jobs.pending}
    # Not `hold`: what root holds by that only root can release.
    unheld = [name for name in waiting if ask(["scontrol", "uhold", f"jobname={name}"]) is None]
    publish()
    here = submission.tokens(layout, "local", mark)
    local = processes.running(frozenset(here)) if here else []
    for one in local:
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGUSR2)
    running = {name: jobs.running for name, jobs in (active or {}).items() if jobs.running}
    user = pwd.getpwuid(os.getuid()).pw_name
    for name in running:
        # It fails where a task ends meanwhile; a task that it does not reach sees the mark at its next look.
        ask(["scancel", "--signal=USR2", "--state=RUNNING", f"--user={user}", f"--name={name}"])
    problem = ""
    if active is None:
        problem = "SLURM does not answer: its workers see that at their next heartbeat, tasks when they start"
    elif unheld:
        problem = f"SLURM did not hold {', '.join(unheld)}: their tasks see the mark when they start, and end"
    held = sum(count for name, count in waiting.items() if name not in unheld)
    return Told(len(local) + sum(_workers(layout, *one) for one in running.items()), held, problem)


def _workers(layout: Layout, name: str, tasks: int) -> int:
    sent = submits.of_token(layout, name)
    return tasks * max(1, sent.profile.slice.pack.workers if sent is not None else 1)


def release(layout: Layout, mark: str) -> Told:
    """Let the tasks go on that wait because they are held; one call a submission that has some."""
    active = _active(layout, mark)
    if active is None:
        return Told(problem="SLURM does not answer")
    held = {name: jobs.reasons.get(_HELD, 0) for name, jobs in active.items()}
    held = {name: count for name, count in held.items() if count}
    failed = [name for name in held if ask(["scontrol", "release", f"jobname={name}"]) is None]
    problem = f"SLURM did not release {', '.join(failed)}" if failed else ""
    return Told(0, sum(count for name, count in held.items() if name not in failed), problem)


def _active(layout: Layout, mark: str) -> Mapping[str, ActiveJobs] | None:
    tokens = submission.tokens(layout, "slurm", mark)
    return SlurmLauncher().active(tokens) if tokens else {}
