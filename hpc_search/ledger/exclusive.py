"""Claiming by exclusively created names: the same guarantees where locks or caches cannot be trusted."""

from __future__ import annotations

import os
import random
import time
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from hpc_search.layout import Layout
from hpc_search.ledger import placing, rebuild, recovery, retries
from hpc_search.ledger.book import Mark, Taken, Writer, accepted_line, superseded
from hpc_search.ledger.deaths import Deaths
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.superblocks import SUPERBLOCK, Accepted, Block, Superblock, Superblocks
from hpc_search.records import index as codec
from hpc_search.records import journal as lines
from hpc_search.records.index import Entry
from hpc_search.records.plan import Plan, PlannedTrial

#: Most trials a claim takes: whoever dies with them keeps them from others until that is noticed.
_MOST: Final = 32
#: Claims lost to others before the superblock is listed again.
_LOSSES: Final = 3


class _Mine(NamedTuple):
    """A block that this worker owns."""

    block: Block
    generation: int


class ExclusiveBook:
    """One worker's hand on ledger/open."""

    name: Final = "exclusive"

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
        wait: float = 0.0,
    ) -> None:
        """Keep the book of *worker* on *node*; no block is claimed in the first *wait* seconds."""
        self._layout = layout
        self._plan = plan
        self._trial_of = trial_of
        self._worker = worker
        self._node = node
        self._writer = writer
        self._deaths = deaths
        self._gates = gates
        self._not_before = time.monotonic() + wait
        os.makedirs(layout.open, mode=0o700, exist_ok=True)
        self._superblocks = Superblocks(layout, plan.first_trials)
        self._again = retries.Known()
        self._unlearned = False
        self._skipped = os.fspath(layout.skipped)
        self._mine: dict[tuple[int, int], _Mine] = {}
        self._before: dict[int, Entry] = {}
        self._pool: deque[int] = deque()
        #: What the journals said, when this worker started, of trials that are not final.
        self._known: Mapping[int, Entry] = {}
        self._cursor = 0
        self._full: set[int] = set()
        self._at: Superblock | None = None
        self._look_for_retries()

    def _look_for_retries(self) -> bool:
        """Take in the retries that are new; return whether there are some."""
        if self._plan.added:
            placing.place(self._layout, self._plan, self._writer)
        if tuple(retries.names(self._layout)) == self._again.numbers:
            return False
        self._again = retries.read(self._layout)
        self._superblocks.extend(self._again.places_of(self._plan.trials))
        self._unlearned = True
        return True

    # -- claiming
    def take(self, marks: Sequence[Mark], limit: int, only: int | None) -> Taken:
        """Write *marks*, then hand out up to *limit* trials of own blocks; claim one where none is left."""
        records = self.settle(marks)
        if only is not None:
            self._claim_of(only)
            wanted = [only] if only in self._pool and not self._has_result(only) else []
        else:
            # What was owned before this call may have been taken over, or ended by a zombie.
            self.let_go()
            wanted = self._hand_out(limit)
        for number in wanted:
            self._pool.remove(number)
        return Taken([(number, self._before[number]) for number in wanted], records)

    def _hand_out(self, limit: int) -> list[int]:
        """Return up to *limit* trials of own blocks, claim one where there is none."""
        size = max(1, min(limit, _MOST))
        while True:
            found = list(islice(self._pool, limit))
            # Once trials were skipped, one may have ended that nobody else ever owned.
            for number in filter(self._has_result, found) if os.path.exists(self._skipped) else ():
                self._drop(number)
            wanted = [number for number in found if number in self._before]
            if wanted or not (self._pool or (self.waits <= 0 and self._claim_block(size))):
                # A block that was inherited may have nothing to hand out yet.
                return wanted

    @property
    def waits(self) -> float:
        """Seconds until blocks may be claimed."""
        return self._not_before - time.monotonic()

    def _claim_block(self, size: int) -> bool:
        if self._unlearned:
            # A loser of a failure that was taken back may have a result.
            self.learn()
        for number in self._superblocks.numbers(self._cursor):
            if self._superblocks.sealed(number):
                self._cursor += number == self._cursor
            elif number not in self._full and self._claim_in(number, size):
                return True
        return self._look_for_retries() and self._claim_block(size)

    def _claim_in(self, number: int, size: int) -> bool:
        """Claim a free block of superblock *number*: the first one, or any where others are at it too."""
        superblock = self._at
        if superblock is None or superblock.number != number:
            superblock = self._superblocks.open(number, size)
        losses = 0
        while superblock is not None and (free := superblock.free):
            index = random.choice(free) if losses else free[0]
            block = superblock.block(index)
            superblock.claims[index] = 1
            if self._superblocks.claim(block, 1, self._worker):
                self._at = superblock
                self._hold(superblock, block, 1)
                return True
            losses += 1
            if losses % _LOSSES == 0:
                superblock = self._superblocks.open(number, size)
        self._at = None
        superblock = self._superblocks.look(number)
        if superblock is not None and not superblock.free:
            self._full.add(number)
            if superblock.complete:
                self._superblocks.seal(superblock)
        return False

    def _claim_of(self, number: int, kept: Container[int] = ()) -> None:
        """Claim the block of trial *number* where it is free."""
        place = self._again.place(number)
        superblock = self._superblocks.open(place // SUPERBLOCK, 1)
        if superblock is None or place in superblock.done:
            return
        block = superblock.block_of(place)
        if block.place not in superblock.claims and self._superblocks.claim(block, 1, self._worker):
            self._hold(superblock, block, 1, kept)

    def keep(self, held: Mapping[int, int]) -> None:
        """Claim the blocks of trials, *held* with their attempts, that this worker runs since before."""
        for number, attempt in held.items():
            self._claim_of(number, held)
            if self._block_of(number) is not None and not self._has_result(number):
                known = self._known.get(number, Entry())
                self._before[number] = known._replace(state=codec.RUNNING, attempt=attempt)

    def take_away(self, numbers: Sequence[int]) -> list[tuple[int, Entry]]:
        """Return those of the trials *numbers* that have no result: whose mark comes first has ended them."""
        self.learn()
        done = recovery.settled(self._superblocks, self._again, self._plan.trials)
        wanted = [number for number in numbers if not done[number] and not self._has_result(number)]
        return [(number, self._known.get(number, self._again.entry(number))) for number in wanted]

    def take_paused(self, numbers: Sequence[int], *, to_end: bool) -> list[tuple[int, Entry]]:
        """Own those of the trials *numbers* that are paused, to run or to end them; return what they were."""
        del numbers, to_end
        return []

    def _hold(self, superblock: Superblock, block: Block, generation: int, kept: Container[int] = ()) -> int:
        """Own *block*: inherit what earlier owners left of it; return how many trials are not final.

        Those that are *kept* are being run by this worker already.
        """
        self._mine[block.superblock, block.place] = _Mine(block, generation)
        undone = [number for number in self._again.trials(superblock.undone(block)) if number not in kept]
        owners = [self._superblocks.holder(block, older) for older in range(1, generation)]
        if generation == 1 and not any(number in self._known for number in undone):
            for number in undone:
                self._offer(number, self._again.entry(number))
            return len(undone)
        known = {number: self._known[number] for number in undone if number in self._known}
        owners += [f"{entry.owner:016x}" for entry in known.values() if entry.owner]
        workers = [*filter(None, dict.fromkeys(owners))]
        left = recovery.inherited(self._layout, workers, undone, self._again)
        for number in undone:
            self._inherit(number, left, known.get(number, Entry()))
        return len(undone)

    def _inherit(self, number: int, left: recovery.Inherited, known: Entry) -> None:
        result = left.results.get(number)
        if result is not None:
            end = result.end
            self._writer.queue(Mark(end, result.checksum, number, end.attempt, result.worker))
            return
        entry = left.entries.get(number, self._again.entry(number))
        entry = known if known.attempt > entry.attempt else entry
        self._before[number] = entry
        if entry.state not in (codec.CLAIMED, codec.RUNNING):
            self._offer(number, entry)
            return
        patience = self._plan.search.retry.no_progress
        owner, step = f"{entry.owner:016x}", left.steps.get(number, 0)
        trial = self._trial_of(number)
        self._writer.finish(recovery.given_back(trial, entry, owner, step, patience, self._node))

    def _offer(self, number: int, entry: Entry) -> None:
        self._before[number] = entry
        if number not in self._pool:
            self._pool.append(number)

    # -- ends
    def settle(self, marks: Sequence[Mark]) -> list[lines.Record]:
        """Write *marks*: the first final end of a trial is its result."""
        records = [record for mark in marks for record in self._apply(mark)]
        for number in {self._place(mark) // SUPERBLOCK for mark in marks if mark.record is not None}:
            self._seal_complete(number)
        return records

    def _place(self, mark: Mark) -> int:
        state = mark.record.state if mark.record is not None else ""
        return self._again.place_of_end(mark.number, mark.attempt, state)

    def _apply(self, mark: Mark) -> list[lines.Record]:
        end = mark.record
        if end is None:
            return []
        if end.state in lines.FINAL:
            wanted = Accepted(mark.attempt, mark.worker, mark.checksum)
            place = self._place(mark)
            found = self._superblocks.accept(place, wanted)
            if place == self._again.place(mark.number):
                self._drop(mark.number)
            known = accepted_line(mark.number, found.attempt, found.end, found.worker)
            return [known] if found.end == mark.checksum else [known, superseded(mark)]
        before = self._before.get(mark.number)
        if before is None or not self._holds(mark.number):
            return [superseded(mark)]
        self._offer(mark.number, rebuild.end_entry(end, mark.checksum, mark.worker, before))
        return []

    def _drop(self, number: int) -> None:
        self._before.pop(number, None)
        if number in self._pool:
            self._pool.remove(number)

    def _holds(self, number: int) -> bool:
        """Return whether the block of trial *number* is still this worker's."""
        mine = self._block_of(number)
        return mine is not None and not self._superblocks.taken_over(mine.block, mine.generation)

    def _block_of(self, number: int) -> _Mine | None:
        place = self._again.place(number)
        for mine in self._mine.values():
            if mine.block.first <= place < mine.block.end:
                return mine
        return None

    def _seal_complete(self, number: int) -> None:
        """Seal superblock *number* where this worker has ended the last of it that could be claimed."""
        keys = [key for key in self._mine if key[0] == number]
        for key in keys:
            block = self._mine[key].block
            if not any(trial in self._before for trial in self._again.trials(range(block.first, block.end))):
                del self._mine[key]
        at = self._at
        if any(key in self._mine for key in keys) or (at is not None and at.number == number and at.free):
            return
        superblock = self._superblocks.look(number)
        if superblock is not None and superblock.complete:
            self._superblocks.seal(superblock)

    # -- the others
    def recover(self) -> int:
        """Take over the blocks of dead workers, and seal what is complete; return how many trials."""
        self._deaths.look()
        self._look_for_retries()
        touched = 0
        for number in self._superblocks.refresh():
            superblock = self._superblocks.look(number)
            if superblock is None:
                continue
            if superblock.complete:
                self._superblocks.seal(superblock)
                continue
            for index, generation in sorted(superblock.claims.items()):
                if (number, index) not in self._mine:
                    touched += self._take_over(superblock, superblock.block(index), generation)
        self._superblocks.tidy()
        self._writer.flush()
        return touched + len(self._pool)

    def _take_over(self, superblock: Superblock, block: Block, generation: int) -> int:
        undone = self._again.trials(superblock.undone(block))
        if not undone:
            return 0
        holder = self._superblocks.holder(block, generation)
        dead = self._deaths.dead(holder)
        claim = block.first, generation
        if not dead and not self._deaths.abandoned(holder, claim, undone):
            return 0
        if not self._superblocks.claim(block, generation + 1, self._worker):
            return 0
        self._writer.note("take-over", f"trials {undone[0]} to {undone[-1]} of worker {holder}")
        return self._hold(superblock, block, generation + 1)

    def reconcile(self, *, whole: bool = False) -> int:
        """Accept every end record of the journals that has no mark: always the *whole*."""
        del whole
        self._writer.flush()
        return self.learn()

    def learn(self) -> int:
        """Do what `reconcile` does, leave the waiting marks, and remember what is said of other trials."""
        self._superblocks.refresh()
        self._look_for_retries()
        self._unlearned = False
        settled = recovery.settled(self._superblocks, self._again, self._plan.trials)
        state = rebuild.state(self._layout, settled)
        self._known = {number: entry for number, entry in state.open.items() if number not in state.results}
        return recovery.adopt(self._superblocks, recovery.at_places(state.results, self._again))

    # -- what is known
    def owns(self, number: int, attempt: int) -> bool:
        """Return whether the block of trial *number* is this worker's and the trial has no result."""
        del attempt
        if not self._holds(number):
            return False
        return not self._has_result(number)

    def _has_result(self, number: int) -> bool:
        """Return whether trial *number* has a mark at its place, which is not sealed."""
        place = self._again.place(number)
        return os.path.lexists(self._layout.superblock(place // SUPERBLOCK) / f"d{place}")

    def reserved(self) -> dict[int, int]:
        """Return the trials of own blocks that were not handed out."""
        return {number: self._before[number].attempt + 1 for number in self._pool}

    def counts(self) -> tuple[int, int]:
        """Return (trials, final trials)."""
        self._look_for_retries()
        numbers = self._superblocks.refresh()
        found = (self._superblocks.look(number) for number in numbers)
        done = sum(len(superblock.done) for superblock in found if superblock is not None)
        # Of the places of a trial all but the last have ended.
        return self._plan.trials, self._superblocks.sealed_trials + done - self._again.count

    def anything_open(self) -> bool:
        """Return whether a trial is not final."""
        trials, finals = self.counts()
        return finals < trials

    def left(self) -> int:
        """Return how many trials are not final, without those behind gates."""
        trials, finals = self.counts()
        return trials - finals

    def pending_estimate(self) -> int:
        """Return about how many trials are in blocks that nobody claimed."""
        at = self._at
        free = len(at.free) * at.size if at is not None else 0
        behind = at.number + 1 if at is not None else max((*self._full, self._cursor - 1)) + 1
        return free + len(self._pool) + self._superblocks.places_from(behind)

    def contradiction(self, held: Mapping[int, int]) -> str:
        """Return nothing: no lock is used."""
        del held
        return ""

    def let_go(self) -> None:
        """Forget the reserved trials that others took over or ended."""
        pool = set(self._pool)
        for mine in list(self._mine.values()):
            reserved = pool.intersection(self._again.trials(range(mine.block.first, mine.block.end)))
            for number in self._lost(mine, reserved) if reserved else ():
                self._drop(number)

    def _lost(self, mine: _Mine, reserved: set[int]) -> set[int]:
        """Return those of the *reserved* trials of a block that this worker shall not run."""
        if self._superblocks.taken_over(mine.block, mine.generation):
            return reserved
        if mine.generation == 1:
            # Nobody else ever had them.
            return set()
        superblock = self._superblocks.look(mine.block.superblock)
        return (
            reserved.intersection(self._again.trials(superblock.done)) if superblock is not None else reserved
        )

    def close(self) -> None:
        """Nothing is kept open."""
