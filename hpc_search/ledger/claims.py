"""Claiming, finishing and taking over trials: one worker's hand on the ledger."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import liveness, mode
from hpc_search.ledger.book import Book, Mark, Writer, end_line
from hpc_search.ledger.deaths import WATCH, Deaths
from hpc_search.ledger.exclusive import ExclusiveBook
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.indexed import IndexedBook
from hpc_search.ledger.joining import join, opening
from hpc_search.ledger.journal import Journal
from hpc_search.ledger.liveness import Identity
from hpc_search.ledger.proposals import Proposals
from hpc_search.ledger.proposing import Proposer, Proposing
from hpc_search.locks import LockRefusedError
from hpc_search.records import journal as lines
from hpc_search.records.index import FLAG_ENDING, Entry
from hpc_search.records.plan import Plan, PlannedTrial

_T = TypeVar("_T")
_Taken = list[tuple[int, Entry]]
_Given = tuple[Layout, Plan, Callable[[int], PlannedTrial], str, str, Writer, Deaths, Gates]


class Claimed(NamedTuple):
    """A trial this worker owns, the attempt it makes, and the entry as it stood before."""

    trial: PlannedTrial
    attempt: int
    before: Entry


class Ledger:
    """One worker's access: its journal (the truth) and the shared book of who owns what."""

    def __init__(
        self,
        layout: Layout,
        plan: Plan,
        trial_of: Callable[[int], PlannedTrial],
        me: Identity,
        versions: dict[str, str] | None = None,
        lock_timeout: float = 60.0,
        proposals: Proposals | None = None,
        proposer: Proposer | None = None,
        folds: Sequence[int] = (),
    ) -> None:
        """Join the run: make a worker directory with a new random id and open its journal.

        With *folds* it claims trials of these alone. A trial that is claimed before its point is known has
        it proposed by *proposer*, into *proposals*.
        """
        self.layout = layout
        self.plan = plan
        self.me = me
        self.gates = Gates(layout, plan, folds)
        self._trial_of = trial_of
        self._lock_timeout = lock_timeout
        # Asked for at every claim: a string is a third of the cost of a Path.
        self._closed_by = os.fspath(layout.stop), os.fspath(layout.paused)
        self._marks: list[Mark] = []
        #: Ends that may not be durable yet, and what waits for that.
        self._written: list[tuple[lines.End, str, Callable[[], None]]] = []
        self._ahead: set[int] = set()
        self._held: dict[int, int] = {}
        self._beats = 0
        self._deaths = Deaths(layout, me, plan.search.lease, plan.search.heartbeat)
        self.id = join(layout)
        self.owner = int(self.id, 16)
        self.journal = Journal(layout, self.id, partial(opening, me, plan.run_id, self.id, versions or {}))
        # The name of the worker's own directory: what is acknowledged in it must be found.
        durable.fsync_dir(layout.workers)
        self._proposing = Proposing(plan, proposals or Proposals(layout), self.journal, self.id, proposer)
        self._book = self._make_book()

    # -- the way of claiming
    def _make_book(self) -> Book:
        if self.plan.claiming == "exclusive":
            return ExclusiveBook(*self._given)
        if mode.exclusive(self.layout):
            return ExclusiveBook(*self._given, wait=self._deaths.notice(self.id))
        return IndexedBook(*self._given, self._lock_timeout)

    @property
    def _given(self) -> _Given:
        return self.layout, self.plan, self._trial_of, self.id, self.me.host, self, self._deaths, self.gates

    @property
    def claiming(self) -> str:
        """How trials are claimed now: "lock" or "exclusive"."""
        return self._book.name

    def _switch(self, why: str) -> None:
        """Claim by exclusively created names from now on, for good."""
        if mode.require_exclusive(self.layout, why):
            self.note("claiming by exclusively created names", why)
        self._book.close()
        # Whatever is written from here on, by what follows too, is written without locks.
        self._book = book = ExclusiveBook(*self._given, wait=self._deaths.notice(self.id))
        book.learn()
        given_back = {mark.number: mark.attempt for mark in self._marks if mark.gives_back}
        book.keep(given_back | self._held)

    def _do(self, operation: Callable[[list[Mark]], tuple[Sequence[lines.Record], _T]]) -> _T:
        """Do *operation* with the waiting marks, which it writes; journal what it has to say."""
        marks = list(self._marks)
        records, result = operation(marks)
        del self._marks[: len(marks)]
        for record in records:
            self.journal.append(record)
        return result

    def _with_locks_or_without(self, action: Callable[[], _T]) -> _T:
        # What follows may mark every end that a journal has, this one too.
        self.settle()
        try:
            return action()
        except LockRefusedError as error:
            self._switch(error.message)
            return action()

    @property
    def closed(self) -> bool:
        """Whether nothing shall be claimed: the search was stopped, or the run is paused."""
        return any(map(os.path.exists, self._closed_by))

    @property
    def paused(self) -> bool:
        """Whether the run is paused."""
        return os.path.exists(self._closed_by[1])

    # -- claiming
    def claim(self, limit: int = 1, only: int | None = None) -> list[Claimed]:
        """Own up to *limit* pending trials, lowest numbers first; none where the run is stopped or paused.

        The first is marked running, the others claimed. Waiting marks are written along with it. With
        *only* it is that trial or none. One comes alone while there are points to be proposed.

        Raises:
            NotProposedError: Its point cannot be proposed; it was given back.
        """
        if self.closed:
            self.flush()
            return []
        limit = 1 if self._proposing.wanted(self.gates.shut) else limit

        def take(marks: list[Mark]) -> tuple[list[lines.Record], list[tuple[int, Entry]]]:
            taken = self._book.take(marks, limit, only)
            return taken.records, taken.trials

        return self._with_points(self._with_locks_or_without(lambda: self._do(take)))

    def _with_points(self, taken: _Taken) -> list[Claimed]:
        """Own the trials *taken* once their points are proposed; give them back where that cannot be."""
        if not self._proposing.needed:
            return self._own(taken)
        # It takes its time: the heartbeat says that somebody has them.
        attempts = {number: entry.attempt + 1 for number, entry in taken}
        self._held |= attempts
        trials: dict[int, PlannedTrial] = {}
        try:
            trials = self._proposing.trials(attempts, self._trial_of)
        finally:
            if len(trials) < len(taken):
                self.give_back([Claimed(self._trial_of(one), attempts[one], entry) for one, entry in taken])
                trials = {}
        for number in [number for number in trials if not self.owns(number, attempts[number])]:
            del trials[number], self._held[number]
        return self._own([one for one in taken if one[0] in trials], trials)

    def take_away(self, numbers: Sequence[int]) -> list[Claimed]:
        """Own those of the trials *numbers* that have no result, by a higher attempt than anybody's."""
        self.flush()
        return self._own(self._with_locks_or_without(lambda: self._book.take_away(numbers)))

    def promote(self, number: int) -> list[Claimed]:
        """Own trial *number* to run it beyond the rung that it is paused at; none where it is not paused.

        Of several that promote it, one has it. It goes on beyond ``before.rung`` of the claim whoever runs
        it then: it is pending, not paused, where its attempt is given back or its owner dies.
        """
        self.gates.refresh()
        return [] if self.closed or self.gates.shut(number) else self._own_paused([number], to_end=False)

    def end_paused(self, numbers: Sequence[int]) -> list[Claimed]:
        """Own those of the trials *numbers* that are paused, to end them without running them.

        Where this worker dies before it ends them, or gives them back, they are paused again.
        """
        return self._own_paused(numbers, to_end=True)

    def _own_paused(self, numbers: Sequence[int], *, to_end: bool) -> list[Claimed]:
        self.flush()
        return self._own(self._with_locks_or_without(lambda: self._book.take_paused(numbers, to_end=to_end)))

    def _own(self, taken: _Taken, known: Mapping[int, PlannedTrial] | None = None) -> list[Claimed]:
        """Write down that the trials *taken*, with what they were before, are this worker's."""
        trials = known or {number: self._trial_of(number) for number, _ in taken}
        found = [Claimed(trials[number], entry.attempt + 1, entry) for number, entry in taken]
        self._ahead.update(claimed.trial.number for claimed in found[1:])
        for claimed in found:
            trial = claimed.trial
            self._held[trial.number] = claimed.attempt
            self.journal.append(
                lines.Claim(
                    trial=trial.number,
                    attempt=claimed.attempt,
                    params=trial.params,
                    point=trial.point,
                    fold=trial.fold,
                    seed=trial.seed,
                    block=trial.block,
                    ending=bool(claimed.before.flags & FLAG_ENDING),
                )
            )
        return found

    def start(self, claimed: Claimed, pid: int, log: int) -> None:
        """Record that a process of the trial was started; *log* is its first byte in the log."""
        number = claimed.trial.number
        if number in self._ahead:
            self._ahead.remove(number)
            self._marks.append(Mark(None, "", number, claimed.attempt, self.id))
        self.journal.append(lines.Start(trial=number, attempt=claimed.attempt, pid=pid, log=log))

    def report(self, number: int, attempt: int, step: int, metrics: dict[str, float]) -> None:
        """Record metrics at a step; not fsynced."""
        self.reports(number, attempt, [(step, metrics)])

    def reports(self, number: int, attempt: int, told: Iterable[tuple[int, dict[str, float]]]) -> None:
        """Record what was *told* together, metrics at steps, by one write; not fsynced."""
        self.journal.append_all(
            lines.Report(trial=number, attempt=attempt, step=step, metrics=metrics) for step, metrics in told
        )

    def finish(self, end: lines.End) -> str:
        """Make *end* durable and queue its mark; return its checksum."""
        return self.finish_all([end])[0]

    def finish_all(self, ends: Sequence[lines.End]) -> list[str]:
        """Make *ends* durable by one fsync and queue their marks; return their checksums."""
        checksums = [self.finish_soon(end) for end in ends]
        self.settle()
        return checksums

    def finish_soon(self, end: lines.End, then: Callable[[], None] = lambda: None) -> str:
        """Write *end* and return its checksum; the next `settle` does the rest, and calls *then*."""
        end = self._fenced(end)
        checksum = self.journal.append(end)
        self._written.append((end, checksum, then))
        return checksum

    def settle(self) -> None:
        """Make the ends that were written durable, and queue their marks."""
        if not self._written:
            return
        self.journal.sync()
        written, self._written = self._written, []
        for end, checksum, _ in written:
            self._held.pop(end.trial, None)
            self._ahead.discard(end.trial)
            self._marks.append(Mark(end, checksum, end.trial, end.attempt, self.id))
        for _, _, then in written:
            then()

    def _fenced(self, end: lines.End) -> lines.End:
        """Return *end*, or that somebody else has the trial: then its failure here says nothing of it."""
        infrastructure = end.state == "failed" and end.cause in ("lost", "preempted", "timeout")
        if not infrastructure or end.trial not in self._held or self._book.owns(end.trial, end.attempt):
            return end
        return msgspec.structs.replace(end, state="pending", detail=f"superseded; {end.detail}")

    def give_back(self, claimed: Sequence[Claimed], cause: lines.Cause = "", detail: str = "") -> None:
        """Return trials that were claimed and not started; those that were to be ended are paused again."""
        about: dict[str, Any] = {"cause": cause, "detail": detail or "given back", "node": self.me.host}
        ends = [
            end_line(trial, attempt, "paused" if before.flags & FLAG_ENDING else "pending", **about)
            for trial, attempt, before in claimed
        ]
        if ends:
            self.finish_all(ends)
        self.flush()

    # -- marks
    def queue(self, mark: Mark) -> None:
        """Have *mark* written with the next ones."""
        self._marks.append(mark)

    def flush(self) -> None:
        """Write every waiting mark."""
        if self.waiting:
            self._with_locks_or_without(lambda: self._do(lambda marks: (self._book.settle(marks), None)))

    @property
    def waiting(self) -> int:
        """Number of marks not yet written."""
        return len(self._marks) + len(self._written)

    # -- the others
    def recover(self) -> int:
        """Finish or give back what dead workers left; return how many trials were touched.

        The dead owner's journal is read first: an end record there finishes the trial.
        """
        # The second try is on another book.
        return self._with_locks_or_without(lambda: self._book.recover())  # noqa: PLW0108

    def reconcile(self, *, whole: bool = False) -> int:
        """Show every accepted end record of the journals to the others; return how many were missing.

        The *whole* reads all journals, whatever earlier ones have read.
        """
        return self._with_locks_or_without(lambda: self._book.reconcile(whole=whole))

    def pause(self) -> float:
        """Return the seconds after which to claim again where nothing could be claimed; 0: leave.

        Trials may be left whose owner is silent, and will be dead when its lease has passed.
        """
        waits = self._book.waits
        return waits if waits > 0 else self._deaths.pause()

    def anything_open(self) -> bool:
        """Return whether a trial is not final, one behind a gate too."""
        return self._book.anything_open()

    def left(self) -> int:
        """Return how many trials are not final and not behind a gate: claimable, owned, or paused."""
        return self._book.left()

    def beat(self) -> list[int]:
        """Write the heartbeat; return the held trials that somebody else owns by now."""
        self.settle()
        self._beats += 1
        lies = self._book.contradiction(self._held)
        if lies or (self._book.name == "lock" and mode.exclusive(self.layout)):
            self._switch(lies or mode.why_exclusive(self.layout))
        self._book.let_go()
        held = tuple(sorted((self._book.reserved() | self._held).items()))
        content = liveness.Beat(self.id, self._beats, held, self._book.name)
        with suppress(OSError):
            # A beat that is missed harms nobody before the lease ends.
            durable.replace(self.layout.heartbeat(self.id), liveness.encode_beat(content), sync=False)
        self.journal.sync()
        self._deaths.sample()
        lost = [number for number, attempt in self._held.items() if not self.owns(number, attempt)]
        for number in self._ahead.intersection(lost):
            self._ahead.remove(number)
            del self._held[number]
        return lost

    def owns(self, number: int, attempt: int) -> bool:
        """Return whether *attempt* is still the one that counts; where that cannot be read: yes."""
        return self._book.owns(number, attempt)

    def pending_estimate(self) -> int:
        """Return about how many trials can be claimed now, read without a lock."""
        return self._book.pending_estimate()

    def counts(self) -> tuple[int, int]:
        """Return (trials, final trials), read without a lock."""
        return self._book.counts()

    def note(self, event: str, text: str = "") -> None:
        """Put an event into the audit log."""
        self.journal.append(lines.Note(event=event, text=text))

    def resume_watch(self) -> None:
        """Go on with the watch that an earlier worker on this seat left in its journal."""
        self._deaths.resume(self.id)

    def exit(self, reason: str) -> None:
        """Write the last marks and the exit record; the worker owns nothing any more."""
        self.flush()
        watched = self._deaths.watched()
        if watched:
            self.note(WATCH, json.dumps(watched))
        self.journal.append(lines.Exit(reason=reason))
        self.journal.sync()
        self.close()
        self.layout.reserve(self.id).unlink(missing_ok=True)

    def close(self) -> None:
        """Close every descriptor."""
        self.journal.close()
        self._book.close()
