"""Claiming by exclusively created names: the same guarantees where locks or caches cannot be trusted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

from hpc_search.layout import Layout
from hpc_search.ledger import owning, placing, rebuild, recovery, retries
from hpc_search.ledger.book import Mark, Taken, Writer, accepted_line, superseded
from hpc_search.ledger.deaths import Deaths
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.holdings import Holdings
from hpc_search.ledger.superblocks import SUPERBLOCK, Accepted, Block, Superblock, Superblocks
from hpc_search.ledger.vacant import Vacant
from hpc_search.records import index as codec
from hpc_search.records import journal as lines
from hpc_search.records.index import Entry
from hpc_search.records.plan import Plan, PlannedTrial

#: Most trials a claim takes: whoever dies with them keeps them from others until that is noticed.
_MOST: Final = 32


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
        self._held = Holdings(self._superblocks)
        self._vacant = Vacant(
            self._superblocks, gates, worker, in_order=any(block.racing for block in plan.blocks)
        )
        #: What the journals said, when this worker started, of trials that are not final.
        self._known: Mapping[int, Entry] = {}
        self._look_for_retries()

    def _look_for_retries(self) -> bool:
        """Take in the retries that are new; return whether there are some."""
        if self._plan.added:
            placing.place(self._layout, self._plan, self._writer)
        if tuple(retries.names(self._layout)) == self._again.numbers:
            return False
        self._again = retries.read(self._layout)
        self._superblocks.extend(self._again.places_of(self._plan.trials))
        self._held.know(self._again)
        self._vacant.know(self._again)
        self._unlearned = True
        return True

    # -- claiming
    def take(self, marks: Sequence[Mark], limit: int, only: int | None) -> Taken:
        """Write *marks*, then hand out up to *limit* trials of own blocks; claim one where none is left."""
        records = self.settle(marks)
        self._gates.refresh()
        if only is not None:
            if not self._gates.shut(only):
                self._claim_of(only)
            wanted = [only] if only in self._in_hand() and not self._has_result(only) else []
        else:
            # What was owned before this call may have been taken over, or ended by a zombie.
            self.let_go()
            wanted = self._hand_out(limit)
        for number in wanted:
            self._held.pool.remove(number)
        return Taken([(number, self._held.before[number]) for number in wanted], records)

    def _hand_out(self, limit: int) -> list[int]:
        """Return up to *limit* trials of own blocks, claim one where there is none."""
        size = 1 if self._plan.flexible else max(1, min(limit, _MOST))
        while True:
            found = list(islice(self._in_hand(), limit))
            # Once trials were skipped, one may have ended that nobody else ever owned.
            for number in filter(self._has_result, found) if os.path.exists(self._skipped) else ():
                self._held.drop(number)
            wanted = [number for number in found if number in self._held.before]
            if wanted or not (found or (self.waits <= 0 and self._claim_block(size))):
                # A block that was inherited may have nothing to hand out yet.
                return wanted

    def _in_hand(self) -> Iterable[int]:
        """Return the trials of own blocks that can be handed out."""
        if not self._gates.closed:
            return self._held.pool
        return (number for number in self._held.pool if not self._gates.shut(number))

    @property
    def waits(self) -> float:
        """Seconds until blocks may be claimed."""
        return self._not_before - time.monotonic()

    def _claim_block(self, size: int) -> bool:
        if self._unlearned:
            # A loser of a failure that was taken back may have a result.
            self.learn()
        found = self._vacant.claim(size)
        if found is None:
            return self._look_for_retries() and self._claim_block(size)
        self._hold(*found, 1)
        return True

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
            if self._held.of(number) is not None and not self._has_result(number):
                known = self._known.get(number, Entry())
                self._held.before[number] = known._replace(state=codec.RUNNING, attempt=attempt)

    def take_away(self, numbers: Sequence[int]) -> list[tuple[int, Entry]]:
        """Return those of the trials *numbers* that have no result: whose mark comes first has ended them."""
        self.learn()
        done = recovery.settled(self._superblocks, self._again, self._plan.trials)
        wanted = [number for number in numbers if not done[number] and not self._has_result(number)]
        paused = dict(self.take_paused(wanted, to_end=True))
        known = {**self._again.entries, **self._known, **paused}
        return [(number, known.get(number, Entry())) for number in wanted]

    def take_paused(self, numbers: Sequence[int], *, to_end: bool) -> list[tuple[int, Entry]]:
        """Own those of the trials *numbers* that are paused, to run or to end them; return what they were."""
        self._look_for_retries()
        taken: list[tuple[int, Entry]] = []
        for number in numbers if self.waits <= 0 else ():
            entry = self._take_paused(number)
            if entry is not None:
                self._held.before[number] = owning.ending(entry) if to_end else entry
                taken.append((number, self._held.before[number]))
        return taken

    def _take_paused(self, number: int) -> Entry | None:
        """Own trial *number* by the next generation of its block where it is paused; return how it stood."""
        place = self._again.place(number)
        superblock = self._superblocks.open(place // SUPERBLOCK, 1)
        if superblock is None or place in superblock.done:
            return None
        block = superblock.block_of(place)
        generation = superblock.claims.get(block.place, 0)
        if generation and not superblock.paused(block.place):
            return None
        entry = self._superblocks.paused_entry(block, generation) if generation else None
        if entry is None and (generation or self._unlearned):
            self.learn()
        # Without a name it was paused when claims went by the index, or the name cannot be read.
        entry = entry or self._known.get(number)
        if entry is None or entry.state != codec.PAUSED:
            return None
        if not self._superblocks.claim(block, generation + 1, self._worker):
            return None
        self._held.add(block, generation + 1)
        return entry

    def _hold(self, superblock: Superblock, block: Block, generation: int, kept: Container[int] = ()) -> int:
        """Own *block*: inherit what earlier owners left of it; return how many trials are not final.

        Those that are *kept* are being run by this worker already.
        """
        self._held.add(block, generation)
        undone = [number for number in self._again.trials(superblock.undone(block)) if number not in kept]
        owners = [self._superblocks.holder(block, older) for older in range(1, generation)]
        if generation == 1 and not any(number in self._known for number in undone):
            for number in undone:
                self._held.offer(number, self._again.entry(number))
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
        if entry.state not in (codec.CLAIMED, codec.RUNNING):
            self._offer_or_pause(number, entry)
            return
        self._held.before[number] = entry
        patience = self._plan.search.retry.no_progress
        owner, step = f"{entry.owner:016x}", left.steps.get(number, 0)
        trial = self._trial_of(number)
        self._writer.finish(recovery.given_back(trial, entry, owner, step, patience, self._node))

    def _offer_or_pause(self, number: int, entry: Entry) -> None:
        """Have trial *number*, which stands as in *entry*, handed out; let go of one that waits at a rung."""
        mine = self._held.of(number)
        if entry.state == codec.PAUSED and mine is not None and mine.block.end - mine.block.first == 1:
            block, generation = mine
            while not self._superblocks.pause(block, generation, entry):
                generation += 1
                if not self._superblocks.claim(block, generation, self._worker):
                    break
            self._held.let_go_of(block)
        else:
            # A block of several, from before the plan had trials that may wait: it goes on at once.
            self._held.offer(number, entry)

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
                self._held.drop(mark.number)
            known = accepted_line(mark.number, found.attempt, found.end, found.worker)
            return [known] if found.end == mark.checksum else [known, superseded(mark)]
        before = self._held.before.get(mark.number)
        if before is None or not self._held.holds(mark.number):
            return [superseded(mark)]
        self._offer_or_pause(mark.number, rebuild.end_entry(end, mark.checksum, mark.worker, before))
        return []

    def _seal_complete(self, number: int) -> None:
        """Seal superblock *number* where this worker has ended the last of it that could be claimed."""
        if not self._held.ended(number) or self._vacant.any_in(number):
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
                if (number, index) not in self._held and not superblock.paused(index):
                    touched += self._take_over(superblock, superblock.block(index), generation)
        self._superblocks.tidy()
        self._writer.flush()
        return touched + sum(1 for _ in self._in_hand())

    def _take_over(self, superblock: Superblock, block: Block, generation: int) -> int:
        undone = self._again.trials(superblock.undone(block))
        if not undone or self._vacant.shut(block):
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
        # Who claims by the index yet may end something meanwhile.
        self._unlearned = self.waits > 0
        settled = recovery.settled(self._superblocks, self._again, self._plan.trials)
        state = rebuild.state(self._layout, settled)
        self._known = {number: entry for number, entry in state.open.items() if number not in state.results}
        return recovery.adopt(self._superblocks, recovery.at_places(state.results, self._again))

    # -- what is known
    def owns(self, number: int, attempt: int) -> bool:
        """Return whether the block of trial *number* is this worker's and the trial has no result."""
        del attempt
        if not self._held.holds(number):
            return False
        return not self._has_result(number)

    def _has_result(self, number: int) -> bool:
        """Return whether trial *number* has a mark at its place, which is not sealed."""
        place = self._again.place(number)
        return os.path.lexists(self._layout.superblock(place // SUPERBLOCK) / f"d{place}")

    def reserved(self) -> dict[int, int]:
        """Return the trials of own blocks that were not handed out."""
        return {number: self._held.before[number].attempt + 1 for number in self._held.pool}

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
        self._gates.refresh()
        if not self._gates.closed:
            return trials - finals
        ended = bytearray(recovery.settled(self._superblocks, self._again, self._plan.trials))
        for superblock in filter(None, map(self._superblocks.look, self._superblocks.refresh())):
            for place in superblock.done:
                trial = self._again.trial(place)
                if trial < len(ended):
                    ended[trial] |= place == self._again.place(trial)
        return sum(ended.count(0, one.start, one.stop) for one in self._gates.claimable(0, trials))

    def pending_estimate(self) -> int:
        """Return about how many trials are in blocks that nobody claimed and that are not behind gates."""
        return self._vacant.estimate() + len(self._held.pool)

    def contradiction(self, held: Mapping[int, int]) -> str:
        """Return nothing: no lock is used."""
        del held
        return ""

    def let_go(self) -> None:
        """Forget the reserved trials that others took over or ended."""
        self._held.forget_lost()

    def close(self) -> None:
        """Nothing is kept open."""
