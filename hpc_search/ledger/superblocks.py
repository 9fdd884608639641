"""Claims and acceptances as exclusively created names, for mounts whose locks or caches cannot be trusted.

Trials are grouped by number into superblocks of `SUPERBLOCK`, each a directory below ledger/open while it
is worked on. Every name in it is a symbolic link made by one exclusive create, which has one winner on
every file system measured, and whose target is the content:

    size        -> trials a claim, fixed by whoever opened the superblock
    cBLOCK.GEN  -> worker that claimed the block; a take-over is the next generation
    pBLOCK.GEN  -> the entry of its one trial, which that generation left paused: it owns it no more
    dTRIAL      -> ATTEMPT.WORKER.CHECKSUM of the end record that is the trial's result: the first one wins

When all its trials are final, their results are published as ``sealed.FIRST-END`` and the directory goes;
neighbouring seals are merged, so that names stay few.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from hpc_search import durable
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.ledger.names import ABSENT, create, created, listed, looks, target
from hpc_search.records.index import PAUSED, Entry, encode_entry, parse_entry
from hpc_search.records.seal import SealEntry, encode_seal, parse_seal

#: Trials of a superblock; open ones are about as few as the trials that run are far apart.
SUPERBLOCK: Final = 128
#: Neighbouring seals of one size that are merged into one.
_MERGE: Final = 16
SEALED: Final = re.compile(r"sealed\.(\d{8})-(\d{8})")
_CLAIM: Final = re.compile(r"([cp])(\d+)\.(\d+)")
DONE: Final = re.compile(r"d(\d+)")


class Accepted(NamedTuple):
    """The result of a trial: the end record of *attempt* by *worker* whose checksum is *end*."""

    attempt: int
    worker: str
    end: str


class Block(NamedTuple):
    """Trials *first* to *end* - 1, claimed together: block *place* of superblock *superblock*."""

    superblock: int
    place: int
    first: int
    end: int


@dataclass(slots=True)
class Superblock:
    """What a listing of an open superblock showed."""

    number: int
    first: int
    end: int
    size: int
    #: Highest generation of each claimed block.
    claims: dict[int, int] = field(default_factory=dict)
    #: Highest generation of each block that left it paused.
    pauses: dict[int, int] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)

    @property
    def blocks(self) -> int:
        """Number of its blocks."""
        return -(-(self.end - self.first) // self.size)

    @property
    def free(self) -> list[int]:
        """Blocks that nobody claimed."""
        return [index for index in range(self.blocks) if index not in self.claims]

    def paused(self, index: int) -> bool:
        """Return whether whoever had block *index* last left it paused."""
        return index in self.pauses and self.pauses[index] == self.claims.get(index)

    @property
    def complete(self) -> bool:
        """Whether all its trials are final."""
        return len(self.done) == self.end - self.first

    def block(self, index: int) -> Block:
        """Return block *index*."""
        first = self.first + index * self.size
        return Block(self.number, index, first, min(first + self.size, self.end))

    def block_of(self, trial: int) -> Block:
        """Return the block that *trial* is in."""
        return self.block((trial - self.first) // self.size)

    def undone(self, block: Block) -> list[int]:
        """Return the trials of *block* that are not final."""
        return [trial for trial in range(block.first, block.end) if trial not in self.done]


class Superblocks:
    """The directory ledger/open of one run."""

    def __init__(self, layout: Layout, trials: int) -> None:
        """Look at the run at *layout* with *trials* trials."""
        self._layout = layout
        self._trials = trials
        self._again: list[range] = []
        self._sealed: set[tuple[int, int]] = set()
        self.refresh()

    def extend(self, again: Iterable[range]) -> None:
        """Know the places of trials that run *again* (see `retries`): they come after those of all trials."""
        self._again = list(again)

    def _end(self, first: int) -> int:
        """Return the end of the superblock whose first place is *first*."""
        ends = (places.stop for places in (range(self._trials), *self._again) if first in places)
        return min(first + SUPERBLOCK, next(ends, first + SUPERBLOCK))

    # -- seals
    def refresh(self) -> list[int]:
        """Read ledger/open; return the numbers of the open superblocks, in order."""
        names = listed(self._layout.open)
        self._sealed = {
            (int(match[1]), int(match[2])) for match in map(SEALED.fullmatch, names) if match is not None
        }
        return sorted(int(name) for name in names if name.isdecimal() and not self.sealed(int(name)))

    def sealed(self, superblock: int) -> bool:
        """Return whether *superblock* was seen to be sealed."""
        first = superblock * SUPERBLOCK
        return any(low <= first < high for low, high in self._sealed)

    @property
    def sealed_trials(self) -> int:
        """How many trials are in seals (a merged one and its parts count once)."""
        covered, at = 0, 0
        for first, end in sorted(self._sealed):
            covered += max(0, end - max(first, at))
            at = max(at, end)
        return covered

    def settled(self) -> bytes:
        """Return a byte a trial, 1 where a seal has its result."""
        found = bytearray(self._trials)
        for first, end in self._sealed:
            found[first:end] = b"\1" * (min(end, self._trials) - first)
        return bytes(found)

    def numbers(self, first: int) -> Iterator[int]:
        """Yield the superblocks of the run from number *first* on."""
        for places in (range(self._trials), *self._again):
            yield from range(max(first, places.start // SUPERBLOCK), -(-places.stop // SUPERBLOCK))

    @staticmethod
    def number(place: int) -> int:
        """Return the number of the superblock with *place*."""
        return place // SUPERBLOCK

    def places_from(self, number: int) -> int:
        """Return how many places there are from superblock *number* on."""
        first = number * SUPERBLOCK
        known = (range(self._trials), *self._again)
        return sum(max(0, places.stop - max(first, places.start)) for places in known)

    def span(self, number: int) -> tuple[int, int]:
        """Return the first place of superblock *number* and the one after its last."""
        return number * SUPERBLOCK, self._end(number * SUPERBLOCK)

    def __contains__(self, number: int) -> bool:
        """Return whether the run has superblock *number*."""
        return any(number * SUPERBLOCK in places for places in (range(self._trials), *self._again))

    # -- one superblock
    def open(self, number: int, size: int) -> Superblock | None:
        """Return superblock *number*, opened for claims of *size* trials if new; None once sealed.

        Raises:
            DamagedError: Something else has the name of its size.
        """
        directory = self._layout.superblock(number)
        for _ in looks():
            made = True
            try:
                os.mkdir(directory, 0o700)
            except FileExistsError:
                made = False
            found = self.look(number)
            if found is not None:
                return found
            # A directory without a size is new, or an old view made it again after the seal was published:
            # a listing after an own change is fresh, and the size is given only where there is no seal.
            self.refresh()
            if self.sealed(number):
                if made:
                    with suppress(OSError):
                        os.rmdir(directory)
                return None
            try:
                create(directory / "size", str(max(1, min(size, SUPERBLOCK))))
            except OSError as error:
                # The directory may have gone again.
                if error.errno not in ABSENT:
                    raise
        raise _damaged(directory / "size", "a number of trials")

    def look(self, number: int) -> Superblock | None:
        """Return superblock *number* as it is now; None where it is not open."""
        directory = self._layout.superblock(number)
        size = target(directory / "size")
        if size is None or not size.isdecimal() or int(size) < 1:
            return None
        first = number * SUPERBLOCK
        found = Superblock(number, first, self._end(first), int(size))
        for name in listed(directory):
            if claim := _CLAIM.fullmatch(name):
                known = found.claims if claim[1] == "c" else found.pauses
                block, generation = int(claim[2]), int(claim[3])
                known[block] = max(generation, known.get(block, 0))
            elif done := DONE.fullmatch(name):
                found.done.add(int(done[1]))
        return found

    def claim(self, block: Block, generation: int, worker: str) -> bool:
        """Claim *block* for *worker* as *generation*; return whether this call won."""
        name = self._claim_path(block, generation)
        try:
            won = create(name, worker)
        except OSError as error:
            if error.errno in ABSENT:
                return False
            raise
        if won:
            # The directory may have been made again after the superblock was sealed.
            self.refresh()
        return won and not self.sealed(block.superblock)

    def holder(self, block: Block, generation: int) -> str:
        """Return the worker that holds *generation* of *block*, "" where that cannot be read."""
        return target(self._claim_path(block, generation)) or ""

    def taken_over(self, block: Block, generation: int) -> bool:
        """Return whether a generation after *generation* exists, or the superblock is gone."""
        return os.path.lexists(self._claim_path(block, generation + 1)) or not os.path.lexists(
            self._claim_path(block, generation)
        )

    def pause(self, block: Block, generation: int, entry: Entry) -> bool:
        """Say that *generation* of *block* owns it no more, and that its one trial waits as in *entry*.

        Returns:
            Whether it is said so now; False where the name says something else, from before a power cut.
        """
        try:
            return create(self._pause_path(block, generation), encode_entry(entry).hex())
        except (FileNotFoundError, NotADirectoryError):
            return True

    def paused_entry(self, block: Block, generation: int) -> Entry | None:
        """Return how *generation* left the trial of *block* paused, None where that cannot be read."""
        return parse_paused(target(self._pause_path(block, generation)))

    def _pause_path(self, block: Block, generation: int) -> Path:
        return self._layout.superblock(block.superblock) / f"p{block.place}.{generation}"

    def _claim_path(self, block: Block, generation: int) -> Path:
        return self._layout.superblock(block.superblock) / f"c{block.place}.{generation}"

    # -- results
    def accept(self, trial: int, wanted: Accepted) -> Accepted:
        """Make *wanted* the result of *trial* unless it has one; return the result.

        Raises:
            DamagedError: Its name is taken by something that is no result.
        """
        number = trial // SUPERBLOCK
        path = self._layout.superblock(number) / f"d{trial}"
        for _ in looks():
            with suppress(FileNotFoundError, NotADirectoryError):
                if created(path, ".".join(map(str, wanted))):
                    return wanted
                found = parse_accepted(target(path))
                if found is not None:
                    return found
            self.refresh()
            if self.sealed(number):
                return self.sealed_result(trial) or wanted
            self.open(number, 1)
        raise _damaged(path, f"a result of trial {trial}")

    def sealed_result(self, trial: int) -> Accepted | None:
        """Return the result of *trial* from the seals, None where they do not hold it."""
        for first, end in sorted(self._sealed):
            if first <= trial < end:
                with suppress(OSError):
                    data = durable.read_bytes(self._layout.superblock_seal(first, end))
                    for entry in parse_seal(data):
                        if entry.trial == trial:
                            return Accepted(entry.attempt, entry.worker, entry.end)
        return None

    def seal(self, superblock: Superblock) -> bool:
        """Publish the results of *superblock*, all of whose trials are final, and take its names away."""
        directory = self._layout.superblock(superblock.number)
        found = {trial: parse_accepted(target(directory / f"d{trial}")) for trial in superblock.done}
        entries = [entry_at(trial, one) for trial, one in found.items() if one is not None]
        if len(entries) < superblock.end - superblock.first:
            # Another one seals it now, or a mark cannot be read at the moment.
            return False
        self.publish_seal(superblock.first, superblock.end, entries)
        durable.take_away(directory)
        return True

    def tidy(self) -> None:
        """Take away directories that a worker with an old view opened again after they were sealed."""
        for name in listed(self._layout.open):
            if name.isdecimal() and self.sealed(int(name)):
                durable.take_away(self._layout.open / name)

    def publish_seal(self, first: int, end: int, entries: Iterable[SealEntry]) -> None:
        """Publish that the trials *first* to *end* - 1 are final, and merge the seals beside it."""
        durable.publish(self._layout.superblock_seal(first, end), encode_seal(entries))
        self._sealed.add((first, end))
        self._merge(end - first)

    def _merge(self, size: int) -> None:
        """Merge aligned neighbours of *size* trials where all of them are there."""
        if size % SUPERBLOCK:
            return
        for first in sorted({low // (size * _MERGE) * size * _MERGE for low, _ in self._sealed}):
            parts = [(low, low + size) for low in range(first, first + size * _MERGE, size)]
            if all(part in self._sealed for part in parts):
                self._merge_parts(parts)
                self._merge(size * _MERGE)
                return

    def _merge_parts(self, parts: list[tuple[int, int]]) -> None:
        entries: list[SealEntry] = []
        for first, end in parts:
            with suppress(FileNotFoundError):
                entries += parse_seal(durable.read_bytes(self._layout.superblock_seal(first, end)))
        first, end = parts[0][0], parts[-1][1]
        if len(entries) == end - first:
            # Where a part is gone another one has merged them.
            durable.publish(self._layout.superblock_seal(first, end), encode_seal(entries))
            self._sealed.add((first, end))
        for part in parts:
            with suppress(OSError):
                if (first, end) in self._sealed:
                    self._layout.superblock_seal(*part).unlink(missing_ok=True)
                    self._sealed.discard(part)


def _damaged(path: Path, expected: str) -> DamagedError:
    return DamagedError(f"{path} does not hold {expected}", hint="`fsck RUN --repair` sets it aside")


def entry_at(trial: int, found: Accepted) -> SealEntry:
    """Return the entry of a seal in ledger/open: its ``trial`` is a place."""
    return SealEntry(trial=trial, attempt=found.attempt, worker=found.worker, end=found.end)


def parse_accepted(text: str | None) -> Accepted | None:
    """Return the result that a mark names, None where it does not hold one."""
    parts = (text or "").split(".")
    if len(parts) != 3 or not parts[0].isdecimal():
        return None
    return Accepted(int(parts[0]), parts[1], parts[2])


def parse_paused(text: str | None) -> Entry | None:
    """Return the entry of a paused trial that a name holds, None where it does not hold one."""
    with suppress(ValueError, struct.error):
        entry = parse_entry(bytes.fromhex(text or ""))
        return entry if entry is not None and entry.state == PAUSED else None
    return None
