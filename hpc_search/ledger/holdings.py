"""The blocks of trials that one worker owns by their names, and what it has not handed out of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from hpc_search.ledger.retries import Known
from hpc_search.ledger.superblocks import Block, Superblocks
from hpc_search.records.index import Entry


class Mine(NamedTuple):
    """A block that this worker owns."""

    block: Block
    generation: int


class Holdings:
    """What one worker owns.

    Attributes:
        before: What its trials were before its next attempt at them.
        pool: Those that can be handed out, the oldest first.
    """

    def __init__(self, superblocks: Superblocks) -> None:
        """Own nothing yet."""
        self._superblocks = superblocks
        self._again = Known()
        self._mine: dict[tuple[int, int], Mine] = {}
        self.before: dict[int, Entry] = {}
        self.pool: deque[int] = deque()

    def know(self, again: Known) -> None:
        """Take in which trials run again, and at which places."""
        self._again = again

    def __contains__(self, block: tuple[int, int]) -> bool:
        """Return whether the *block*, its superblock and its place there, is owned."""
        return block in self._mine

    def add(self, block: Block, generation: int) -> None:
        """Own *block*."""
        self._mine[block.superblock, block.place] = Mine(block, generation)

    def let_go_of(self, block: Block) -> None:
        """Own *block* no more."""
        self._mine.pop((block.superblock, block.place), None)
        for number in self._trials(block):
            self.drop(number)

    def offer(self, number: int, entry: Entry) -> None:
        """Have trial *number*, which stands as in *entry*, handed out."""
        self.before[number] = entry
        if number not in self.pool:
            self.pool.append(number)

    def drop(self, number: int) -> None:
        """Hand trial *number* out no more."""
        self.before.pop(number, None)
        if number in self.pool:
            self.pool.remove(number)

    def of(self, number: int) -> Mine | None:
        """Return the block of trial *number*, None where that is not owned."""
        place = self._again.place(number)
        for mine in self._mine.values():
            if mine.block.first <= place < mine.block.end:
                return mine
        return None

    def holds(self, number: int) -> bool:
        """Return whether the block of trial *number* is still this worker's."""
        mine = self.of(number)
        return mine is not None and not self._superblocks.taken_over(mine.block, mine.generation)

    def ended(self, superblock: int) -> bool:
        """Forget the blocks of *superblock* that ended; return whether none of it is left."""
        mine = [one.block for key, one in self._mine.items() if key[0] == superblock]
        left = [block for block in mine if any(trial in self.before for trial in self._trials(block))]
        for block in mine:
            if block not in left:
                del self._mine[block.superblock, block.place]
        return not left

    def forget_lost(self) -> None:
        """Forget what was not handed out and others took over or ended."""
        pool = set(self.pool)
        for mine in list(self._mine.values()):
            reserved = pool.intersection(self._trials(mine.block))
            for number in self._lost(mine, reserved) if reserved else ():
                self.drop(number)

    def _lost(self, mine: Mine, reserved: set[int]) -> Iterable[int]:
        """Return those of the *reserved* trials of a block that this worker shall not run."""
        if self._superblocks.taken_over(mine.block, mine.generation):
            return reserved
        if mine.generation == 1:
            # Nobody else ever had them.
            return ()
        superblock = self._superblocks.look(mine.block.superblock)
        return reserved if superblock is None else reserved.intersection(self._again.trials(superblock.done))

    def _trials(self, block: Block) -> list[int]:
        return self._again.trials(range(block.first, block.end))
