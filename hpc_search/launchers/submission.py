"""Submitting so that it may be repeated, killed at any point, and done by two at once.

What is live is counted by token; what is missing is sent as far as the site takes it, and the rest stays
wanted: workers that end send it, and so does the next `submit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from hpc_search.errors import RefusedError, TemporaryError, UsageError
from hpc_search.launchers import leftovers, nodes, processes, sending, timing, wording
from hpc_search.launchers.base import ActiveJobs, Fewer, Launcher, NoRoomError
from hpc_search.launchers.fitting import Filling, Room, sizes
from hpc_search.launchers.sending import Order
from hpc_search.layout import Layout
from hpc_search.ledger import paused, seats
from hpc_search.ledger.gone import owners
from hpc_search.ledger.submits import Answer, Intent, Job, last_of, marked, of_token, submissions
from hpc_search.locks import LockUnavailableError, coarse_lock
from hpc_search.site import starts

__all__ = ["Order", "Outcome", "cancel", "live", "preview", "submit", "tokens"]

#: Seconds to wait for another `submit` of the same run: sbatch alone may take three minutes.
_LOCK_TIMEOUT_S: Final = 300.0
#: Seconds that `cancel` waits for one: it ends what that one sends as well, unless sbatch hangs.
_CANCEL_WAIT_S: Final = 30.0
#: Seconds between two looks at jobs whose end nobody confirms, before their trials are taken from them.
SECOND_LOOK_S: Final = 30.0
#: Intents with a record that are kept, against a submitter with an old view of the directory.
_KEPT_INTENTS: Final = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `submit` did: tasks sent now, tasks that were live already, and one sentence for the user.

    ``tokens`` are all that may be live now; ``gone`` are those that the launcher no longer knows.
    ``changed``: whether the profile or the number of workers is to be kept.
    """

    sent: int
    live: int
    text: str
    tokens: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    jobs: tuple[Job, ...] = ()
    changed: bool = False


def submit(order: Order) -> Outcome:
    """Start the workers that are missing, none where enough are live or nothing is left to do.

    Raises:
        RefusedError: The scheduler refused for good; nothing more is sent.
        TemporaryError: The scheduler does not answer, or has no room; a later `submit` goes on from here.
        UsageError: The launcher cannot be used on this machine, or the run is paused.
    """
    if order.pending <= 0:
        of = f" of folds {' '.join(map(str, order.folds))}" if order.folds else ""
        text = f"nothing is left to do{of}; `hpc-search collect {order.layout}` merges the results"
        return Outcome(0, 0, text)
    refuse_paused(order.layout)
    order.launcher.check()
    for directory in (order.layout.submits, order.layout.submitit):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with coarse_lock(order.layout.coarse_lock("submit"), _LOCK_TIMEOUT_S):
        # What is decided below holds as long as nobody publishes this number: there may be no lock.
        number = _next_number(submissions(order.layout))
        known = _finish_interrupted(order)
        active = _at_work(order, known, sending.patiently(order, lambda: _live(known, order.launcher)))
        gone = _gone(known, active, order.launcher.name)
        troubles = starts.troubles(order.layout, gone)
        _tidy(order.layout, known, gone)
        outcome = _act(timing.learned(order), known, active, gone, number)
        return replace(outcome, text="\n".join([outcome.text, *troubles]))


def refuse_paused(layout: Layout) -> None:
    """Start nothing that would end at once.

    Raises:
        UsageError: The run is paused.
    """
    if words := paused(layout):
        message = f"{layout.root} is {words}; nothing was started"
        raise UsageError(message, hint=f"`hpc-search resume {layout}` goes on")


def preview(order: Order) -> str:
    """Return the scripts that `submit` would send if nothing were live; changes nothing."""
    order, _ = _avoiding(timing.learned(order))
    number = _next_number(submissions(order.layout))
    arrays = enumerate(sizes(max(1, order.wanted), order.launcher.room(order.profile).array))
    intents = [sending.made(order, number + index, tasks) for index, tasks in arrays]
    return "\n".join(order.launcher.script(sending.request(order, intent)) for intent in intents)


def cancel(layout: Layout, launcher: Launcher, mark: str = "") -> int:
    """Want nothing more, and end the tasks of all submissions, by token; return how many were live.

    Raises:
        TemporaryError: The scheduler does not answer.
    """
    try:
        with coarse_lock(layout.coarse_lock("submit"), _CANCEL_WAIT_S):
            return _cancel(layout, launcher, mark)
    except LockUnavailableError:
        return _cancel(layout, launcher, mark)


def _cancel(layout: Layout, launcher: Launcher, mark: str) -> int:
    before = tokens(layout, launcher.name, mark)
    _want_nothing(layout, launcher.name, mark, _dead(layout, launcher, before))
    mine = tokens(layout, launcher.name, mark)
    return launcher.cancel(mine) if mine else 0


def _dead(layout: Layout, launcher: Launcher, names: Sequence[str]) -> tuple[str, ...]:
    """Return the workers that own trials and whose jobs are known to have ended for good."""
    if not owners(layout, names):
        return ()
    active = launcher.active(names)
    absent = [] if active is None else [name for name in names if name not in active]
    return owners(layout, launcher.ended(absent)) if owners(layout, absent) else ()


def _want_nothing(layout: Layout, launcher: str, mark: str, gone: tuple[str, ...]) -> None:
    """Say for each kind of workers of *launcher* that no more of them are wanted."""
    known = submissions(layout)
    for kind in sorted({one.kind for one in marked(known, mark) if one.launcher == launcher}):
        last = last_of(marked(known, mark), kind)
        if last is not None and last.wanted:
            sending.settle(layout, last, _next_number(submissions(layout)), wanted=0, gone=gone)


def live(known: Iterable[Intent], launcher: Launcher) -> dict[str, ActiveJobs] | None:
    """Return what is live of the submissions *known*, by token; None where the scheduler does not answer.

    Local workers on another machine, which cannot be seen from here, are counted ``elsewhere``.
    """
    known = [one for one in known if one.launcher == launcher.name and one.tasks]
    here = [one.token for one in known if _may_live_here(one, launcher.name)]
    active = launcher.active(here)
    if active is None:
        return None
    away = {
        one.token: ActiveJobs(elsewhere=one.tasks)
        for one in known
        if one.token not in here and isinstance(one, Answer) and one.jobs
    }
    return active | away


def tokens(layout: Layout, launcher: str, mark: str = "") -> list[str]:
    """Return the tokens of all submissions by *launcher* that may be live from here."""
    return [one.token for one in marked(submissions(layout), mark) if _may_live_here(one, launcher)]


def _live(known: Sequence[Intent], launcher: Launcher) -> dict[str, ActiveJobs]:
    active = live(known, launcher)
    if active is None:
        message = f"{launcher.name} does not answer, so it is not known what is running; nothing was sent"
        raise TemporaryError(message, hint="the same command again later")
    return active


def _at_work(
    order: Order, known: Sequence[Intent], active: Mapping[str, ActiveJobs]
) -> dict[str, ActiveJobs]:
    """Return *active* without the tasks whose workers have left: they claim nothing more.

    One that failed at its start stays for half a minute, so that a bad node does not eat the array.
    """
    if order.launcher.name != "slurm" or not any(jobs.running for jobs in active.values()):
        return dict(active)
    left, tasks = seats.ended(order.layout), {one.token: one.tasks for one in known}
    return {token: jobs.at_most(tasks[token] - left.get(token, 0)) for token, jobs in active.items()}


def _may_live_here(one: Intent, launcher: str) -> bool:
    unsent = isinstance(one, Answer) and one.outcome in ("refused", "set")
    if one.launcher != launcher or unsent:
        return False
    return launcher != "local" or one.host == processes.hostname()


def _gone(known: Sequence[Intent], active: Mapping[str, ActiveJobs], launcher: str) -> tuple[str, ...]:
    mine = (one for one in known if one.launcher == launcher and one.tasks)
    return tuple(one.token for one in mine if one.token not in active)


def _finish_interrupted(order: Order) -> list[Intent]:
    """Return this run's submissions after each intent of this launcher without an answer got one."""
    known = marked(submissions(order.layout), order.mark or order.plan.run_id[-8:])
    return [one if isinstance(one, Answer) else _resolve(order, one) for one in known]


def _resolve(order: Order, intent: Intent) -> Intent:
    if intent.launcher != order.launcher.name or not _may_live_here(intent, intent.launcher):
        return intent
    # What was about to be sent is what its own record says, whatever is asked for now.
    then = replace(order, profile=intent.profile, workers=intent.wanted, folds=intent.folds)
    try:
        return sending.resolved(then, intent)
    except (RefusedError, NoRoomError):
        # That says nothing of what is asked for now.
        return of_token(order.layout, intent.token) or intent


def _act(
    order: Order,
    known: list[Intent],
    active: Mapping[str, ActiveJobs],
    gone: tuple[str, ...],
    number: int,
) -> Outcome:
    """Change what is live where something else is asked for now, and send what is missing."""
    # Processes of this machine are all alike.
    alike = [
        one
        for one in known
        if one.folds == order.folds and (one.launcher == "local" or one.profile.name == order.profile.name)
    ]
    same = [one.token for one in alike if one.token in active]
    already = sum(active[name].live for name in same)
    last = last_of(known, order.kind)
    done, fewer = _changed(order, last, same, already) if last else ([], Fewer())
    kept = wording.kept(last.profile, order.profile) if last and already else ""
    missing = order.wanted - already
    if missing > 0:
        count = _Count(number, missing, already, _newly(known, gone), done, kept)
        return _send_missing(order, active, gone, count)
    changed = last is not None and (last.wanted, last.profile) != (order.asked, order.profile)
    if changed and last is not None:
        following = msgspec.structs.replace(last, profile=order.profile)
        sending.settle(order.layout, following, number, wanted=order.asked, taken_back=fewer.waiting)
    there = wording.already({name: active[name] for name in same}, order.pending)
    text = "; ".join(filter(None, [*(done or [there]), kept]))
    return Outcome(0, already, text, tuple(active), gone, changed=changed)


def _newly(known: Sequence[Intent], gone: Sequence[str]) -> tuple[str, ...]:
    """Return those of *gone* that no record has as gone."""
    said = {name for one in known for name in one.over}
    return tuple(name for name in gone if name not in said)


def _changed(order: Order, last: Intent, tokens: Sequence[str], already: int) -> tuple[list[str], Fewer]:
    """Give what is live of the profile what is asked for now; return what was done, also in words.

    Workers are taken back only where somebody said how many there shall be.
    """
    done = order.launcher.change(tokens, last.profile, order.profile) if tokens else []
    surplus = already - order.tasks(order.asked)
    if order.workers is None or order.asked >= last.wanted or surplus <= 0:
        return done, Fewer()
    fewer = order.launcher.reduce(tokens, surplus)
    return [*done, wording.fewer(fewer, order.asked)], fewer


@dataclass(frozen=True, slots=True)
class _Count:
    """The next number, workers missing and there, tokens newly found gone, and what was changed."""

    number: int
    missing: int
    already: int
    over: tuple[str, ...]
    done: Sequence[str]
    kept: str


def _send_missing(
    order: Order,
    active: Mapping[str, ActiveJobs],
    gone: tuple[str, ...],
    count: _Count,
) -> Outcome:
    dead, profile = _departed(order, gone), order.profile
    order, avoided = _avoiding(order)
    room = order.launcher.room(order.profile)
    about = {"profile": profile, "gone": dead, "over": count.over, "array": room.array, "most": room.most}
    answers, rule = _fill(order, room, count, about)
    sent = sum(one.tasks for one in answers)
    if words := timing.short(order.profile, order.plan.search.lease):
        order.say(words)
    if not sent and not count.already:
        message = f"no room now for a worker: {rule}; nothing was sent"
        hint = "the same command again when other jobs of yours have ended: `squeue --me` shows them"
        raise TemporaryError(message, hint=hint)
    packed = profile.slice.pack.workers
    words = wording.sent(count.missing, count.already, [one.token for one in answers], avoided, packed)
    if sent < count.missing:
        goes_on = order.profile.nodes_submit and order.launcher.name == "slurm"
        words = wording.partly(sent, count.missing, rule, by_workers=goes_on)
    tokens = (*active, *(one.token for one in answers))
    jobs = tuple(job for one in answers for job in one.jobs)
    return Outcome(
        sent,
        count.already,
        "; ".join(filter(None, [*count.done, words, count.kept])),
        tokens,
        gone,
        jobs,
        changed=True,
    )


def _fill(order: Order, room: Room, count: _Count, about: dict[str, Any]) -> tuple[list[Answer], str]:
    """Send as many of the missing workers as there is *room* for; return the answers, and what held.

    The first intent says all that is known *about* what was there before.
    """
    filling = Filling(min(count.missing, room.tasks), room.array)
    answers: list[Answer] = []
    number, rule, seat = count.number, room.rule, 0
    while filling.size:
        intent = sending.made(order, number, filling.size, first_seat=seat, **about)
        number += 1
        sending.publish(order, intent)
        about |= {"gone": (), "over": ()}
        try:
            answers.append(sending.send(order, intent))
        except NoRoomError as error:
            if not error.rule and intent.tasks == 1 and not answers:
                raise RefusedError(error.message, hint=error.hint) from error
            rule = error.rule or rule or "a limit of the site"
            filling.refused()
            continue
        seat += intent.tasks
        filling.taken()
    return answers, rule


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


def _next_number(known: Sequence[Intent]) -> int:
    return max((one.number for one in known), default=0) + 1


def _tidy(layout: Layout, known: Sequence[Intent], gone: tuple[str, ...]) -> None:
    """Keep the number of files in proportion to what is live."""
    newest = known[-1].token if known else ""
    leftovers.fold(layout, [name for name in gone if name != newest])
    for one in known[:-_KEPT_INTENTS]:
        if isinstance(one, Answer):
            layout.submit_intent(one.number).unlink(missing_ok=True)
