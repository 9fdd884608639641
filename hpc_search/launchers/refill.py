"""What a worker does at its end where work is left and fewer workers are there than are wanted.

It sends one array under the same protocol as `submit`, counts by the ledger instead of asking SLURM, and
gives up at once where it cannot: the next worker that ends, or `submit`, goes on.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from hpc_search.config.profile import Profile
from hpc_search.errors import HpcSearchError, RefusedError
from hpc_search.launchers import nodes, sending
from hpc_search.launchers.base import Launcher, NoRoomError, UnclearError
from hpc_search.launchers.fitting import NO_LIMIT
from hpc_search.launchers.sending import Order
from hpc_search.layout import Layout
from hpc_search.ledger import IndexDamagedError, read_state, seats
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.submits import Answer, Intent, last_of, marked, of_token, submissions
from hpc_search.locks import tried_lock
from hpc_search.records import index as codec
from hpc_search.records.plan import Plan

#: Submissions by workers in a row, beyond one a trial, each sent by a worker of the one before that did one.
DEPTH: Final = 50
#: Workers are replaced in arrays of this share of all, while others wait and where none does: one call, and
#: one record, for many.
_SHARE: Final = (8, 16)
#: Workers for the work left, and some more: the next ones may do fewer trials.
_MARGIN: Final = 1.25
#: Seconds before smaller arrays are tried where a limit is met: tasks that end now count for some moments.
#: Where others wait or live, nobody stays for that.
_PAUSES: Final = (3.0, 6.0, 12.0)
#: How often a worker counts again because others have ended that found it at work.
_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class Ending:
    """A worker of the array *token* that ends after ``done`` trials.

    ``refused``: SLURM did not want to run its task again. ``stays``: it does not end, but there is more work.
    """

    token: str
    mark: str
    chdir: str
    done: int = 1
    refused: bool = False
    stays: bool = False


def refill(
    layout: Layout,
    plan: Plan,
    ending: Ending,
    launcher: Launcher,
    environ: Mapping[str, str] = os.environ,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Send the workers that are missing; return how many."""
    own = of_token(layout, ending.token)
    if own is None or own.launcher != launcher.name or own.depth >= DEPTH + plan.trials:
        return 0
    for _ in range(_ROUNDS):
        with tried_lock(layout.coarse_lock("submit")) as free:
            turn = _turn(layout, plan, ending, launcher, own, environ, pause) if free else _Turn()
        if turn.seen is None or seats.lives(layout) == turn.seen:
            return turn.sent
    return 0


class _Turn(NamedTuple):
    """How many were sent and, where none was and none waits, the workers that were counted."""

    sent: int = 0
    seen: list[seats.Life] | None = None


def _turn(
    layout: Layout,
    plan: Plan,
    ending: Ending,
    launcher: Launcher,
    own: Intent,
    environ: Mapping[str, str],
    pause: Callable[[float], None],
) -> _Turn:
    """Send what is missing of the profile of *own*, while nobody else does."""
    last = last_of(marked(submissions(layout), ending.mark), own.kind)
    if layout.stop.exists() or last is None or not (last.wanted and last.profile.nodes_submit):
        return _Turn()
    _look_up(layout, ending.mark, launcher)
    profile = last.profile
    if ending.refused:
        profile = msgspec.structs.replace(profile, requeue=False)
    exclude = nodes.merged(profile.exclude, nodes.read(layout))
    order = Order(
        layout=layout,
        plan=plan,
        launcher=launcher,
        profile=msgspec.structs.replace(profile, exclude=exclude),
        pending=claimable(layout, plan, own.folds),
        folds=own.folds,
        workers=last.wanted,
        environ=environ,
        chdir=ending.chdir,
        mark=ending.mark,
        depth=own.depth + 1,
        pause=pause,
        minutes=last.minutes,
        minutes_min=last.minutes_min,
    )
    return _send(order, last, profile, ending)


def _look_up(layout: Layout, mark: str, launcher: Launcher) -> None:
    """Answer intents that were cut short, so that tasks that do not exist are not waited for.

    Who publishes one holds the lock until the answer: it was killed, or got no clear one.
    """
    for intent in marked(submissions(layout), mark):
        if not isinstance(intent, Answer) and intent.launcher == launcher.name:
            found = launcher.find(intent.token)
            jobs = found.jobs if found else ()
            sending.answer(layout, intent, "adopted" if found else "not sent", jobs)


def claimable(layout: Layout, plan: Plan, folds: Sequence[int] = ()) -> int:
    """Return how many trials can be claimed, with *folds* those of them alone.

    Where only paused ones are left, one worker sees to them.
    """
    try:
        entries = read_state(layout, plan.trials)[1]
    except IndexDamagedError:
        return 0
    free = [entries[one.start : one.stop] for one in Gates(layout, plan, folds).claimable(0, len(entries))]
    states = Counter(entry.state for part in free for entry in part)
    return states[codec.PENDING] or min(1, states[codec.PAUSED])


def missing(wanted: int, pending: int, there: seats.Seats, most: int, done: int, *, ends: bool = True) -> int:
    """Return how many workers to send: none where so many wait that a later one can send more at once.

    While tasks wait, slots are what is short: no more are sent than *pending* trials need where each
    worker does as many as the one that asks has *done*. Where that one *ends*, it is no more *there*, and
    yet counts in SLURM where *most* tasks are taken.
    """
    goal = min(wanted, pending, most or NO_LIMIT)
    if there.waiting:
        goal = min(goal, math.ceil(_MARGIN * pending / max(1, done)))
    lacking = goal - there.waiting - there.live
    dozen = min(goal // _SHARE[0], there.waiting) or goal // _SHARE[1]
    if lacking < max(1, dozen):
        return 0
    room = most - there.waiting - there.live - ends if most else NO_LIMIT
    return max(0, min(lacking, room))


def _send(order: Order, last: Intent, profile: Profile, ending: Ending) -> _Turn:
    every, seen = submissions(order.layout), seats.lives(order.layout)
    known = marked(every, order.mark)
    mine = [one for one in known if one.kind == order.kind]
    there = seats.count(mine, seen, requeue=order.profile.requeue)
    goal, left = order.tasks(order.asked), order.tasks(order.pending)
    lacking = missing(goal, left, there, last.most, ending.done, ends=not ending.stays)
    tasks = min(lacking, last.array or NO_LIMIT)
    about = {"array": last.array, "most": last.most, "profile": profile}
    number, alone = max(one.number for one in every), not (there.waiting or there.live)
    for seconds in (0.0, *_PAUSES):
        if seconds and alone:
            order.pause(seconds)
        if not tasks:
            break
        number += 1
        try:
            return _Turn(_sent(order, sending.made(order, number, tasks, **about)))
        except NoRoomError:
            tasks = max(1 if alone else 0, tasks // 2)
    return _Turn(0, None if there.waiting else seen)


def _sent(order: Order, intent: Intent) -> int:
    """Send *intent*, once; return how many tasks there are of it now.

    Raises:
        NoRoomError: A limit refused so many.
        TemporaryError: Somebody else has this number.
    """
    sending.publish(order, intent)
    try:
        found = order.launcher.submit(sending.request(order, intent))
    except UnclearError:
        return intent.tasks  # the next worker, or `submit`, looks it up
    except HpcSearchError as error:
        outcome: sending.Outcome = "refused" if isinstance(error, RefusedError) else "not sent"
        sending.answer(order.layout, intent, outcome, words=error.message)
        if isinstance(error, NoRoomError):
            raise
        return 0
    sending.answer(order.layout, intent, "sent", found.jobs)
    if sending.withdrawn(order, intent):
        order.launcher.cancel([intent.token])
        return 0
    return intent.tasks
