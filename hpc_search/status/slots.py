"""Workers wanted, live, waiting and missing by profile; what SLURM's answer means; units of hours. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from hpc_search.config.profile import Profile
from hpc_search.config.slices import items
from hpc_search.ledger.mismatches import ELSEWHERE
from hpc_search.ledger.seats import REQUEUE
from hpc_search.ledger.submits import Answer, Intent
from hpc_search.site.queue import Job
from hpc_search.site.reasons import Explained, explain
from hpc_search.site.shared import Queue
from hpc_search.status.hours import Row, Sums
from hpc_search.status.model import Eta, Hours, QueueView, Slots, Waiting
from hpc_search.status.workers import LiveWorker, task_of

Unit = Literal["GPU", "slice", "core"]


class Share(NamedTuple):
    """What one worker holds: ``amount`` of ``unit``."""

    unit: Unit
    amount: float


def share_of(profile: Profile | None, device: str, threads: int) -> Share:
    """Return what a worker of *profile* holds; of one that came without, by its *device* and *threads*."""
    if profile is None:
        return Share("GPU", 1.0) if device.startswith("cuda") else Share("core", float(max(1, threads)))
    kind, gres = profile.slice.kind, profile.slice.request.gres
    if kind == "cpu":
        return Share("core", float(max(1, profile.cpus)))
    if kind in ("whole", "packed"):
        gpus = float(sum(item.number for item in items(gres) if item.name == "gpu") or 1)
        return Share("GPU", gpus / max(1, profile.slice.pack.workers) if kind == "packed" else gpus)
    return Share("slice", 1.0)


def by_unit(
    spent: Mapping[Unit, Sums], work: tuple[float, float] | None, known: Sequence[Intent]
) -> tuple[Hours, ...]:
    """Return the hours by unit, the one that the rest will need last named with *work* slot seconds left."""
    newest = known[-1] if known else None
    profile = newest.profile if newest is not None and newest.launcher == "slurm" else None
    most = max(spent, key=lambda unit: spent[unit].spent, default=None)
    share = share_of(profile, "", 1) if profile is not None else None
    found = []
    for unit, sums in spent.items():
        amount = share.amount if share is not None else 1.0
        ours = work is not None and unit == (share.unit if share is not None else most)
        left = Eta(*(seconds * amount / 3600 for seconds in work)) if work is not None and ours else None
        found.append(Hours.of(unit, sums, left))
    return tuple(found)


def queued_tokens(known: Sequence[Intent]) -> tuple[str, ...]:
    """Return the tokens that SLURM may know: not those that it refused, or no longer knew at a `submit`."""
    over = {token for one in known for token in one.over}
    return tuple(
        one.token
        for one in known
        if one.launcher == "slurm"
        and one.token not in over
        and (not isinstance(one, Answer) or one.outcome in ("sent", "adopted"))
    )


def replaced(known: Sequence[Intent]) -> frozenset[str]:
    """Return the tokens whose missing workers were sent again, by a later submission of the same kind."""
    newest = {
        one.kind: one.number
        for one in known
        if one.tasks and isinstance(one, Answer) and one.outcome in ("sent", "adopted")
    }
    return frozenset(one.token for one in known if one.number < newest.get(one.kind, 0))


def view(queue: Queue | None, now: float, *, paused: bool = False) -> QueueView | None:
    """Return what *queue* says at *now* (seconds of the wall clock), waiting tasks by reason.

    In a *paused* run it is `pause` that holds tasks, and `resume` that releases them.
    """
    if queue is None:
        return None
    waiting: defaultdict[str, list[Job]] = defaultdict(list)
    for job in queue.jobs:
        if job.kind == "waiting":
            waiting[job.reason].append(job)
    kinds = Counter[str]()
    for job in queue.jobs:
        kinds[job.kind] += job.count
    groups = sorted(waiting.items(), key=lambda item: (-sum(job.count for job in item[1]), item[0]))
    return QueueView(
        age=None if queue.age is None else round(queue.age, 1),
        answers=queue.answers,
        running=kinds["running"],
        ending=kinds["ending"],
        waiting=tuple(_waiting(reason, jobs, now, paused=paused) for reason, jobs in groups),
        unasked=len(queue.unasked),
    )


def _waiting(reason: str, jobs: Sequence[Job], now: float, *, paused: bool) -> Waiting:
    found = explain(reason)
    if paused and reason.startswith("JobHeld"):
        found = Explained("held by `pause`", "`resume RUN`", waits=False)
    starts = [max(0.0, job.start - now) for job in jobs if job.start]
    return Waiting(
        reason=reason,
        tasks=sum(job.count for job in jobs),
        meaning=found.meaning,
        next=found.step.replace("ID", jobs[0].job),
        starts_in=round(min(starts), 1) if starts else None,
        jobs=tuple(dict.fromkeys(job.job for job in jobs)),
    )


def slots(
    known: Sequence[Intent],
    workers: Sequence[LiveWorker],
    rows: Iterable[Row],
    queue: Queue | None,
    left: int,
) -> tuple[Slots, ...]:
    """Return the workers by profile; the newest submission of a profile says how many shall be live.

    Workers without a submission, started by hand, are those of profile "". *left* trials are not final.
    A task that runs starts until its worker has a journal; the *rows* tell which have left again.
    """
    profile_of = {one.token: one.profile.name or one.launcher for one in known}
    wanted = {profile_of[one.token]: one.wanted for one in known}
    live = Counter(profile_of.get(worker.token, "") for worker in workers if worker.state == "live")
    packed = {one.token: max(1, one.profile.slice.pack.workers) for one in known}
    waiting, starting = Counter[str](), Counter[str]()
    left_again = _left(rows)
    for job in queue.jobs if queue is not None else ():
        if job.token not in packed:
            continue
        if job.kind == "waiting":
            waiting[profile_of[job.token]] += job.count * packed[job.token]
        elif job.kind == "running":
            seen = sum(worker.token == job.token and job.has(task_of(worker.seat)) for worker in workers)
            seen += sum(job.has(task) for task in left_again[job.token])
            starting[profile_of[job.token]] += max(0, job.count * packed[job.token] - seen)
    for one in known if queue is not None else ():
        if queue is not None and one.token in queue.unasked:
            # Sent since SLURM was asked.
            there = sum(worker.token == one.token for worker in workers)
            waiting[profile_of[one.token]] += max(0, one.tasks * packed[one.token] - there)
    found = []
    for name in [*wanted, *([""] if live[""] else [])]:
        asked = min(wanted.get(name, 0), left)
        # What is started where nobody is wanted has been cancelled since SLURM was asked.
        begun = starting[name] if asked else 0
        missing = max(0, asked - live[name] - begun - waiting[name])
        found.append(Slots(name, asked, live[name], begun, waiting[name], missing))
    return tuple(one for one in found if one.wanted or one.live or one.starting or one.waiting)


def _left(rows: Iterable[Row]) -> Mapping[str, list[int]]:
    """Return token -> tasks of the workers that have exited, unless SLURM was asked to run them again."""
    last: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row.token and row.restart >= last.get((row.token, row.seat), row).restart:
            last[row.token, row.seat] = row
    found = defaultdict[str, list[int]](list)
    for (token, seat), row in last.items():
        if row.exited and not {REQUEUE, ELSEWHERE} & row.events.keys():
            found[token].append(task_of(seat))
    return found


def joining(queue: Queue | None, now: float) -> tuple[tuple[float | None, int], ...]:
    """Return (seconds until SLURM expects to start them, tasks) of what waits.

    Those that nothing but a command of somebody lets start are left out, and those of a full throttle.
    """
    return tuple(
        (max(0.0, job.start - now) if job.start else None, job.count)
        for job in (queue.jobs if queue is not None else ())
        if job.kind == "waiting" and explain(job.reason).waits
    )
