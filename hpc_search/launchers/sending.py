"""One submission: an intent, published under the next number; one request under its token; the answer.

An intent without an answer was cut short: its token is looked up, then adopted or sent again under the
same token. No job id is an identity.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from hpc_search import durable
from hpc_search.config.profile import Profile
from hpc_search.errors import RefusedError, TemporaryError
from hpc_search.launchers import leftovers, processes
from hpc_search.launchers.base import Launcher, NoRoomError, Request, Submitted, UnclearError, token
from hpc_search.launchers.fitting import NO_LIMIT
from hpc_search.layout import Layout
from hpc_search.ledger.submits import Answer, Intent, Job, Kind, marked, submissions
from hpc_search.records import checked
from hpc_search.records.plan import Plan
from hpc_search.site import environment

#: Requests under one token: the first, and one after an unclear answer and a look-up that found nothing.
_SENDS: Final = 2
#: Seconds before the next tries where the scheduler cannot answer now, each shortened by up to a third.
PATIENCE_S: Final = (5.0, 10.0, 20.0, 40.0)
_PACKAGE: Final = Path(__file__).resolve().parents[1]
#: What a line of the script takes without quotes of its own, and how much of it.
_NOT_IN_COMMENT: Final = re.compile(r"[^A-Za-z0-9 ._,:/+-]+")
_COMMENT: Final = 120
_T = TypeVar("_T")
Outcome = Literal["sent", "adopted", "refused", "not sent", "set"]


@dataclass(frozen=True, slots=True)
class Order:
    """What `submit` asks for: ``pending`` trials are left; ``workers`` of None means the launcher's choice.

    ``chdir`` is where the tasks start (where the plan was made), ``environ`` the submitter's environment.
    ``command`` replaces the worker. ``mark`` is in every token of this run (""; the run id's).
    """

    layout: Layout
    plan: Plan
    launcher: Launcher
    profile: Profile
    pending: int
    workers: int | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    chdir: str = ""
    command: tuple[str, ...] = ()
    #: Whether nodes that failed again and again are excluded.
    avoid: bool = True
    pause: Callable[[float], None] = time.sleep
    #: How often a scheduler that cannot answer now is asked again, and who hears of it.
    patience: tuple[float, ...] = PATIENCE_S
    say: Callable[[str], None] = lambda _: None
    mark: str = ""
    depth: int = 0
    #: Walltime in minutes where the profile leaves it to be learned.
    minutes: int = 0
    minutes_min: int = 0
    #: Folds whose trials alone the workers shall claim, () for all.
    folds: tuple[int, ...] = ()

    @property
    def kind(self) -> Kind:
        """What is asked for."""
        return Kind(self.launcher.name, self.profile.name, self.folds)

    @property
    def asked(self) -> int:
        """Workers that were asked for, whatever is left to do."""
        return self.launcher.workers(self.profile, self.plan.search.threads, NO_LIMIT, self.workers)

    @property
    def wanted(self) -> int:
        """Tasks that shall be live afterwards."""
        return self.tasks(min(self.asked, self.pending))

    def tasks(self, workers: int) -> int:
        """Return the tasks of so many *workers*: those that are packed share one."""
        return -(-workers // self.profile.slice.pack.workers)

    def token(self, number: int) -> str:
        """Return the token of submission *number*."""
        return token(self.plan, number, self.mark)


def patiently(order: Order, action: Callable[[], _T]) -> _T:
    """Return what *action* does, tried again after growing pauses where the scheduler cannot do it now.

    Raises:
        UnclearError, NoRoomError: At once: the one has to be looked up first, the other needs other tasks.
        TemporaryError: The last try failed too.
    """
    for seconds in order.patience:
        try:
            return action()
        except (UnclearError, NoRoomError):
            raise
        except TemporaryError as error:
            wait = seconds * random.uniform(2 / 3, 1)
            order.say(f"{error.message.splitlines()[0]}; again in {wait:.0f} s")
            order.pause(wait)
    return action()


def resolved(order: Order, intent: Intent) -> Answer:
    """Return the answer to an *intent* that was cut short: looked up, and sent where still wanted."""
    found = patiently(order, lambda: order.launcher.find(intent.token))
    if found is not None:
        return answer(order.layout, intent, "adopted", found.jobs)
    if withdrawn(order, intent):
        return answer(order.layout, intent, "not sent", words="cancelled")
    return send(order, intent)


def withdrawn(order: Order, intent: Intent) -> bool:
    """Return whether a `cancel`, which wants nothing more, came after *intent*."""
    later = [one for one in submissions(order.layout) if one.number > intent.number and not one.wanted]
    mine = marked(later, intent.token.rpartition("-")[0].rpartition("-")[2])
    return any(one.kind == intent.kind for one in mine)


def made(order: Order, number: int, tasks: int, **changes: Any) -> Intent:
    """Return the intent for *tasks* workers as submission *number*."""
    fields: dict[str, Any] = {
        "number": number,
        "token": order.token(number),
        "launcher": order.launcher.name,
        "tasks": tasks,
        "host": processes.hostname(),
        "created": time.time(),
        "profile": order.profile,
        "wanted": order.asked,
        "depth": order.depth,
        "minutes": order.minutes,
        "minutes_min": order.minutes_min,
        "folds": order.folds,
    }
    return Intent(**{**fields, **changes})


def publish(order: Order, intent: Intent) -> None:
    """Publish *intent* and its script, before anything is sent.

    Raises:
        TemporaryError: Somebody else has this number.
    """
    leftovers.keep_script(order.layout, intent.token, order.launcher, request(order, intent))
    taken = order.layout.submit_record(intent.number).exists()
    if taken or not durable.publish(order.layout.submit_intent(intent.number), checked.encode(intent)):
        message = "another `submit` of this run is at work, and this mount has no locks to wait for it"
        raise TemporaryError(message, hint="the same command again in a minute")


def send(order: Order, intent: Intent) -> Answer:
    """Send *intent* and publish the answer; an unclear answer leaves it open for the next `submit`."""
    try:
        found = _request_once(order, request(order, intent))
    except UnclearError:
        raise  # the intent stays open
    except RefusedError as error:
        answer(order.layout, intent, "refused", words=error.message)
        raise
    except TemporaryError as error:
        answer(order.layout, intent, "not sent", words=error.message)
        raise
    known = answer(order.layout, intent, "adopted" if found.adopted else "sent", found.jobs)
    if withdrawn(order, intent):
        # That `cancel` looked before these jobs were there.
        order.launcher.cancel([intent.token])
        message = f"{order.layout.root} was cancelled meanwhile; what was sent as {intent.token} is ended"
        raise TemporaryError(message, hint="the same command again, where workers are wanted after all")
    return known


def _request_once(order: Order, asked: Request) -> Submitted:
    """Return the answer to *asked*, looked up by its token where sending it gave no clear one."""
    for last in range(1, _SENDS + 1):
        try:
            return patiently(order, lambda: order.launcher.submit(asked))
        except UnclearError as error:
            found = _find(order, asked.token)
            if found is not None:
                return found
            if last == _SENDS:
                raise TemporaryError(error.message, hint=error.hint) from error
    raise AssertionError


def _find(order: Order, name: str) -> Submitted | None:
    try:
        return patiently(order, lambda: order.launcher.find(name))
    except TemporaryError as error:
        raise UnclearError(error.message, hint=error.hint) from error


def answer(
    layout: Layout, intent: Intent, outcome: Outcome, jobs: Sequence[Job] = (), words: str = ""
) -> Answer:
    """Publish what became of *intent*."""
    fields = {name: getattr(intent, name) for name in Intent.__struct_fields__}
    made = Answer(**fields, outcome=outcome, jobs=tuple(jobs), words=words)
    durable.publish(layout.submit_record(intent.number), checked.encode(made))
    return made


def request(order: Order, intent: Intent) -> Request:
    """Return what the launcher is asked for *intent*."""
    names = tuple(order.profile.environment)
    run = str(order.layout.root.resolve())
    return Request(
        run=run,
        token=intent.token,
        tasks=intent.tasks,
        profile=order.profile,
        chdir=order.chdir if order.chdir and os.access(order.chdir, os.R_OK | os.X_OK) else run,
        first_seat=intent.first_seat,
        comment=_comment(order, intent),
        environment=environment.with_package(environment.written(order.environ, names), _PACKAGE),
        forward=environment.forwarded(order.environ, names),
        command=order.command,
        minutes=intent.minutes,
        minutes_min=intent.minutes_min,
        folds=intent.folds,
    )


def _comment(order: Order, intent: Intent) -> str:
    """Return what `squeue -o "%j %k"` shows beside the token: which search and run, and by which profile."""
    run = "/".join(order.layout.root.resolve().parts[-2:])
    profile = f" of profile {intent.profile.name}" if intent.profile.name else ""
    folds = f", folds {' '.join(map(str, intent.folds))}" if intent.folds else ""
    words = f"hpc_search {order.plan.search.name}: {run}, submission {intent.number}{profile}{folds}"
    return _NOT_IN_COMMENT.sub("-", words)[:_COMMENT]


def settle(layout: Layout, last: Intent, number: int, *, wanted: int, **changes: Any) -> None:
    """Record that from now on *wanted* workers of *last*'s profile are wanted; nothing is sent.

    Raises:
        TemporaryError: Somebody else has this number.
    """
    fields = {name: getattr(last, name) for name in Intent.__struct_fields__}
    fields |= {"number": number, "tasks": 0, "gone": (), "over": (), "wanted": wanted}
    fields |= {"taken_back": 0, "created": time.time(), **changes}
    fields["token"] = f"{last.token.rpartition('-')[0]}-{number:04d}"
    record = Answer(**fields, outcome="set")
    taken = layout.submit_intent(number).exists()
    if taken or not durable.publish(layout.submit_record(number), checked.encode(record)):
        message = "another command of this run is at work"
        raise TemporaryError(message, hint="the same command again in a minute")
