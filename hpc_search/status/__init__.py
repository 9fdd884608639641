"""What a run looks like now: read-only, without a lock, without numpy; SLURM is asked rarely and shortly.

A `Watcher` looks again and again. What it keeps between looks, and in RUN/cache where that can be written,
only saves time: the queue's last answer (`site.shared`), and how the time was spent (`status.hours`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.ledger import submits
from hpc_search.ledger.submits import Intent
from hpc_search.planning import load_instance
from hpc_search.records import index as codec
from hpc_search.records.index import Entry
from hpc_search.records.plan import Plan
from hpc_search.site.shared import Desk, Queue, file_server_now
from hpc_search.status import ahead as of_rest
from hpc_search.status import budget, estimate, folds, hours, index, refits, slots, trials, words
from hpc_search.status import staged as of_stages
from hpc_search.status.ahead import Ahead, Group, Pace
from hpc_search.status.estimate import Crew, Length, Rate, eta, recent_rate
from hpc_search.status.index import failed_trials, held_trials, parse_entries
from hpc_search.status.model import Best, BestPoint, Eta, Failure, Running, Slots, Status
from hpc_search.status.workers import Census, LiveWorker

#: Of the last so many ends the rate is made.
_RECENT: Final = 100

__all__ = [
    "Best",
    "BestPoint",
    "Eta",
    "Failure",
    "LiveWorker",
    "Rate",
    "Status",
    "Watcher",
    "eta",
    "failed_trials",
    "held_trials",
    "parse_entries",
    "read_status",
    "recent_rate",
]


def read_status(
    layout: Layout, plan: Plan, given: tuple[Any, Sequence[Entry]] | None = None, *, now: float | None = None
) -> Status:
    """Return the status of a run from its files alone, writing none; SLURM is not asked.

    Args:
        layout: The run.
        plan: Its plan.
        given: Header and entries of the index, where the caller has read them; else they are read here.
        now: Wall-clock seconds, for rates and expected starts only; this moment where None.
    """
    return Watcher(layout, plan, ask=False, keep=False).look(given, now=now)


class Watcher:
    """Looks at one run; a damaged index costs time, not the answer."""

    def __init__(
        self, layout: Layout, plan: Plan, *, ask: bool = True, keep: bool = True, desk: Desk | None = None
    ) -> None:
        """Look at *layout*; *ask* SLURM where the run was submitted to it; *keep* what helps in RUN/cache."""
        self._layout = layout
        self._plan = plan
        self._keep = keep
        self._desk = (desk or Desk(layout)) if ask else None
        self._census = Census(layout, plan.search.heartbeat)
        self._book: hours.Book | None = None

    def look(self, given: tuple[Any, Sequence[Entry]] | None = None, *, now: float | None = None) -> Status:
        """Return the status now; see `read_status`."""
        known, notes = _submissions(self._layout, self._plan)
        asks = self._desk is not None and not index.ended(self._layout, self._plan.trials)
        asking = _Asking(self._desk if asks else None, slots.queued_tokens(known))
        found = (
            index.Read(given[1], "index") if given else index.read_entries(self._layout, self._plan.trials)
        )
        self._book = hours.read(self._layout, self._plan.run_id, self._book, keep=self._keep)
        summary = index.Summary(found.entries)
        queue = asking.answer() if len(summary.finals) < self._plan.trials else None
        server = file_server_now(self._layout) if self._keep else None
        workers = self._census.take(index.held_trials(found.entries), queue, server)
        moment = time.time() if now is None else now
        facts = _Facts(
            self._layout,
            self._plan,
            found.entries,
            of_stages.look(self._layout, self._plan, found.entries),
            summary,
            known,
            queue,
            workers,
            trials.Sight(hours.workers(self._book), self._census.signs, server),
            moment,
        )
        return _status(facts, found.source, (*found.notes, *notes))


class _Asking:
    """A question to SLURM that is asked while the files are read."""

    def __init__(self, desk: Desk | None, tokens: tuple[str, ...]) -> None:
        self._queue: Queue | None = None
        self._thread: threading.Thread | None = None
        if desk is not None and tokens:
            self._thread = threading.Thread(target=self._ask, args=(desk, tokens), daemon=True)
            self._thread.start()

    def _ask(self, desk: Desk, tokens: tuple[str, ...]) -> None:
        self._queue = desk.look(tokens)

    def answer(self) -> Queue | None:
        """Return what SLURM says; the question has its own deadline."""
        if self._thread is not None:
            self._thread.join()
        return self._queue


def _submissions(layout: Layout, plan: Plan) -> tuple[list[Intent], tuple[str, ...]]:
    """Return the submissions of this run, not those of a run that it is a copy of; and what is wrong."""
    try:
        mark = load_instance(layout).mark
    except (DamagedError, OSError):
        mark = ""
    try:
        return submits.marked(submits.submissions(layout), mark or plan.run_id[-8:]), ()
    except (DamagedError, OSError) as error:
        return [], (f"the submissions cannot be read: {error}",)


@dataclass(frozen=True, slots=True)
class _Facts:
    layout: Layout
    plan: Plan
    entries: Sequence[Entry | None]
    staged: of_stages.Staged
    summary: index.Summary
    known: list[Intent]
    queue: Queue | None
    workers: tuple[LiveWorker, ...]
    sight: trials.Sight
    now: float

    @property
    def left(self) -> int:
        """How many trials are not final and may run."""
        return self.plan.trials - len(self.summary.finals) - self.staged.closed

    @property
    def begun(self) -> bool:
        """Whether anything was submitted or claimed ever."""
        return bool(self.known or self.sight.rows) or any(entry.attempt for entry in self.summary.known)

    @property
    def counts(self) -> dict[str, int]:
        """How many trials there are by state; those that nobody may have now are not pending."""
        counts = {name: self.summary.counts[state] for state, name in enumerate(codec.STATES)}
        staged = self.staged
        pending = counts["pending"] - staged.waiting - staged.closed
        counts |= {"pending": max(0, pending), "waiting": staged.waiting, "closed": staged.closed}
        return counts | {"left_out": index.left_out(self.summary.finals, self.summary.counts)}


def _of_plan(plan: Plan) -> dict[str, Any]:
    return {
        "name": plan.search.name,
        "run_id": plan.run_id,
        "metric": plan.metric.name,
        "goal": plan.metric.goal,
        "objectives": tuple(one.name for one in plan.search.objectives),
        "trials": plan.trials,
    }


def _status(facts: _Facts, source: str, notes: tuple[str, ...]) -> Status:
    plan, layout = facts.plan, facts.layout
    known, finals, left = facts.summary.known, facts.summary.finals, facts.left
    active = left > 0 and any(worker.state == "live" for worker in facts.workers)
    rate = recent_rate(facts.summary.run_ends[-_RECENT:], facts.now if active else None)
    one = estimate.length(finals)
    best, point = of_stages.best_of(plan, facts.entries)
    view = slots.view(facts.queue, facts.now, paused=layout.paused.exists())
    seats = _seats(facts) if left else ()
    spent = _spent(facts)
    state = words.state(layout, left, facts.workers, view, seats, begun=facts.begun)
    wrong = trials.mismatched(facts.sight.rows)
    failed = index.failed_trials(facts.entries)
    groups = _groups(facts, one)
    ahead = _ahead(facts, groups, rate if active else None, spent)
    return Status(
        **(_of_plan(plan) | facts.counts),
        state=state,
        unknown=len(facts.entries) - len(known),
        causes=index.causes(finals),
        best=best,
        best_point=point,
        rate_per_min=None if rate is None else rate.per_second * 60,
        eta_seconds=ahead.eta,
        eta_without=ahead.without,
        busy_seconds=math.fsum(entry.seconds for entry in known),
        median_seconds=None if one is None else one.median,
        hours=slots.by_unit(spent, ahead.work, facts.known),
        slots=seats,
        workers=facts.workers,
        nodes=trials.nodes(facts.workers, facts.sight),
        slow=_slow(facts, groups),
        failures=trials.failures(layout, failed, facts.sight.rows),
        queue=view,
        stopped=words.stop_mark(layout),
        events=trials.events(facts.sight.rows),
        source=source,
        mismatches=wrong.by_node,
        notes=(
            *notes,
            *words.notes(layout, state, view, seats, facts.known, failed=bool(failed)),
            *words.searches(facts.staged.stopped, finished=not left),
            *words.mismatches(wrong, state, slots.replaced(facts.known)),
            *refits.lines(layout, plan, facts.entries),
        ),
        next=words.next_step(layout, state, view, seats, failed=bool(failed)),
        budget=budget.used(layout, plan, facts.sight.rows).uses,
        stages=facts.staged.stages,
        folds=folds.look(plan, facts.entries),
    )


def _seats(facts: _Facts) -> tuple[Slots, ...]:
    left = facts.left - facts.staged.waiting
    return slots.slots(facts.known, facts.workers, facts.sight.rows.values(), facts.queue, left)


def _spent(facts: _Facts) -> dict[slots.Unit, hours.Sums]:
    """Return the hours so far by unit."""
    profiles = {one.token: one.profile for one in facts.known if one.launcher == "slurm"}
    live = {worker.id for worker in facts.workers if worker.state != "gone"}
    found: dict[slots.Unit, hours.Sums] = {}
    for worker, row in facts.sight.rows.items():
        share = slots.share_of(profiles.get(row.token), row.device, facts.plan.search.threads)
        part = hours.sums(row, facts.sight.seen(worker), live=worker in live)
        found.setdefault(share.unit, hours.Sums()).add(part.scaled(share.amount))
    return found


def _groups(facts: _Facts, one: Length | None) -> list[Group]:
    """Return what is left, by stages where there are some; *one* is the length of all trials."""
    if facts.staged.stages:
        return of_rest.groups(facts.plan, facts.entries, facts.staged.stages)
    return [Group("", "", facts.left, one, (range(facts.plan.trials),))] if facts.left else []


def _slow(facts: _Facts, groups: Sequence[Group]) -> tuple[Running, ...]:
    """Return the running trials that are long beside others of their stage, or nearly taken for hung."""
    live = [worker for worker in facts.workers if worker.state == "live"]
    return trials.slow(live, facts.sight, partial(of_rest.median, groups), facts.plan.search.stall)


def _ahead(
    facts: _Facts, groups: Sequence[Group], rate: Rate | None, spent: dict[slots.Unit, hours.Sums]
) -> Ahead:
    if not groups:
        return Ahead()
    since = min(facts.summary.run_ends[-_RECENT:], default=0)
    one = estimate.length([entry for entry in facts.summary.finals if entry.changed >= since])
    total = hours.total(spent.values())
    overhead = max(1.0, total.spent / total.inside) if total.inside > 0 else 1.0
    begun = sum(running.seconds for running in trials.running(facts.workers, facts.sight))
    live = sum(worker.state == "live" for worker in facts.workers)
    crew = Crew(live, slots.joining(facts.queue, facts.now))
    moving = not (facts.layout.paused.exists() or facts.layout.stop.exists())
    return of_rest.ahead(groups, Pace(rate, one, min(overhead, 3.0)), crew, begun, moving=moving)
