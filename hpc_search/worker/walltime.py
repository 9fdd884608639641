"""How long the job may still run: a difference of the scheduler's own times, minus our monotonic time."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_FIELD: Final = re.compile(r"\b(RunTime|TimeLimit)=(\S+)")
#: Seconds that scontrol may take; an unreachable controller answers after 9.
_TIMEOUT: Final = 15.0
#: The trial is stopped this long before the end, or a tenth of the walltime where that is less.
_MARGIN: Final = 120.0
#: One that does not listen is killed in the last part of that: its worker can still ask for more time.
_LAST: Final = 0.25
#: scontrol prints whole seconds.
_ROUNDED: Final = 1.0


def parse_duration(text: str) -> float | None:
    """Return the seconds of SLURM's ``days-hh:mm:ss``, ``hh:mm:ss`` or ``mm:ss``; None for UNLIMITED."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds


def parse_job(text: str) -> tuple[float, float] | None:
    """Return (time limit, time run) in seconds from the output of ``scontrol show job``."""
    fields = {name: parse_duration(value) for name, value in _FIELD.findall(text)}
    limit, run = fields.get("TimeLimit"), fields.get("RunTime")
    return None if limit is None or run is None else (limit, run)


def name_of_this_job(env: Mapping[str, str]) -> str:
    """Return what scontrol calls this job alone, "" outside of one.

    One task of an array has the array's own id as SLURM_JOB_ID, which means all tasks.
    """
    array, task = env.get("SLURM_ARRAY_JOB_ID", ""), env.get("SLURM_ARRAY_TASK_ID", "")
    if array.isdecimal() and task.isdecimal():
        return f"{array}_{task}"
    job = env.get("SLURM_JOB_ID", "")
    return job if job.isdecimal() else ""


def _ask(env: Mapping[str, str], *, begins: bool) -> tuple[float, float] | None:
    start, end = env.get("SLURM_JOB_START_TIME", ""), env.get("SLURM_JOB_END_TIME", "")
    if begins and start.isdecimal() and end.isdecimal() and int(end) > int(start):
        # Both are slurmctld's; the job began no later than this process.
        return float(int(end) - int(start)), 0.0
    job = name_of_this_job(env)
    if not job:
        return None
    try:
        shown = subprocess.run(
            ["scontrol", "show", "job", job],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_job(shown.stdout) if shown.returncode == 0 else None


@dataclass(frozen=True, slots=True)
class Walltime:
    """The job's limit; without one (a laptop, an unlimited partition) nothing ever ends."""

    limit: float | None
    ends: float

    @classmethod
    def of_this_job(cls, *, begins: bool = True) -> Walltime:
        """Ask the environment where the job *begins* with this process, else SLURM once."""
        known = _ask(os.environ, begins=begins)
        if known is None:
            return cls(None, float("inf"))
        limit, run = known
        return cls(limit, time.monotonic() + limit - run)

    @property
    def margin(self) -> float:
        """Seconds before the end at which a trial is asked to stop."""
        return 0.0 if self.limit is None else min(_MARGIN, self.limit / 10)

    @property
    def usable(self) -> float | None:
        """Seconds that a trial can have in a whole job, None without a limit."""
        return None if self.limit is None else self.limit - self.margin

    def over(self) -> bool:
        """Return whether the limit has passed, so that SLURM ends the job for that reason."""
        return time.monotonic() >= self.ends - _ROUNDED

    def left_to_kill(self) -> float:
        """Seconds until a trial that was asked to stop has to be killed."""
        return self.ends - self.margin * _LAST - time.monotonic()

    def left(self) -> float:
        """Seconds until a trial has to stop."""
        return self.ends - self.margin - time.monotonic()


def requeue_this_job() -> bool:
    """Ask SLURM to run this task again later; return whether it agreed."""
    job = name_of_this_job(os.environ)
    if not job:
        return False
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job],
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
