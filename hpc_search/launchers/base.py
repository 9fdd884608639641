"""What every launcher can do, and the values that it takes and returns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from hpc_search.config.profile import Profile
from hpc_search.errors import TemporaryError
from hpc_search.ledger.submits import Job
from hpc_search.records.plan import Plan

#: Characters of a token's first part: what `squeue` has room for.
SLUG_LENGTH: Final = 24
_NOT_IN_SLUG: Final = re.compile(r"[^a-z0-9._]+")


class UnclearError(TemporaryError):
    """The scheduler's answer does not say whether the jobs exist: look the token up before sending again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One submission: ``tasks`` workers for the run at ``run``, an absolute path.

    ``environment`` is exported with its values written into the script; ``forward`` are names whose
    values the tasks get from the submitter's environment without being written anywhere. ``command``
    replaces the worker (the seat, where the launcher gives one, is in HPC_SEARCH_SEAT).
    """

    run: str
    token: str
    tasks: int
    profile: Profile
    chdir: str = ""
    first_seat: int = 0
    comment: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    forward: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a Request; ``adopted`` where it was found by its token instead of sent now."""

    jobs: tuple[Job, ...]
    adopted: bool = False


@dataclass(frozen=True, slots=True)
class ActiveJobs:
    """Tasks of one token that are not over: waiting, running, on machines that cannot be seen from here.

    ``ending`` ones were told to end, or have ended, and claim nothing more. ``reasons`` counts why the
    waiting ones wait, in the scheduler's words.
    """

    pending: int = 0
    running: int = 0
    elsewhere: int = 0
    ending: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def live(self) -> int:
        """Tasks that work or will work."""
        return self.pending + self.running


@dataclass(frozen=True, slots=True)
class Waited:
    """How a wait ended: the signal that ended it (0 for none), and the workers that did not exit with 0."""

    signal: int = 0
    lost: tuple[str, ...] = ()


class Launcher(Protocol):
    """Starts workers and knows them again by their token alone."""

    @property
    def name(self) -> str:
        """The name in ``--launcher`` and in the records."""

    def check(self) -> None:
        """Raise UsageError where this machine cannot start anything by it."""

    def workers(self, profile: Profile, threads: int, pending: int, asked: int | None = None) -> int:
        """Return how many tasks to start for *asked* workers (None: nobody said): at most a worker a trial.

        Workers that are packed share a task.
        """

    def batch(self, profile: Profile) -> int:
        """Return the most tasks that one submission may have."""

    def script(self, request: Request) -> str:
        """Return the text that `submit` would hand over; changes nothing."""

    def submit(self, request: Request) -> Submitted:
        """Start the tasks, trying once.

        Raises:
            RefusedError: The scheduler refused for good.
            UnclearError: Nobody knows whether the tasks exist.
            TemporaryError: They do not exist; a later try may succeed.
        """

    def find(self, token: str) -> Submitted | None:
        """Look *token* up; None where the scheduler, healthy, does not know it.

        Raises:
            TemporaryError: The scheduler does not answer.
        """

    def active(self, tokens: Sequence[str]) -> dict[str, ActiveJobs] | None:
        """Return what is live by token; None where the scheduler does not answer: unknown means alive."""

    def ended(self, tokens: Sequence[str]) -> frozenset[str]:
        """Return those of *tokens*, none of them live, whose tasks are known to have ended for good."""

    def cancel(self, tokens: Sequence[str]) -> int:
        """End the tasks of *tokens*; return how many live tasks were told to.

        Raises:
            TemporaryError: The scheduler does not answer.
        """

    def wait(self, tokens: Sequence[str], tick: Callable[[], None], left: Callable[[], int]) -> Waited:
        """Stay until *left* returns 0 or nothing of *tokens* is live, calling *tick* every second."""


def tasks_for(workers: int, pending: int, profile: Profile) -> int:
    """Return the tasks of *workers*, at most one worker for each *pending* trial, some to a task."""
    return -(-max(1, min(workers, pending)) // profile.slice.pack.workers)


def worker(python: str, request: Request) -> tuple[str, ...]:
    """Return the start of a worker's argv. The directory it starts in is kept off its import path."""
    return request.command or (python, "-P", "-m", "hpc_search", "work", request.run)


def slug(name: str) -> str:
    """Return *name* as the first part of a token: lower case, digits, dots, underscores, dashes."""
    text = _NOT_IN_SLUG.sub("-", name.lower()).strip("-.")[:SLUG_LENGTH].strip("-.")
    return text or "search"


def token(plan: Plan, number: int) -> str:
    """Return the token of submission *number* (from 1) of the run of *plan*."""
    return f"{slug(plan.search.name)}-{plan.run_id[-8:]}-{number:04d}"
