"""What every launcher can do, and the values that it takes and returns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol

from hpc_search.config.profile import Profile
from hpc_search.errors import TemporaryError
from hpc_search.launchers.fitting import Room
from hpc_search.ledger.submits import Job
from hpc_search.records.plan import Plan

#: Characters of a token's first part: what `squeue` has room for.
SLUG_LENGTH: Final = 24
_NOT_IN_SLUG: Final = re.compile(r"[^a-z0-9._]+")


class UnclearError(TemporaryError):
    """The scheduler's answer does not say whether the jobs exist: look the token up before sending again."""


class NoRoomError(TemporaryError):
    """A limit of the site refused so many tasks: fewer may be taken, or all of them later."""

    def __init__(self, message: str, *, hint: str = "", rule: str = "") -> None:
        """Keep the name of the *rule* too, in SLURM's words."""
        super().__init__(message, hint=hint)
        self.rule = rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One submission: ``tasks`` workers for the run at ``run``, an absolute path.

    ``environment`` is exported with its values written into the script; ``forward`` are names whose
    values the tasks get from the submitter's environment without being written anywhere. ``command``
    replaces the worker (the seat, where the launcher gives one, is in HPC_SEARCH_SEAT). ``minutes`` and
    ``minutes_min`` are the walltime asked for (0: the profile's). Workers claim trials of ``folds`` alone,
    of all where there are none.
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
    minutes: int = 0
    minutes_min: int = 0
    folds: tuple[int, ...] = ()


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

    def at_most(self, live: int) -> ActiveJobs:
        """Return the same with *live* tasks or fewer, the other running ones ending."""
        running = min(self.running, max(0, live - self.pending))
        return replace(self, running=running, ending=self.ending + self.running - running)


class Fewer(NamedTuple):
    """What was done so that fewer workers are live: waiting ones taken back, running ones told to stop."""

    waiting: int = 0
    running: int = 0


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

    def longest(self, profile: Profile) -> int | None:
        """Return the most minutes that a job of *profile* may have; None where nothing is known."""

    def workers(self, profile: Profile, threads: int, pending: int, asked: int | None = None) -> int:
        """Return how many workers to start where *asked* shall be, or nobody said; at most *pending*."""

    def room(self, profile: Profile) -> Room:
        """Return how many more tasks of *profile* fit now, beside those that `active` showed last."""

    def script(self, request: Request) -> str:
        """Return the text that `submit` would hand over; changes nothing."""

    def submit(self, request: Request) -> Submitted:
        """Start the tasks, trying once.

        Raises:
            RefusedError: The scheduler refused for good.
            NoRoomError: A limit refused so many tasks.
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

    def change(self, tokens: Sequence[str], before: Profile, after: Profile) -> list[str]:
        """Let what `active` showed of *tokens* have what differs in *after*; return what was done."""

    def reduce(self, tokens: Sequence[str], count: int) -> Fewer:
        """Have *count* fewer workers of *tokens*: waiting ones end first, running ones at a checkpoint."""

    def wait(
        self, tokens: Callable[[], Sequence[str]], tick: Callable[[], None], left: Callable[[], int]
    ) -> Waited:
        """Stay until *left* returns 0 or no one of *tokens* is live; call *tick* every second."""


def worker(python: str, request: Request) -> tuple[str, ...]:
    """Return the start of a worker's argv. The directory it starts in is kept off its import path."""
    folds = ("--folds", *map(str, request.folds)) if request.folds else ()
    return request.command or (python, "-P", "-m", "hpc_search", "work", request.run, *folds)


def slug(name: str) -> str:
    """Return *name* as the first part of a token: lower case, digits, dots, underscores, dashes."""
    text = _NOT_IN_SLUG.sub("-", name.lower()).strip("-.")[:SLUG_LENGTH].strip("-.")
    return text or "search"


def token(plan: Plan, number: int, mark: str = "") -> str:
    """Return the token of submission *number* (from 1) of the run of *plan*; a copy has its own *mark*."""
    return f"{slug(plan.search.name)}-{mark or plan.run_id[-8:]}-{number:04d}"
