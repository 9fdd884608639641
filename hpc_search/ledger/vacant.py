"""Blocks that nobody claimed, and claiming one of them by its name."""

from __future__ import annotations

import random
from typing import Final

from hpc_search.ledger.gates import Gates
from hpc_search.ledger.retries import Known
from hpc_search.ledger.superblocks import SUPERBLOCK, Block, Superblock, Superblocks

#: Claims lost to others before the superblock is listed again.
_LOSSES: Final = 3
#: Where order matters, a lost claim is followed by one of the first so many, twice as many each time.
_NEAR: Final = 4


class Vacant:
    """The blocks of a run that one worker may claim first, in order."""

    def __init__(
        self, superblocks: Superblocks, gates: Gates, worker: str, *, in_order: bool = False
    ) -> None:
        """Claim for *worker*; *in_order* as far as others let it, where later trials may be left out."""
        self._in_order = in_order
        self._superblocks = superblocks
        self._gates = gates
        self._worker = worker
        self._again = Known()
        self._cursor = 0
        self._full: set[int] = set()
        #: Superblocks whose free blocks are all behind gates, and what was closed then.
        self._passed: set[int] = set()
        self._closed = gates.closed
        self._at: Superblock | None = None

    def know(self, again: Known) -> None:
        """Take in which trials run again, and at which places."""
        self._again = again

    def claim(self, size: int) -> tuple[Superblock, Block] | None:
        """Claim the first block that may be claimed, or None; new ones are of *size* trials."""
        nothing = self._nothing_in()
        for number in self._superblocks.numbers(self._cursor):
            if self._superblocks.sealed(number):
                self._cursor += number == self._cursor
            elif number not in nothing and not self._may_open(number):
                self._passed.add(number)
            elif number not in nothing:
                found = self._claim_in(number, size)
                if found is not None:
                    return found
        return None

    def _claim_in(self, number: int, size: int) -> tuple[Superblock, Block] | None:
        """Claim a free block of superblock *number*: the first one, or another where others are at it too."""
        superblock = self._at
        if superblock is None or superblock.number != number:
            superblock = self._superblocks.open(number, size)
        losses = 0
        while superblock is not None and (free := self._free(superblock)):
            near = free[: _NEAR << losses] if self._in_order else free
            index = random.choice(near) if losses else free[0]
            block = superblock.block(index)
            superblock.claims[index] = 1
            if self._superblocks.claim(block, 1, self._worker):
                self._at = superblock
                return superblock, block
            losses += 1
            if losses % _LOSSES == 0:
                superblock = self._superblocks.open(number, size)
        self._at = None
        superblock = self._superblocks.look(number)
        if superblock is not None and not superblock.free:
            self._full.add(number)
            if superblock.complete:
                self._superblocks.seal(superblock)
        elif superblock is not None:
            self._passed.add(number)
        return None

    def _nothing_in(self) -> set[int]:
        """Return the superblocks in which nothing can be claimed now."""
        if self._gates.closed is not self._closed:
            self._closed = self._gates.closed
            self._passed.clear()
        return self._full | self._passed if self._passed else self._full

    # -- gates
    def _may_open(self, number: int) -> bool:
        """Return whether not all of superblock *number* is behind gates."""
        if not self._gates.closed:
            return True
        places = range(*self._superblocks.span(number))
        return not all(map(self._gates.shut, self._again.trials(places)))

    def _free(self, superblock: Superblock) -> list[int]:
        """Return the blocks of *superblock* that nobody claimed, without those behind gates."""
        if not self._gates.closed:
            return superblock.free
        return [index for index in superblock.free if not self.shut(superblock.block(index))]

    def shut(self, block: Block) -> bool:
        """Return whether *block* may not be claimed now."""
        return any(map(self._gates.shut, self._again.trials(range(block.first, block.end))))

    # -- what is known
    def any_in(self, number: int) -> bool:
        """Return whether blocks of superblock *number* were free when this worker last claimed there."""
        return self._at is not None and self._at.number == number and bool(self._at.free)

    def estimate(self) -> int:
        """Return about how many trials can be claimed."""
        at = self._at
        free = len(self._free(at)) * at.size if at is not None else 0
        behind = at.number + 1 if at is not None else max((*self._nothing_in(), self._cursor - 1)) + 1
        first = behind * SUPERBLOCK
        closed = sum(max(0, one.stop - max(one.start, first)) for one in self._gates.closed)
        return free + self._superblocks.places_from(behind) - closed
