"""One fold by the names of rows or groups: their hashes, or a seeded shuffle, cut at shares."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from hpc_search.errors import UsageError
from hpc_search.splits.folds import Fold
from hpc_search.splits.table import Table

Shares = tuple[float, float, float]
_SIDES = ("train", "val", "test")


def by_hash(table: Table, shares: Shares, seed: int) -> Fold:
    """Return the fold of *shares* of the names in the order of the md5 of "name_seed".

    Names are the groups, or the ids where there are none. Names do not move each other: the order of the
    rows, and of the names, says nothing.

    Raises:
        UsageError: A side is empty.
    """
    names = _names(table)
    order = sorted(set(names), key=lambda name: int(_md5(f"{name}_{seed}"), 16))
    return _fold(table, names, order, shares, "hash")


def by_shuffle(table: Table, shares: Shares, seed: int) -> Fold:
    """Return the fold of *shares* of the names as numpy's RandomState(seed) shuffles them.

    Names are the groups, or the ids where there are none, by first appearance.

    Raises:
        UsageError: A side is empty.
    """
    import numpy as np

    names = _names(table)
    unique = list(dict.fromkeys(names))
    places = np.arange(len(unique))
    np.random.RandomState(seed).shuffle(places)
    return _fold(table, names, [unique[place] for place in places], shares, "shuffle")


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _names(table: Table) -> Sequence[object]:
    return table.ids if table.groups is None else table.groups


def _fold(table: Table, names: Sequence[object], order: Sequence[object], shares: Shares, kind: str) -> Fold:
    sizes = _sizes(len(order), shares)
    if empty := _empty(sizes, shares):
        what = "ids" if table.groups is None else "groups"
        found = ", ".join(f"{side} {size}" for side, size in zip(_SIDES, sizes, strict=True))
        enough = next(
            n
            for n in range(1, math.ceil(3 / min(filter(None, shares))) + 2)
            if not _empty(_sizes(n, shares), shares)
        )
        raise UsageError(
            f"folds of kind {kind}: {len(order)} {what} with shares {_words(shares)} give {found}: "
            f"{' and '.join(empty)} would be empty",
            hint=f"change the shares, or bring at least {enough} {what}",
        )
    side = dict(zip(order, (i for i, size in enumerate(sizes) for _ in range(size)), strict=True))
    rows: list[list[int]] = [[], [], []]
    for row, name in enumerate(names):
        rows[side[name]].append(row)
    train, val, test = (tuple(own) for own in rows)
    return Fold(0, train, val, test)


def _sizes(count: int, shares: Shares) -> tuple[int, int, int]:
    """Return how many names each side gets: whole parts, the rest to the last side that has a share."""
    train = int(count * shares[0])
    val = int(count * shares[1]) if shares[2] else count - train
    return train, val, count - train - val


def _empty(sizes: Shares, shares: Shares) -> list[str]:
    return [side for side, size, share in zip(_SIDES, sizes, shares, strict=True) if share and not size]


def _words(shares: Shares) -> str:
    return "/".join(f"{share:g}" for share in shares)
