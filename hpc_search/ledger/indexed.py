"""Claiming by the index under its lock: for mounts whose locks exclude and refresh what they protect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import corrections, covered, history, owning, rebuild, recovery, retries
from hpc_search.ledger.book import Mark, Taken, Writer, accepted_line, superseded
from hpc_search.ledger.cursor import Cursor
from hpc_search.ledger.deaths import Deaths
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.index import (
    Image,
    Index,
    IndexDamagedError,
    Session,
    read_entry,
    read_header,
    read_image,
)
from hpc_search.ledger.once import once
from hpc_search.records import index as codec
from hpc_search.records import journal as lines
from hpc_search.records.index import Entry
from hpc_search.records.plan import Plan, PlannedTrial

#: Marks from which the whole index is read instead of one entry after the other.
_MANY: Final = 256
_T = TypeVar("_T")


class IndexedBook:
    """One worker's hand on ledger/claims.bin."""

    name: Final = "lock"
    waits: Final = 0.0

    def __init__(
        self,
        layout: Layout,
        plan: Plan,
        trial_of: Callable[[int], PlannedTrial],
        worker: str,
        node: str,
        writer: Writer,
        deaths: Deaths,
        gates: Gates,
        lock_timeout: float,
    ) -> None:
        """Keep the book of *worker* on *node*."""
        self._layout = layout
        self._plan = plan
        self._trial_of = trial_of
        self._owner = int(worker, 16)
        self._node = node
        self._writer = writer
        self._deaths = deaths
        self._gates = gates
        self._closed = gates.closed
        self._cursor = Cursor(gates)
        self._index = Index(layout, lock_timeout)
        self._sealed = history.Sealed(layout)
        #: The index when it was last looked at: all of it verified.
        self._seen: Image | None = None
        #: Why locks cannot be trusted, once that was seen.
        self._replaced = ""

    # -- claiming
    def take(self, marks: Sequence[Mark], limit: int, only: int | None) -> Taken:
        """Write *marks*, then own up to *limit* pending trials, lowest numbers first; or *only*."""
        opened = self._opened()

        def pick(session: Session) -> list[tuple[int, Entry]]:
            if only is None:
                return self._cursor.pick(session, self._owner, limit, opened)
            wanted = [] if self._gates.shut(only) else [only]
            return owning.take(session, self._owner, wanted, lambda entry: entry.state == codec.PENDING)

        records, trials = self._session(marks, pick)
        return Taken(trials, self._confirmed(marks, records))

    def _opened(self) -> int | None:
        """Look at the gates; return the lowest trial behind one that was opened since the last look."""
        self._gates.refresh()
        before, self._closed = self._closed, self._gates.closed
        return self._gates.lowest_since(before) if before is not self._closed else None

    def settle(self, marks: Sequence[Mark]) -> list[lines.Record]:
        """Write *marks* into the index."""
        return self._confirmed(marks, self._session(marks, lambda _: None)[0])

    def _confirmed(self, marks: Sequence[Mark], records: list[lines.Record]) -> list[lines.Record]:
        """Return *records*, after another look at what was accepted: where locks lie, two accept at once."""
        ends = {mark.checksum: mark for mark in marks if mark.record is not None}
        confirmed: list[lines.Record] = []
        image = self._look() if len(ends) > _MANY else None
        for record in records:
            mark = ends.get(record.end) if isinstance(record, lines.Accepted) else None
            entry = self._entry(image, mark.number) if mark is not None else None
            if mark is None or entry is None or not entry.final or f"{entry.end:016x}" == mark.checksum:
                confirmed.append(record)
                continue
            self._replaced = (
                f"the result of trial {mark.number} was marked twice: the locks here do not exclude"
            )
            other = f"{entry.end:016x}", f"{entry.owner:016x}"
            confirmed += [accepted_line(mark.number, entry.attempt, *other), superseded(mark)]
        return confirmed

    def _entry(self, image: Image | None, number: int) -> Entry | None:
        return read_entry(self._layout, number) if image is None else image.entry(number)

    def take_away(self, numbers: Sequence[int]) -> list[tuple[int, Entry]]:
        """Own those of the trials *numbers* that are not final, whoever has them, to end them."""
        return self._taken(numbers, lambda entry: not entry.final, to_end=True)

    def take_paused(self, numbers: Sequence[int], *, to_end: bool) -> list[tuple[int, Entry]]:
        """Own those of the trials *numbers* that are paused, to run or to end them; return what they were."""
        return self._taken(numbers, owning.is_paused, to_end=to_end)

    def _taken(
        self, numbers: Sequence[int], wanted: Callable[[Entry], bool], *, to_end: bool
    ) -> list[tuple[int, Entry]]:
        def take(session: Session) -> list[tuple[int, Entry]]:
            return owning.take(session, self._owner, numbers, wanted, to_end=to_end)

        return self._session((), take)[1]

    # -- the index
    def _session(
        self, marks: Sequence[Mark], action: Callable[[Session], _T]
    ) -> tuple[list[lines.Record], _T]:
        try:
            return self._in_session(marks, action)
        except IndexDamagedError:
            self.rebuild()
            return self._in_session(marks, action)

    def _in_session(
        self, marks: Sequence[Mark], action: Callable[[Session], _T]
    ) -> tuple[list[lines.Record], _T]:
        with self._index.session() as session:
            session.extend(self._plan.trials)
            records = [record for mark in marks for record in self._apply(session, mark)]
            return records, action(session)

    def _apply(self, session: Session, mark: Mark) -> list[lines.Record]:
        """Write *mark* into the index; return what the journal has to say of it."""
        entry = session.read(mark.number)
        if mark.record is None:
            if entry.state == codec.CLAIMED and (entry.owner, entry.attempt) == (self._owner, mark.attempt):
                session.write(mark.number, entry._replace(state=codec.RUNNING))
            return []
        if entry.final:
            # The one who marked it may have died, or lost power, before its own line was durable.
            winner = f"{entry.end:016x}"
            known = accepted_line(mark.number, entry.attempt, winner, f"{entry.owner:016x}")
            return [known] if winner == mark.checksum else [known, superseded(mark)]
        final = mark.record.state in lines.FINAL
        if mark.record.state == "failed" and mark.attempt <= entry.again:
            # It was taken back before it was marked.
            return [superseded(mark)]
        owned = entry.state in (codec.CLAIMED, codec.RUNNING) and entry.attempt == mark.attempt
        if not final and not owned:
            return [superseded(mark)]
        told = self._sealed_instead(mark) if final and mark.attempt > 1 else mark
        after = rebuild.end_entry(told.record or mark.record, told.checksum, told.worker, entry)
        session.write(mark.number, after)
        header = session.header
        if final:
            session.header = header._replace(finals=header.finals + 1)
            known = accepted_line(mark.number, told.attempt, told.checksum, told.worker)
            return [known] if told is mark else [known, superseded(mark)]
        if after.state == codec.PENDING:
            self._cursor.given_back(session, mark.number)
        return []

    def _sealed_instead(self, mark: Mark) -> Mark:
        """Return the mark of the result that `collect` has published already, or *mark* where it has none."""
        if self._sealed.ends().get(mark.number, mark.checksum) == mark.checksum:
            return mark
        found = history.results(self._layout).get(mark.number)
        if found is None:
            return mark
        return Mark(found.end, found.checksum, mark.number, found.end.attempt, found.worker)

    def rebuild(self) -> None:
        """Make the index anew from the journals, under the lock, where it does not verify."""
        with self._index.locked() as path:
            with suppress(IndexDamagedError):
                read_image(self._layout)
                return
            header = read_header(self._layout)
            generation = header.generation + 1 if header is not None else 1
            durable.replace(path, rebuild.rebuild(self._layout, self._plan.trials, generation))
        self._writer.note("index rebuilt")

    def _look(self) -> Image:
        try:
            self._seen = read_image(self._layout, self._seen)
        except IndexDamagedError:
            self.rebuild()
            self._seen = read_image(self._layout)
        if self._seen.header.trials < self._plan.trials:
            self._session((), lambda _: None)
            self._seen = read_image(self._layout)
        return self._seen

    # -- the others
    def recover(self) -> int:
        """Finish or give back what dead workers left; return how many trials were touched."""
        image = self._look()
        self._gates.refresh()
        stray = self._cursor.passed_over(image)
        if stray and not self._gates.folds:
            self._recount()
        self._deaths.look()
        touched = 0
        if lost := self._lost(image):
            touched = once(self._layout, "recover", lambda: self._seen_to(lost), lambda: self._recover(lost))
        self._writer.flush()
        return touched + stray

    def _lost(self, image: Image) -> dict[int, Entry]:
        """Return the trials whose owner is dead or has let go of them."""
        owned: dict[int, dict[int, Entry]] = {}
        for number in image.numbers(codec.CLAIMED, codec.RUNNING):
            entry = image.entry(number)
            if entry.owner != self._owner and number < self._plan.trials:
                owned.setdefault(entry.owner, {})[number] = entry
        lost: dict[int, Entry] = {}
        for owner, held in owned.items():
            worker = f"{owner:016x}"
            dead, let_go = self._deaths.dead(worker), self._deaths.abandoned
            lost |= {n: e for n, e in held.items() if dead or let_go(worker, (n, e.attempt), (n,))}
        return lost

    def _seen_to(self, lost: dict[int, Entry]) -> int | None:
        """Forget those of the *lost* trials that others have seen to; return 0 where none is left."""
        first = next(iter(lost))
        if corrections.same_owner(lost[first], read_entry(self._layout, first)):
            return None
        image = self._look()
        for number in [
            number for number, entry in lost.items() if not corrections.same_owner(entry, image.entry(number))
        ]:
            del lost[number]
        return None if lost else 0

    def _recover(self, lost: Mapping[int, Entry]) -> int:
        """Finish or give back those of the *lost* trials that nobody else has seen to meanwhile."""
        image = self._look()
        left: dict[int, recovery.Left] = {}
        ends: list[lines.End] = []
        touched = 0
        for number, entry in lost.items():
            worker = f"{entry.owner:016x}"
            if not corrections.same_owner(entry, image.entry(number)):
                continue
            if entry.owner not in left:
                left[entry.owner] = recovery.left_by(self._layout, worker)
            known = left[entry.owner].ends.get((number, entry.attempt))
            if known is not None:
                self._writer.queue(Mark(known[0], known[1], number, entry.attempt, worker))
            else:
                step = left[entry.owner].steps.get(number, 0)
                patience = self._plan.search.retry.no_progress
                trial = self._trial_of(number)
                ends.append(recovery.given_back(trial, entry, worker, step, patience, self._node))
            touched += 1
        self._writer.finish_all(ends)
        self._writer.flush()
        return touched

    def reconcile(self, *, whole: bool = False) -> int:
        """Mark every accepted end record that the index does not show; return how many there were.

        Where an earlier reconcile covered most of the journals and the index confirms it, only the rest is
        read, unless it shall be the *whole*.
        """
        self._writer.flush()
        return self._reopen() + (self._mark_all() if whole else self._mark_missing())

    def _mark_missing(self) -> int:
        known: list[tuple[int, ...]] = []

        def done() -> int | None:
            version = covered.version(self._layout)
            if version in known:
                return None
            known.append(version)
            return self._mark_beyond()

        missing = done()
        return missing if missing is not None else once(self._layout, "reconcile", done, self._mark_all)

    def _reopen(self) -> int:
        """Make the trials pending whose failures were taken back and still stand here; return how many."""
        known = retries.read(self._layout)
        failed = corrections.still_failed(known, self._look()) if known else []
        return self._session((), lambda session: corrections.reopen(session, failed))[1] if failed else 0

    def _mark_all(self) -> int:
        """Mark what any journal holds, and write down that they were read."""
        reading = covered.Reading(self._layout)
        settled = covered.final(self._look().states)
        results = history.results_of(self._layout, reading.lines(settled))
        missing = self._mark(results)
        states = self._look().states
        if all(number < len(states) and states[number] >= codec.DONE for number in results):
            reading.publish(self._plan.run_id, states)
        return missing

    def _mark_beyond(self) -> int | None:
        """Mark what the journals hold beyond what is covered; None where that is too much, or unknown."""
        image = self._look()
        known = covered.read(self._layout, self._plan.run_id, image.states)
        if known is None:
            return None
        found = list(covered.beyond(self._layout, known))
        if sum(len(file.data) for file in found) > covered.WORTH:
            return None
        return self._mark(history.results_of(self._layout, covered.unmarked(found, image.states)))

    def _mark(self, results: Mapping[int, history.Result]) -> int:
        image = self._look()
        missing = [
            Mark(result.end, result.checksum, number, result.end.attempt, result.worker)
            for number, result in results.items()
            if number < len(image.states) and image.states[number] < codec.DONE
        ]
        for mark in missing:
            self._writer.queue(mark)
        self._writer.flush()
        if image.header.finals != image.finals:
            self._recount()
        return len(missing)

    def _recount(self) -> None:
        self._session((), lambda session: corrections.recount(session, self._gates))

    # -- without the lock
    def owns(self, number: int, attempt: int) -> bool:
        """Return whether *attempt* is still the highest known one; an unreadable index says yes."""
        entry = read_entry(self._layout, number)
        return entry is None or (not entry.final and entry.attempt <= attempt)

    def reserved(self) -> dict[int, int]:
        """Return nothing: whatever is owned was handed out."""
        return {}

    def contradiction(self, held: Mapping[int, int]) -> str:
        """Return what cannot be where locks exclude: another owner of one of the *held* attempts; else ""."""
        if self._replaced:
            return self._replaced
        for number, attempt in held.items():
            entry = read_entry(self._layout, number)
            owned = entry is not None and entry.state in (codec.CLAIMED, codec.RUNNING)
            if entry is not None and owned and entry.attempt == attempt and entry.owner != self._owner:
                return f"attempt {attempt} at trial {number} was claimed twice: the locks here do not exclude"
        return ""

    def let_go(self) -> None:
        """Forget nothing: nothing is reserved."""

    def counts(self) -> tuple[int, int]:
        """Return (trials, final trials) by the index's header."""
        header = read_header(self._layout)
        return (max(header.trials, self._plan.trials), header.finals) if header else (self._plan.trials, 0)

    def anything_open(self) -> bool:
        """Return whether a trial is pending, claimed, running or paused."""
        image = self._look()
        return image.finals < len(image.states)

    def left(self) -> int:
        """Return how many trials are not final, without those behind gates."""
        self._gates.refresh()
        if not self._gates.closed:
            trials, finals = self.counts()
            return trials - finals
        image = self._look()
        return sum(map(image.open_in, self._gates.claimable(0, len(image.states))))

    def pending_estimate(self) -> int:
        """Return about how many trials can be claimed, by the header."""
        header = read_header(self._layout)
        if header is None:
            return 1
        ahead = sum(map(len, self._gates.claimable(self._cursor.at(header), header.trials)))
        return min(ahead, header.trials - header.finals)

    def close(self) -> None:
        """Close the descriptor of the lock."""
        self._index.close()
