"""What the names in ledger/open say, for those who only read."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import retries, superblocks
from hpc_search.ledger.names import listed, target
from hpc_search.ledger.superblocks import DONE, SEALED, Accepted, Superblocks, parse_accepted
from hpc_search.records.seal import parse_seal

#: Where the number of trials does not matter.
_ANY: Final = 2**62


def accepted(layout: Layout, wanted: Callable[[int], bool] = lambda _: True) -> dict[int, Accepted]:
    """Return trial -> its result by the names in ledger/open, of the trials that are *wanted*."""
    known = retries.read(layout)
    found = at_places(layout, lambda place: wanted(known.trial(place)))
    return {trial: one for place, one in found.items() if known.place(trial := known.trial(place)) == place}


def at_places(layout: Layout, wanted: Callable[[int], bool] = lambda _: True) -> dict[int, Accepted]:
    """Return place -> the result there by the names in ledger/open, of the places that are *wanted*."""
    found: dict[int, Accepted] = {}
    names = listed(layout.open)
    for name in names:
        if name.isdecimal():
            for mark in map(DONE.fullmatch, listed(layout.open / name)):
                if mark is not None and wanted(int(mark[1])):
                    result = parse_accepted(target(layout.open / name / mark[0]))
                    if result is not None:
                        found[int(mark[1])] = result
    for name in listed(layout.open):
        if SEALED.fullmatch(name):
            with suppress(OSError):
                for entry in parse_seal(durable.read_bytes(layout.open / name)):
                    if wanted(entry.trial):
                        found[entry.trial] = Accepted(entry.attempt, entry.worker, entry.end)
    return found


def holders(layout: Layout) -> set[str]:
    """Return the workers that own a block of which not every trial is final."""
    store = Superblocks(layout, _ANY)
    found: set[str] = set()
    for superblock in filter(None, map(store.look, store.refresh())):
        for index, generation in superblock.claims.items():
            block = superblock.block(index)
            if superblock.undone(block) and not superblock.paused(index):
                found.add(store.holder(block, generation))
    return found - {""}


def finals(layout: Layout) -> int:
    """Return how many trials have a result by the marks and the seals."""
    again = retries.read(layout).count
    store = Superblocks(layout, _ANY)
    found = filter(None, map(store.look, store.refresh()))
    # Of the places of a trial all but the last have ended.
    return store.sealed_trials + sum(len(superblock.done) for superblock in found) - again


def has_result(layout: Layout, trial: int) -> bool:
    """Return whether *trial* has a result by the marks and the seals."""
    place = retries.read(layout).place(trial)
    number = place // superblocks.SUPERBLOCK
    mark = layout.superblock(number) / f"d{place}"
    return os.path.lexists(mark) or Superblocks(layout, _ANY).sealed(number)
