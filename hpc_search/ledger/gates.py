"""Which trials of a plan may not be claimed now: of blocks that wait, or whose search stopped.

ledger/stages/NNN.json says what became of a block, ledger/stopped/NN.json that a search of several stopped by
itself. Each is published once. A plan of one block that waits for nothing is never looked up. A worker for
some folds alone claims no trial of another one: that is its own affair, and in no file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from hpc_search import durable
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.ledger.names import listed
from hpc_search.records import checked
from hpc_search.records.plan import Block, Plan
from hpc_search.records.stages import Opened, StoppedPart

_NAME: Final = re.compile(r"(\d{2,})\.json")
_UNREADABLE: Final = "`hpc-search fsck RUN --repair` sets it aside, and it is made again"


class Gates:
    """What may be claimed of one run, as last looked up.

    Attributes:
        closed: Trials that may not be claimed now, ascending and apart.
        waiting: Those of them that may be once other trials have ended: their blocks wait.
        damaged: Positions of blocks whose record does not verify; they stay closed.
        folds: The folds whose trials alone may be claimed, () for all.
    """

    def __init__(self, layout: Layout, plan: Plan, folds: Sequence[int] = ()) -> None:
        """Look at the run at *layout*, for whoever works on *folds* alone."""
        self._layout = layout
        self._blocks = plan.blocks
        #: Numbers from here on are of a newer plan.
        self.end = plan.trials
        self._parts = [part.name for part in plan.search.parts]
        #: Whether blocks may wait; whether one of several searches may stop.
        self._staged = len(self._parts) > 1 or any(block.needs is not None for block in plan.blocks)
        self._opened: dict[int, Opened] = {}
        self._seen: tuple[frozenset[int], frozenset[int]] | None = None
        self._shut_to_all: tuple[range, ...] = ()
        self.folds = tuple(folds)
        self._others = _joined(_of_other_folds(plan.blocks, folds)) if folds else ()
        self.closed: tuple[range, ...] = self._others
        self.waiting: tuple[range, ...] = ()
        self.damaged: frozenset[int] = frozenset()
        self.refresh()

    def refresh(self) -> None:
        """Look what was decided since."""
        if not self._staged:
            return
        blocks = _numbers(listed(self._layout.stages))
        stopped = _numbers(listed(self._layout.stopped_parts)) if len(self._parts) > 1 else frozenset[int]()
        if (blocks, stopped) == self._seen and not self.damaged:
            return
        known = {number: self._opened.get(number) or self._read(number) for number in sorted(blocks)}
        self._opened = {number: one for number, one in known.items() if one is not None}
        self.damaged = frozenset(blocks - self._opened.keys())
        self._seen = blocks, stopped
        self.waiting = self._where(self._waits)
        names = {self._parts[part] for part in stopped if part < len(self._parts)}
        shut = self._where(lambda place: self._waits(place) or self._blocks[place].part in names)
        self._shut_to_all = shut
        self.closed = _in_order(shut, self._others)

    def _read(self, number: int) -> Opened | None:
        path = self._layout.stage(number)
        try:
            return checked.decode(durable.read_bytes(path), Opened, str(path), _UNREADABLE)
        except (FileNotFoundError, DamagedError):
            return None

    def _where(self, wanted: Callable[[int], bool]) -> tuple[range, ...]:
        blocks = (block for place, block in enumerate(self._blocks) if wanted(place))
        return _joined(range(block.first, block.first + block.trials) for block in blocks)

    def _waits(self, place: int) -> bool:
        undecided = self._blocks[place].needs is not None and place not in self._opened
        return undecided or place in self.damaged

    # -- what is known
    @property
    def kept_back(self) -> tuple[range, ...]:
        """Trials that no worker of now can end: of blocks that wait, and of other folds."""
        return _in_order(self.waiting, self._others)

    def shut(self, number: int) -> bool:
        """Return whether trial *number* may not be claimed now."""
        return number >= self.end or any(number in one for one in self.closed)

    def claimable(self, first: int, end: int) -> Sequence[range]:
        """Return what is not closed of the trials *first* to *end* - 1 of the plan, in order."""
        return self._between(self.closed, first, end)

    def claimable_by_all(self, first: int, end: int) -> Sequence[range]:
        """Return the same for those who work on all folds."""
        return self._between(self._shut_to_all, first, end)

    def _between(self, closed: tuple[range, ...], first: int, end: int) -> Sequence[range]:
        found: list[range] = []
        for one in closed:
            found.append(range(first, min(one.start, end, self.end)))
            first = max(first, one.stop)
        found.append(range(first, min(end, self.end)))
        return [part for part in found if part]

    def lowest_since(self, before: tuple[range, ...]) -> int | None:
        """Return the lowest trial that may be claimed now and could not when *before* was closed."""
        found = (free.start for one in before for free in self.claimable(one.start, one.stop))
        return next(found, None)

    def opened(self, place: int) -> Opened | None:
        """Return what became of the block at position *place* of the plan, None where that is open."""
        return self._opened.get(place)

    # -- what is decided
    def publish(self, record: Opened) -> bool:
        """Publish what became of a block; return whether this call did it, else another one's holds."""
        self._layout.stages.mkdir(mode=0o700, exist_ok=True)
        durable.fsync_dir(self._layout.ledger)
        published = durable.publish(self._layout.stage(record.block), checked.encode(record))
        self.refresh()
        return published

    def stop_part(self, part: int, why: str) -> bool:
        """Stop the search at position *part* of the plan's; return whether this call did it."""
        self._layout.stopped_parts.mkdir(mode=0o700, exist_ok=True)
        durable.fsync_dir(self._layout.ledger)
        record = StoppedPart(part=part, why=why)
        published = durable.publish(self._layout.stopped_part(part), checked.encode(record))
        self.refresh()
        return published


def start_parts(layout: Layout) -> None:
    """Take back that searches stopped by themselves."""
    for name in listed(layout.stopped_parts):
        if _NAME.fullmatch(name):
            (layout.stopped_parts / name).unlink(missing_ok=True)


def _numbers(names: list[str]) -> frozenset[int]:
    return frozenset(int(match[1]) for match in map(_NAME.fullmatch, names) if match is not None)


def _of_other_folds(blocks: Sequence[Block], folds: Sequence[int]) -> Iterator[range]:
    """Yield the trials of *blocks* that are of none of the *folds*, in order."""
    for block in blocks:
        each = block.trials // max(1, len(block.folds))
        for place, fold in enumerate(block.folds or (None,)):
            if fold not in folds:
                yield range(block.first + place * each, block.first + (place + 1) * each)


def _in_order(*several: tuple[range, ...]) -> tuple[range, ...]:
    """Return the trials of all as few ranges, in order."""
    return _joined(sorted((one for parts in several for one in parts), key=lambda one: one.start))


def _joined(parts: Iterable[range]) -> tuple[range, ...]:
    """Return the trials of *parts*, which are in order, as few ranges."""
    found: list[range] = []
    for trials in parts:
        if found and trials.start <= found[-1].stop:
            before = found.pop()
            found.append(range(before.start, max(before.stop, trials.stop)))
        elif trials:
            found.append(trials)
    return tuple(found)
