"""Submitting so that it may be repeated, killed at any point, and done by two at once.

Every submission is an intent, published under the next number; one request to the launcher under a
token made from that number; and a record of the answer. An intent without a record was cut short: its
token is looked up, then adopted or sent again under the same token. No job id is an identity.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import msgspec

from hpc_search import durable
from hpc_search.config.profile import Profile
from hpc_search.errors import RefusedError, TemporaryError, UsageError
from hpc_search.launchers import leftovers, nodes, processes, wording
from hpc_search.launchers.base import ActiveJobs, Launcher, Request, Submitted, UnclearError, token
from hpc_search.layout import Layout
from hpc_search.ledger import paused
from hpc_search.ledger.gone import owners
from hpc_search.ledger.submits import Answer, Intent, Job, submissions
from hpc_search.locks import coarse_lock
from hpc_search.records import checked
from hpc_search.records.plan import Plan
from hpc_search.site import environment

#: Seconds to wait for another `submit` of the same run: sbatch alone may take three minutes.
_LOCK_TIMEOUT_S: Final = 300.0
#: Seconds between two looks at jobs whose end nobody confirms, before their trials are taken from them.
SECOND_LOOK_S: Final = 30.0
#: Requests under one token: the first, and one after an unclear answer and a look-up that found nothing.
_SENDS: Final = 2
#: Intents with a record that are kept, against a submitter with an old view of the directory.
_KEPT_INTENTS: Final = 8
_PACKAGE: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Order:
    """What `submit` asks for: ``pending`` trials are left; ``workers`` of None means the launcher's choice.

    ``chdir`` is where the tasks start (where the plan was made), ``environ`` the submitter's environment.
    ``command`` replaces the worker.
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

    @property
    def wanted(self) -> int:
        """Workers that shall be live afterwards."""
        if self.workers is None:
            return self.launcher.workers(self.profile, self.plan.search.threads, self.pending)
        return min(self.workers, self.pending)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `submit` did: tasks sent now, tasks that were live already, and one sentence for the user.

    ``tokens`` are all that may be live now; ``gone`` are those that the launcher no longer knows.
    """

    sent: int
    live: int
    text: str
    tokens: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    jobs: tuple[Job, ...] = ()


def submit(order: Order) -> Outcome:
    """Start the workers that are missing, none where enough are live or nothing is left to do.

    Raises:
        RefusedError: The scheduler refused for good; nothing more is sent.
        TemporaryError: The scheduler does not answer; a later `submit` goes on where this one stopped.
        UsageError: The launcher cannot be used on this machine, or the run is paused.
    """
    if order.pending <= 0:
        return Outcome(
            0, 0, f"nothing is left to do; `hpc-search collect {order.layout.root}` merges the results"
        )
    refuse_paused(order.layout)
    order.launcher.check()
    for directory in (order.layout.submits, order.layout.submitit):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with coarse_lock(order.layout.coarse_lock("submit"), _LOCK_TIMEOUT_S):
        known = _finish_interrupted(order)
        active = live(known, order.launcher)
        if active is None:
            message = (
                f"{order.launcher.name} does not answer, so it is not known what is running; nothing was sent"
            )
            raise TemporaryError(message, hint="the same command again later")
        gone = _gone(known, active, order.launcher.name)
        _tidy(order.layout, known, gone)
        return _send_missing(order, known, active, gone)


def refuse_paused(layout: Layout) -> None:
    """Start nothing that would end at once.

    Raises:
        UsageError: The run is paused.
    """
    if words := paused(layout):
        message = f"{layout.root} is {words}; nothing was started"
        raise UsageError(message, hint=f"`hpc-search resume {layout.root}` goes on")


def preview(order: Order) -> str:
    """Return the scripts that `submit` would send if nothing were live; changes nothing."""
    order, _ = _avoiding(order)
    number = _next_number(submissions(order.layout))
    intents = _cut(order, number, max(1, order.wanted))
    return "\n".join(order.launcher.script(_request(order, intent)) for intent in intents)


def cancel(layout: Layout, launcher: Launcher) -> int:
    """End the tasks of every submission of *launcher*, by token; return how many were live.

    Raises:
        TemporaryError: The scheduler does not answer.
    """
    mine = [one.token for one in submissions(layout) if may_live_here(one, launcher.name)]
    return launcher.cancel(mine) if mine else 0


def live(known: Iterable[Intent], launcher: Launcher) -> dict[str, ActiveJobs] | None:
    """Return what is live of the submissions *known*, by token; None where the scheduler does not answer.

    Local workers on another machine, which cannot be seen from here, are counted ``elsewhere``.
    """
    known = [one for one in known if one.launcher == launcher.name]
    here = [one.token for one in known if may_live_here(one, launcher.name)]
    active = launcher.active(here)
    if active is None:
        return None
    away = {
        one.token: ActiveJobs(elsewhere=one.tasks)
        for one in known
        if one.token not in here and isinstance(one, Answer) and one.jobs
    }
    return active | away


def may_live_here(one: Intent, launcher: str) -> bool:
    """Return whether tasks of *one* may be live where this *launcher* sees them."""
    if one.launcher != launcher or (isinstance(one, Answer) and one.outcome == "refused"):
        return False
    return launcher != "local" or one.host == processes.hostname()


def _gone(known: Sequence[Intent], active: Mapping[str, ActiveJobs], launcher: str) -> tuple[str, ...]:
    return tuple(one.token for one in known if one.launcher == launcher and one.token not in active)


def _finish_interrupted(order: Order) -> list[Intent]:
    """Return all submissions after each intent of this launcher without an answer got one."""
    known = submissions(order.layout)
    return [one if isinstance(one, Answer) else _resolve(order, one) for one in known]


def _resolve(order: Order, intent: Intent) -> Intent:
    if intent.launcher != order.launcher.name or not may_live_here(intent, intent.launcher):
        return intent
    found = order.launcher.find(intent.token)
    if found is None:
        return _send(order, intent)
    return _answer(order.layout, intent, "adopted", found.jobs)


def _send_missing(
    order: Order, known: list[Intent], active: Mapping[str, ActiveJobs], gone: tuple[str, ...]
) -> Outcome:
    already = sum(jobs.live for jobs in active.values())
    missing = order.wanted - already
    if missing <= 0:
        return Outcome(0, already, wording.already(active, order.pending), tuple(active), gone)
    answers = []
    dead = _departed(order, gone)
    order, avoided = _avoiding(order)
    for intent in _cut(order, _next_number(known), missing, dead):
        leftovers.keep_script(order.layout, intent.token, order.launcher, _request(order, intent))
        if not durable.publish(order.layout.submit_intent(intent.number), _encode(intent)):
            message = "another `submit` of this run is at work, and this mount has no locks to wait for it"
            raise TemporaryError(message, hint="the same command again in a minute")
        answers.append(_send(order, intent))
    jobs = tuple(job for answer in answers for job in answer.jobs)
    tokens = (*active, *(answer.token for answer in answers))
    text = wording.sent(missing, already, [answer.token for answer in answers], avoided)
    return Outcome(missing, already, text, tokens, gone, jobs)


def _departed(order: Order, gone: Sequence[str]) -> tuple[str, ...]:
    """Return the workers that own trials, of jobs that have ended, or that were absent twice."""
    dead = owners(order.layout, gone) if gone else ()
    unsure = sorted(set(gone) - order.launcher.ended(gone)) if dead else []
    if not unsure or not owners(order.layout, unsure):
        return dead
    order.pause(SECOND_LOOK_S)
    again = order.launcher.active(unsure)
    back = unsure if again is None else [name for name in unsure if name in again]
    return owners(order.layout, [name for name in gone if name not in back])


def _avoiding(order: Order) -> tuple[Order, dict[str, str]]:
    """Return *order* with the nodes excluded that failed again and again, and those with why."""
    if order.launcher.name != "slurm" or not order.avoid:
        return order, {}
    avoided = nodes.read(order.layout)
    exclude = nodes.merged(order.profile.exclude, avoided)
    return replace(order, profile=msgspec.structs.replace(order.profile, exclude=exclude)), avoided


def _cut(order: Order, number: int, tasks: int, gone: tuple[str, ...] = ()) -> list[Intent]:
    """Return the intents for *tasks* workers, each of at most the launcher's batch; the first says *gone*."""
    batch = order.launcher.batch(order.profile)
    host, now = processes.hostname(), time.time()
    return [
        Intent(
            number=number + index,
            token=token(order.plan, number + index),
            launcher=order.launcher.name,
            tasks=min(batch, tasks - first),
            first_seat=first,
            host=host,
            created=now,
            gone=() if index else gone,
            profile=order.profile,
            wanted=order.wanted,
        )
        for index, first in enumerate(range(0, tasks, batch))
    ]


def _next_number(known: Sequence[Intent]) -> int:
    return max((one.number for one in known), default=0) + 1


def _send(order: Order, intent: Intent) -> Answer:
    """Send *intent* and publish the answer; an unclear answer leaves it open for the next `submit`."""
    request = _request(order, intent)
    try:
        found = _request_once(order.launcher, request)
    except UnclearError:
        raise  # the intent stays open
    except RefusedError as error:
        _answer(order.layout, intent, "refused", words=error.message)
        raise
    except TemporaryError as error:
        _answer(order.layout, intent, "not sent", words=error.message)
        raise
    return _answer(order.layout, intent, "adopted" if found.adopted else "sent", found.jobs)


def _request_once(launcher: Launcher, request: Request) -> Submitted:
    """Return the answer to *request*, looked up by its token where sending it gave no clear one."""
    for last in range(1, _SENDS + 1):
        try:
            return launcher.submit(request)
        except UnclearError as error:
            found = _find(launcher, request.token)
            if found is not None:
                return found
            if last == _SENDS:
                raise TemporaryError(error.message, hint=error.hint) from error
    raise AssertionError


def _find(launcher: Launcher, name: str) -> Submitted | None:
    try:
        return launcher.find(name)
    except TemporaryError as error:
        raise UnclearError(error.message, hint=error.hint) from error


def _answer(
    layout: Layout,
    intent: Intent,
    outcome: Literal["sent", "adopted", "refused", "not sent"],
    jobs: tuple[Job, ...] = (),
    words: str = "",
) -> Answer:
    fields = {name: getattr(intent, name) for name in Intent.__struct_fields__}
    answer = Answer(**fields, outcome=outcome, jobs=jobs, words=words)
    durable.publish(layout.submit_record(intent.number), _encode(answer))
    return answer


def _encode(record: Intent) -> bytes:
    return checked.encode(record)


def _request(order: Order, intent: Intent) -> Request:
    names = tuple(order.profile.environment)
    run = str(order.layout.root.resolve())
    return Request(
        run=run,
        token=intent.token,
        tasks=intent.tasks,
        profile=order.profile,
        chdir=order.chdir if order.chdir and os.access(order.chdir, os.R_OK | os.X_OK) else run,
        first_seat=intent.first_seat,
        comment=f"hpc_search run {order.plan.run_id}",
        environment=environment.with_package(environment.written(order.environ, names), _PACKAGE),
        forward=environment.forwarded(order.environ, names),
        command=order.command,
    )


def _tidy(layout: Layout, known: Sequence[Intent], gone: tuple[str, ...]) -> None:
    """Keep the number of files in proportion to what is live."""
    newest = known[-1].token if known else ""
    leftovers.fold(layout, [name for name in gone if name != newest])
    for one in known[:-_KEPT_INTENTS]:
        if isinstance(one, Answer):
            layout.submit_intent(one.number).unlink(missing_ok=True)
