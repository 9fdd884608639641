"""Submitting, waiting, cancelling."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hpc_search.errors import EXIT_DONE, EXIT_FAILED, DamagedError
from hpc_search.ledger import IndexDamagedError, finals, paused
from hpc_search.planning import load_instance
from hpc_search.search.runs import Run

if TYPE_CHECKING:
    from hpc_search.config.profile import Profile
    from hpc_search.launchers.base import Launcher
    from hpc_search.launchers.submission import Order, Outcome
    from hpc_search.status import Status

#: Seconds between two looks of `status --watch`.
_WATCH: Final = 2.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What `submit` was asked for."""

    launcher: str = ""
    profile: Path | None = None
    assignments: tuple[str, ...] = ()
    workers: int | None = None


class Sent(NamedTuple):
    """A submission and the launcher that can wait for it."""

    outcome: Outcome
    launcher: Launcher


class Ended(NamedTuple):
    """How a wait ended: the exit code, and words where something is left or failed."""

    code: int
    text: str


def launcher_named(name: str) -> Launcher:
    """Return the launcher *name*: slurm, local, or "" for slurm where sbatch is on PATH, else local."""
    from hpc_search.launchers import local, slurm

    if name == "slurm" or (not name and shutil.which("sbatch")):
        return slurm.SlurmLauncher()
    return local.LocalLauncher()


def _profile(run: Run, wish: Wish) -> Profile:
    """Return the profile that was given, else the one of the run's last submission, else the defaults."""
    from hpc_search.config import profile

    path = wish.profile or (run.layout.profile if run.layout.profile.exists() else None)
    if path and not wish.profile and not profile.signature_holds(path.read_bytes()):
        message = f"{path} is not what the last `submit` wrote"
        raise DamagedError(message, hint="say which profile is meant: submit RUN --profile FILE")
    found = profile.load_profile(path) if path else profile.Profile(name="default")
    workers = [f"workers={wish.workers}"] if wish.workers is not None else []
    return profile.profile_with(found, [*workers, *wish.assignments])


def _order(run: Run, wish: Wish, pending: int) -> Order:
    from hpc_search.launchers.submission import Order

    return Order(
        layout=run.layout,
        plan=run.plan,
        launcher=launcher_named(wish.launcher),
        profile=_profile(run, wish),
        pending=pending,
        workers=wish.workers,
        chdir=load_instance(run.layout).origin,
        avoid=not any(text.startswith("exclude=") for text in wish.assignments),
    )


def pending(run: Run) -> int:
    """Return how many trials have not ended, by the index; all of them where it cannot be read."""
    try:
        return run.plan.trials - finals(run.layout)
    except IndexDamagedError:
        return run.plan.trials


def preview(run: Run, wish: Wish) -> str:
    """Return what `submit` would hand to the launcher; changes nothing."""
    from hpc_search.launchers import submission

    return submission.preview(_order(run, wish, pending(run)))


def submit(run: Run, wish: Wish) -> Sent:
    """Start the workers that are missing; a stop mark of an earlier failure is removed first.

    Raises:
        UsageError: A wrong profile, no such launcher here, or SLURM refused for good (RefusedError).
        TemporaryError: The scheduler does not answer.
    """
    from hpc_search import durable
    from hpc_search.config.profile import signed_profile
    from hpc_search.launchers import submission

    order = _order(run, wish, pending(run))
    run.layout.stop.unlink(missing_ok=True)
    outcome = submission.submit(order)
    failed = status(run).failed if order.pending <= 0 else 0
    if failed:
        words = f"{outcome.text}; {failed} failed: `hpc-search status {run.path}` says why"
        words += ". The run keeps its code: plan corrected code anew with --run DIR"
        outcome = replace(outcome, text=words)
    if outcome.sent and order.launcher.name == "slurm":
        durable.replace(run.layout.profile, signed_profile(order.profile))
    return Sent(outcome, order.launcher)


def status(run: Run) -> Status:
    """Return the status of *run* now."""
    from hpc_search.status import read_status

    return read_status(run.layout, run.plan, now=time.time())


def wait(run: Run, sent: Sent) -> Ended:
    """Stay until the work ends, with a progress bar; return the exit code and what to say."""
    from hpc_search.progress import Progress

    with Progress() as progress:

        def tick() -> None:
            progress.update(status(run))

        waited = sent.launcher.wait(sent.outcome.tokens, tick, lambda: pending(run))
    if waited.signal and sent.launcher.name == "slurm":
        words = f"no longer waiting; the jobs go on. `hpc-search cancel {run.path}` ends them"
        return Ended(128 + waited.signal, words)
    return _ended(run, waited.signal, waited.lost)


def _ended(run: Run, signal_number: int, lost: tuple[str, ...]) -> Ended:
    seen = status(run)
    if signal_number:
        return Ended(128 + signal_number, f"stopped; `hpc-search submit {run.path}` goes on where it was")
    rows = []
    if seen.left and seen.stopped is not None:
        rows = [f"stopped: {seen.stopped}", f"{_trials(seen.left)} left"]
    elif seen.left and paused(run.layout):
        rows = [f"{paused(run.layout)}; {_trials(seen.left)} left; `hpc-search resume {run.path}` goes on"]
    elif seen.left:
        rows = [
            f"worker {words.replace(': ', ' ended with ', 1)}; logs: {run.layout.submitit}" for words in lost
        ]
        rows.append(f"{_trials(seen.left)} left; `hpc-search submit {run.path}` goes on")
    elif seen.failed:
        why = f"`hpc-search status {run.path}` says why"
        rows.append(f"{seen.failed} of {seen.trials} trials failed; {why}")
    return Ended(EXIT_FAILED if rows else EXIT_DONE, "\n".join(rows))


def after_work(run: Run) -> str:
    """Return one line on what is done and, where something is left, the next command."""
    from hpc_search.progress import line

    seen = status(run)
    more = f"; `hpc-search submit {run.path}` goes on where it was" if seen.left else ""
    return f"{line(seen)}{more}"


def _trials(count: int) -> str:
    return "1 trial is" if count == 1 else f"{count} trials are"


def cancel(run: Run) -> str:
    """End the workers of the run, by their tokens; return one sentence.

    Raises:
        TemporaryError: The scheduler does not answer.
    """
    from hpc_search.launchers import local, slurm, submission
    from hpc_search.ledger import submits

    known = {one.launcher for one in submits.submissions(run.layout)}
    launchers: list[Launcher] = []
    if "local" in known:
        launchers.append(local.LocalLauncher())
    if "slurm" in known:
        launchers.append(slurm.SlurmLauncher())
    ended = sum(submission.cancel(run.layout, launcher) for launcher in launchers)
    if not ended:
        return "no worker of this run is live; nothing to cancel"
    workers = "1 worker was" if ended == 1 else f"{ended} workers were"
    return f"{workers} told to end; `hpc-search submit {run.path}` goes on where they stopped"


def watch(run: Run, pause: Callable[[float], None] = time.sleep) -> int:
    """Show the status again and again until Ctrl-C or the end of the search."""
    from hpc_search.progress import Progress

    try:
        with Progress() as progress:
            while True:
                seen = status(run)
                progress.update(seen)
                if not seen.left:
                    return EXIT_DONE
                pause(_WATCH)
    except KeyboardInterrupt:
        return EXIT_DONE
