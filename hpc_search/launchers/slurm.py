"""SLURM job arrays, rendered and sent by submitit; the only module that imports it.

submitit ignores SIGTERM, needs a pickle a task and adds a wckey (1.5.4), so the tasks run the worker
itself: submitit's executor gets a plain command and ``map_count``, and its folder is a temporary one.
"""

from __future__ import annotations

import io
import os
import pwd
import shutil
import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hpc_search.config.profile import Profile
from hpc_search.errors import TemporaryError, UsageError
from hpc_search.launchers import control, refusals, script
from hpc_search.launchers.base import ActiveJobs, Fewer, Request, Submitted, Waited
from hpc_search.launchers.fitting import Room, room
from hpc_search.ledger.submits import Job
from hpc_search.site import environment
from hpc_search.site.client import ask
from hpc_search.site.limits import Limits, read_limits
from hpc_search.site.tasks import Task, named, own_tasks

if TYPE_CHECKING:
    from submitit.slurm.slurm import SlurmExecutor

#: Seconds that sbatch may take; it retries by itself for 120 s where the job table is full.
SBATCH_TIMEOUT_S: Final = 180
#: Seconds before the first look for an unclear submission (MessageTimeout and some), and to the second.
LOOKUP_PAUSES_S: Final = (15.0, 30.0)
#: States that a task does not leave again without being submitted or requeued.
_FINAL: Final = frozenset(
    [
        *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY"),
        *("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"),
    ]
)
#: Seconds between two questions while waiting.
_POLL_S: Final = 30.0


class SlurmLauncher:
    """Sends one job array a submission; asks `squeue` by name only."""

    name: Final = "slurm"

    def __init__(
        self,
        *,
        pause: Callable[[float], None] = time.sleep,
        lookup_pauses: tuple[float, float] = LOOKUP_PAUSES_S,
    ) -> None:
        """Wait by *pause*; look an unclear submission up after each of *lookup_pauses* seconds."""
        self._pause = pause
        self._lookup_pauses = lookup_pauses
        self._limits: Limits | None = None
        self._tasks: list[Task] | None = None

    def check(self) -> None:
        """Raise UsageError where sbatch is not on PATH, or SLURM_CONF names no file.

        SLURM's own commands look for such a file for a minute before they say so.
        """
        check_configured()
        if not sbatch_available():
            message = "sbatch is not on PATH, so nothing can be sent to SLURM from this machine"
            raise UsageError(
                message, hint="use `--launcher local`, or log in to the cluster and submit there"
            )

    def workers(self, profile: Profile, threads: int, pending: int, asked: int | None = None) -> int:
        """Return as many as *asked*, else as the profile says, at most one a trial."""
        del threads
        return max(1, min(profile.workers if asked is None else asked, pending))

    @property
    def limits(self) -> Limits:
        """What the site takes, asked once."""
        if self._limits is None:
            self._limits = read_limits()
        return self._limits

    def longest(self, profile: Profile) -> int | None:
        """Return the MaxTime of the profile's partition."""
        return self.limits.partition(profile.partition).max_time

    def room(self, profile: Profile) -> Room:
        """Return what the site's limits leave beside all tasks of this user."""
        limits = self.limits
        tasks = (own_tasks() if self._tasks is None else self._tasks) or []
        places = [task.place for task in tasks if task.counts]
        return room(limits.bounds(profile), places, limits.array(profile))

    def script(self, request: Request) -> str:
        """Return the sbatch script of *request*."""
        with tempfile.TemporaryDirectory() as folder:
            return _render(_executor(request, Path(folder)), request)

    def submit(self, request: Request) -> Submitted:
        """Send *request* with sbatch, once.

        Raises:
            UsageError: sbatch is not on PATH.
            RefusedError, UnclearError, TemporaryError: See `launchers.refusals.explain`.
        """
        self.check()
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
            executor = _executor(request, Path(folder))
            try:
                job = executor._submit_command(script.command(request))  # noqa: SLF001 - the only way without a pickle
            except FailedSubmissionError as error:
                raise refusals.explain(0, str(error)) from None
            except FailedJobError as error:
                status = getattr(error.__cause__, "returncode", 1)
                raise refusals.explain(status, str(error)) from None
        return Submitted((Job(id=str(job.job_id), tasks=request.tasks),))

    def find(self, token: str) -> Submitted | None:
        """Look twice, some time apart, in squeue, then in sacct."""
        for seconds in self._lookup_pauses:
            self._pause(seconds)
            answer = ask(["squeue", "--me", "-h", "-r", "-t", "all", f"--name={token}", "-o", "%F"])
            if answer is None:
                message = (
                    f"the SLURM controller does not answer, so it is not known whether {token} was accepted"
                )
                raise TemporaryError(message, hint="the same command again later; nothing is sent twice")
            if answer.split():
                return _adopted(answer.split())
        accounted = ask(["sacct", "-X", "-n", "-P", f"--name={token}", "-S", "now-2days", "-o", "JobID"])
        ids = [line.split("_")[0] for line in (accounted or "").split()]
        return _adopted(ids) if ids else None

    def active(self, tokens: Sequence[str]) -> dict[str, ActiveJobs] | None:
        """Return what squeue shows under *tokens*, by one call."""
        if not tokens:
            return {}
        self._tasks = own_tasks()
        return None if self._tasks is None else counted(named(self._tasks, tokens))

    def ended(self, tokens: Sequence[str]) -> frozenset[str]:
        """Ask squeue, which knows jobs for some minutes after their end, then sacct for the rest."""
        names = f"--name={','.join(tokens)}"
        shown = ask(["squeue", "--me", "-h", "-r", "-t", "all", names, "-o", "%j|%T"]) or ""
        if all(f"{token}|" in shown for token in tokens):
            return over(shown)
        kept = ask(["sacct", "-X", "-n", "-P", names, "-S", "now-30days", "-o", "JobName,State"]) or ""
        return over(f"{shown}\n{kept}")

    def cancel(self, tokens: Sequence[str]) -> int:
        """Cancel by name, one scancel a token that is live."""
        check_configured()
        active = self.active(tokens)
        if active is None:
            message = "the SLURM controller does not answer; nothing was cancelled"
            raise TemporaryError(message, hint="the same command again later")
        user = pwd.getpwuid(os.getuid()).pw_name
        for token in sorted(active):
            if ask(["scancel", f"--name={token}", f"--user={user}"]) is None:
                message = f"scancel --name={token} failed"
                raise TemporaryError(message, hint="the same command again later")
        return sum(jobs.live for jobs in active.values())

    def change(self, tokens: Sequence[str], before: Profile, after: Profile) -> list[str]:
        """Give the arrays that `active` showed the throttle and the walltime of *after*."""
        return control.change(named(self._tasks or (), tokens), before, after)

    def reduce(self, tokens: Sequence[str], count: int) -> Fewer:
        """Cancel *count* of the tasks that `active` showed: first those that wait."""
        return control.reduce(named(self._tasks or (), tokens), count)

    def wait(
        self, tokens: Callable[[], Sequence[str]], tick: Callable[[], None], left: Callable[[], int]
    ) -> Waited:
        """Stay until no trial is left or SLURM, asked twice, knows none of the *tokens* of then.

        Ctrl-C leaves the jobs alone.
        """
        absent = 0
        asked = time.monotonic()
        try:
            while left() > 0 and absent < 2:
                tick()
                self._pause(1.0)
                if time.monotonic() - asked >= _POLL_S:
                    asked = time.monotonic()
                    absent = absent + 1 if self.active(tokens()) == {} else 0
        except KeyboardInterrupt:
            return Waited(signal.SIGINT)
        tick()
        return Waited()


def check_configured() -> None:
    """Raise UsageError where SLURM_CONF names no file."""
    conf = os.environ.get("SLURM_CONF", "")
    if conf and not os.path.exists(conf):
        raise UsageError(f"SLURM_CONF is {conf}, and there is no such file", hint=refusals.SET_UP)


def counted(tasks: Iterable[Task]) -> dict[str, ActiveJobs]:
    """Return the tasks by name.

    Every state but PENDING and COMPLETING is running; one that is cancelled or preempted is COMPLETING
    until it is killed.
    """
    by_name: defaultdict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        by_name[task.name].append(task)
    return {name: _active(of_name) for name, of_name in by_name.items()}


def _active(tasks: Sequence[Task]) -> ActiveJobs:
    waiting = [task for task in tasks if task.waits]
    ending = sum(not task.counts for task in tasks)
    return ActiveJobs(
        pending=len(waiting),
        running=len(tasks) - len(waiting) - ending,
        ending=ending,
        reasons=dict(Counter(task.reason for task in waiting)),
    )


def over(text: str) -> frozenset[str]:
    """Return the names whose tasks are all in a final state, from lines ``NAME|STATE``.

    A state word that is not known means alive.
    """
    ended: dict[str, bool] = {}
    for line in text.splitlines():
        name, _, state = line.strip().partition("|")
        if name:
            # "CANCELLED by 1000"
            word = state.partition(" ")[0]
            ended[name] = ended.get(name, True) and word in _FINAL
    return frozenset(name for name, final in ended.items() if final)


def sbatch_available() -> bool:
    """Return whether this machine can send jobs."""
    return shutil.which("sbatch") is not None


def _adopted(ids: list[str]) -> Submitted:
    counts = Counter(ids)
    return Submitted(tuple(Job(id=name, tasks=count) for name, count in sorted(counts.items())), adopted=True)


def _executor(request: Request, folder: Path) -> SlurmExecutor:
    """Return submitit's executor for *request*, writing into *folder* alone."""
    from submitit.slurm.slurm import SlurmExecutor

    class Executor(SlurmExecutor):
        """submitit's executor, with our sbatch command and no need of srun on this machine."""

        @classmethod
        def affinity(cls) -> int:
            return 2

        def _make_submission_command(self, submission_file_path: Path) -> list[str]:
            return sbatch_command(submission_file_path, request.forward)

    executor = Executor(folder)
    executor.update_parameters(**script.parameters(request))
    executor.parameters["map_count"] = request.tasks
    return executor


def _render(executor: SlurmExecutor, request: Request) -> str:
    return executor._make_submission_file_text(script.command(request), "")  # noqa: SLF001 - its only renderer


def sbatch_command(script: Path, forward: tuple[str, ...]) -> list[str]:
    """Return the argv that sends *script*: private files, a deadline, and only what may be seen.

    ``--export=ALL`` hands over an environment that was reduced before. The other values make sbatch
    load the login environment on the node by ``su -``, which is slow and holds jobs where it fails.
    """
    allowed = environment.client(os.environ, forward)
    unset = [f"--unset={name}" for name in sorted(os.environ) if name not in allowed]
    deadline = ["timeout", "--kill-after=5", str(SBATCH_TIMEOUT_S)]
    private = ["/bin/sh", "-c", 'umask 077; exec "$@"', "sh"]
    return [*private, "env", *unset, *deadline, "sbatch", "--export=ALL", str(script)]
