"""Claiming, finishing and taking over trials: one worker's hand on the ledger."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import gone, history, liveness, rebuild, recovery
from hpc_search.ledger.index import Index, IndexDamagedError, Session, read_entry, read_header, read_index
from hpc_search.ledger.journal import RESERVE_BYTES, Journal
from hpc_search.ledger.liveness import Identity, Watch
from hpc_search.records import index as codec
from hpc_search.records import journal as lines
from hpc_search.records.index import Entry, Header
from hpc_search.records.plan import Plan, PlannedTrial

#: Entries looked at for pending trials in the first read and in every later one. Behind the cursor the
#: next entry is pending, unless trials were given back.
_SCAN: Final = (16, 8192)


class Claimed(NamedTuple):
    """A trial this worker owns, the attempt it makes, and the entry as it stood before."""

    trial: PlannedTrial
    attempt: int
    before: Entry


class _Mark(NamedTuple):
    """A change of the index that waits for the next lock."""

    record: lines.End | None
    checksum: str
    number: int
    attempt: int
    worker: str


class Ledger:
    """One worker's access: its journal (the truth) and the shared index."""

    def __init__(
        self,
        layout: Layout,
        plan: Plan,
        trial_of: Callable[[int], PlannedTrial],
        me: Identity,
        versions: dict[str, str] | None = None,
        lock_timeout: float = 60.0,
    ) -> None:
        """Join the run: make a worker directory with a new random id and open its journal."""
        self.layout = layout
        self.plan = plan
        self.me = me
        self._trial_of = trial_of
        self._versions = versions or {}
        self._index = Index(layout, lock_timeout)
        # Asked for at every claim: a string is a third of the cost of a Path.
        self._stop_path = os.fspath(layout.stop)
        self._marks: list[_Mark] = []
        self._ahead: set[int] = set()
        self._held: dict[int, int] = {}
        self._beats = 0
        self._watch = Watch(plan.search.lease)
        self.id = self._join()
        self.owner = int(self.id, 16)
        self.journal = Journal(layout, self.id, self._opening)

    def _join(self) -> str:
        while True:
            worker = secrets.token_hex(8)
            try:
                os.mkdir(self.layout.worker(worker), 0o700)
            except FileExistsError:
                continue
            durable.write_file(self.layout.reserve(worker), bytes(RESERVE_BYTES))
            return worker

    def _opening(self, segment: int) -> lines.Open:
        me = self.me
        return lines.Open(
            version=lines.VERSION,
            worker=self.id,
            run_id=self.plan.run_id,
            segment=segment,
            host=me.host,
            boot_id=me.boot_id,
            pid=me.pid,
            start_time=me.start_time,
            token=me.token,
            seat=me.seat,
            restart=me.restart,
            cluster=me.cluster,
            job_id=me.job_id,
            device=me.device,
            versions=self._versions,
        )

    # -- claiming
    def claim(self, limit: int = 1, only: int | None = None) -> list[Claimed]:
        """Own up to *limit* pending trials, lowest numbers first; none while RUN/ledger/stop exists.

        The first is marked running, the others claimed. Waiting marks are written in the same lock. With
        *only* it is that trial or none.
        """
        if os.path.exists(self._stop_path):
            self.flush()
            return []
        taken = self._session(
            lambda session: self._pick(session, limit) if only is None else self._pick_one(session, only)
        )
        found = [Claimed(self._trial_of(number), entry.attempt + 1, entry) for number, entry in taken]
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
                )
            )
        return found

    def _pick(self, session: Session, limit: int) -> list[tuple[int, Entry]]:
        header = session.header
        taken: list[tuple[int, Entry]] = []
        at = first = header.cursor
        size = max(limit, _SCAN[0])
        while at < header.trials and len(taken) < limit:
            end = min(at + size, header.trials)
            taken += session.pending(at, end, limit - len(taken))
            at, size = end, _SCAN[1]
        for place, (number, entry) in enumerate(taken):
            state = codec.CLAIMED if place else codec.RUNNING
            session.write(number, self._owned(entry, state, entry.attempt + 1))
        # Below the cursor nothing is pending: everything up to the last one taken was looked at in order.
        cursor = taken[-1][0] + 1 if taken else max(first, min(at, header.trials))
        session.header = session.header._replace(cursor=cursor)
        return taken

    def _pick_one(self, session: Session, number: int) -> list[tuple[int, Entry]]:
        entry = session.read(number)
        if entry.state != codec.PENDING:
            return []
        session.write(number, self._owned(entry, codec.RUNNING, entry.attempt + 1))
        return [(number, entry)]

    def _owned(self, entry: Entry, state: int, attempt: int) -> Entry:
        return entry._replace(state=state, attempt=attempt, owner=self.owner, changed=int(time.time()))

    def start(self, claimed: Claimed, pid: int, log: int) -> None:
        """Record that a process of the trial was started; *log* is its first byte in the log."""
        number = claimed.trial.number
        if number in self._ahead:
            self._ahead.remove(number)
            self._marks.append(_Mark(None, "", number, claimed.attempt, self.id))
        self.journal.append(lines.Start(trial=number, attempt=claimed.attempt, pid=pid, log=log))

    def report(self, number: int, attempt: int, step: int, metrics: dict[str, float]) -> None:
        """Record metrics at a step; not fsynced."""
        self.journal.append(lines.Report(trial=number, attempt=attempt, step=step, metrics=metrics))

    def finish(self, end: lines.End) -> str:
        """Make *end* durable and queue its mark; return its checksum."""
        return self._finish_all([end])[0]

    def _finish_all(self, ends: Sequence[lines.End]) -> list[str]:
        """Make *ends* durable by one fsync and queue their marks; return their checksums."""
        checksums = [self.journal.append(end) for end in ends]
        self.journal.sync()
        for end, checksum in zip(ends, checksums, strict=True):
            self._held.pop(end.trial, None)
            self._ahead.discard(end.trial)
            self._marks.append(_Mark(end, checksum, end.trial, end.attempt, self.id))
        return checksums

    def give_back(self, claimed: Sequence[Claimed], cause: lines.Cause = "", detail: str = "") -> None:
        """Return trials that were claimed and not started."""
        ends = [
            lines.End(
                trial=trial.number,
                attempt=attempt,
                state="pending",
                params=trial.params,
                point=trial.point,
                fold=trial.fold,
                seed=trial.seed,
                cause=cause,
                detail=detail or "given back",
                node=self.me.host,
                block=trial.block,
            )
            for trial, attempt, _ in claimed
        ]
        if ends:
            self._finish_all(ends)
        self.flush()

    # -- the index
    def _session(self, action: Callable[[Session], Any]) -> Any:
        try:
            return self._in_session(action)
        except IndexDamagedError:
            self.rebuild_index()
            return self._in_session(action)

    def _in_session(self, action: Callable[[Session], Any]) -> Any:
        marks = list(self._marks)
        with self._index.session() as session:
            outcomes = [record for mark in marks for record in self._apply(session, mark)]
            result = action(session)
        del self._marks[: len(marks)]
        for record in outcomes:
            self.journal.append(record)
        return result

    def _apply(self, session: Session, mark: _Mark) -> list[lines.Record]:
        """Write *mark* into the index; return what the journal has to say of it."""
        entry = session.read(mark.number)
        if mark.record is None:
            if entry.state == codec.CLAIMED and (entry.owner, entry.attempt) == (self.owner, mark.attempt):
                session.write(mark.number, entry._replace(state=codec.RUNNING))
            return []
        superseded = lines.Note(event="superseded", trial=mark.number, attempt=mark.attempt)
        if entry.final:
            # The one who marked it may have died, or lost power, before its own line was durable.
            winner, owner = f"{entry.end:016x}", f"{entry.owner:016x}"
            known = lines.Accepted(trial=mark.number, attempt=entry.attempt, end=winner, worker=owner)
            return [known] if winner == mark.checksum else [known, superseded]
        final = mark.record.state in lines.FINAL
        open_states = (codec.CLAIMED, codec.RUNNING, codec.PAUSED)
        if not final and (entry.attempt != mark.attempt or entry.state not in open_states):
            return [superseded]
        after = rebuild.end_entry(mark.record, mark.checksum, mark.worker, entry)
        session.write(mark.number, after)
        header = session.header
        if final:
            session.header = header._replace(finals=header.finals + 1)
            number, attempt = mark.number, mark.attempt
            return [lines.Accepted(trial=number, attempt=attempt, end=mark.checksum, worker=mark.worker)]
        if after.state == codec.PENDING and mark.number < header.cursor:
            session.header = header._replace(cursor=mark.number)
        return []

    def flush(self) -> None:
        """Write every waiting mark to the index."""
        if self._marks:
            self._session(lambda _: None)

    @property
    def waiting(self) -> int:
        """Number of marks not yet in the index."""
        return len(self._marks)

    def rebuild_index(self) -> None:
        """Make the index anew from the journals, under the lock."""
        with self._index.locked() as path:
            with suppress(IndexDamagedError):
                read_index(self.layout)
                return
            header = read_header(self.layout)
            generation = header.generation + 1 if header is not None else 1
            durable.replace(path, rebuild.rebuild(self.layout, self.plan.trials, generation))
        self.journal.append(lines.Note(event="index rebuilt"))

    # -- the others
    def recover(self) -> int:
        """Finish or give back what dead workers left; return how many trials were touched.

        The dead owner's journal is read first: an end record there finishes the trial.
        """
        header, entries = self._look()
        stray = codec.PENDING in (entry.state for entry in entries[: header.cursor])
        if stray:
            # Given back by a worker that was killed before it wrote the header.
            self._session(self._recount)
        owned: dict[int, dict[int, Entry]] = {}
        for number, entry in enumerate(entries):
            if entry.state in (codec.CLAIMED, codec.RUNNING) and entry.owner != self.owner:
                owned.setdefault(entry.owner, {})[number] = entry
        departed = gone.reported(self.layout) if owned else frozenset()
        for owner, held in owned.items():
            self._recover_owner(f"{owner:016x}", held, departed)
        count = sum(mark.record is not None for mark in self._marks)
        self.flush()
        return count + stray

    def _recover_owner(self, worker: str, held: dict[int, Entry], departed: frozenset[str]) -> None:
        opening, exited = liveness.opening_of(self.layout, worker)
        beat = liveness.read_beat(self.layout, worker)
        dead = exited or worker in departed
        dead = dead or opening is None or liveness.certainly_gone(opening, self.me)
        dead = self._watch.sample(worker, beat) or dead
        left = recovery.left_by(self.layout, worker)
        for number, entry in held.items():
            known = left.ends.get((number, entry.attempt))
            if known is not None:
                self._marks.append(_Mark(known[0], known[1], number, entry.attempt, worker))
            elif dead or self._watch.abandoned(worker, number, entry.attempt, beat):
                step = left.steps.get(number, 0)
                patience = self.plan.search.retry.no_progress
                trial = self._trial_of(number)
                self.finish(recovery.given_back(trial, entry, worker, step, patience, self.me.host))

    def reconcile(self) -> int:
        """Mark every accepted end record that the index does not show; return how many there were."""
        self.flush()
        header, entries = self._look()
        missing = [
            _Mark(result.end, result.checksum, number, result.end.attempt, result.worker)
            for number, result in history.results(self.layout).items()
            if number < len(entries) and not entries[number].final
        ]
        self._marks.extend(missing)
        if header.finals == sum(entry.final for entry in entries):
            self.flush()
        else:
            self._session(self._recount)
        return len(missing)

    def anything_open(self) -> bool:
        """Return whether a trial is pending, claimed, running or paused."""
        return not all(entry.final for entry in self._look()[1])

    def _look(self) -> tuple[Header, list[Entry]]:
        try:
            return read_index(self.layout)
        except IndexDamagedError:
            self.rebuild_index()
            return read_index(self.layout)

    def _recount(self, session: Session) -> None:
        """Put the header right: a worker killed between a record and the header left it behind."""
        header = session.header
        states = [entry.state for entry in session.read_range(0, header.trials)]
        finals = sum(state >= codec.DONE for state in states)
        cursor = states.index(codec.PENDING) if codec.PENDING in states else header.trials
        session.header = header._replace(finals=finals, cursor=cursor)

    def beat(self) -> list[int]:
        """Write the heartbeat; return the held trials that somebody else owns by now."""
        self._beats += 1
        content = liveness.Beat(self.id, self._beats, tuple(sorted(self._held.items())))
        with suppress(OSError):
            # A beat that is missed harms nobody before the lease ends.
            durable.replace(self.layout.heartbeat(self.id), liveness.encode_beat(content), sync=False)
        self.journal.sync()
        lost = [number for number, attempt in self._held.items() if not self.owns(number, attempt)]
        for number in self._ahead.intersection(lost):
            self._ahead.remove(number)
            del self._held[number]
        return lost

    def owns(self, number: int, attempt: int) -> bool:
        """Return whether *attempt* is still the highest known one; an unreadable index says yes."""
        entry = read_entry(self.layout, number)
        return entry is None or (not entry.final and entry.attempt <= attempt)

    def pending_estimate(self) -> int:
        """Return about how many trials are still to be claimed, from the header read without the lock."""
        header = read_header(self.layout)
        return max(0, header.trials - max(header.cursor, header.finals)) if header else 1

    def counts(self) -> tuple[int, int]:
        """Return (trials, final trials) by the index's header, without the lock."""
        header = read_header(self.layout)
        return (header.trials, header.finals) if header else (self.plan.trials, 0)

    def note(self, event: str, text: str = "") -> None:
        """Put an event into the audit log."""
        self.journal.append(lines.Note(event=event, text=text))

    def exit(self, reason: str) -> None:
        """Write the last marks and the exit record; the worker owns nothing any more."""
        self.flush()
        self.journal.append(lines.Exit(reason=reason))
        self.journal.sync()
        self.journal.close()
        self._index.close()
        self.layout.reserve(self.id).unlink(missing_ok=True)

    def close_in_child(self) -> None:
        """Close what a forked child must not keep."""
        self.journal.close()
        self._index.close()
