"""In what the data of a run differ from those that it was planned with, in words."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from hpc_search.errors import PASSING, DamagedError, TemporaryError
from hpc_search.layout import Layout
from hpc_search.planning import listing, manifests
from hpc_search.planning.digests import digest
from hpc_search.records.splits import SplitsIndex

#: What a row says of its sample: its columns but the id, as a manifest has them.
Row = Mapping[str, str]
_RUN: Final = Layout(Path())
_EXAMPLES: Final = 3


def data_difference(layout: Layout, base: Path) -> list[str]:
    """Return in what the data in *base* are not those of the run at *layout*, nothing where they are.

    For workers, before they train: only the digest of the table's file and the sizes of the listed files are
    looked at; the table is read where its digest differs. A table that a function gives is not looked at, as
    no worker runs code of the user, nor is anything where *base* is not there.

    Raises:
        TemporaryError: The data cannot be read now.
        UsageError: The table is not one any more.
    """
    if not layout.splits_index.exists() or not base.is_dir():
        return []
    index = _index_of(layout)
    found: list[str] = []
    if index.data.index:
        found += _of_table(layout, index, base)
    return found + _of_listing(layout, index, base)


def resized(layout: Layout, base: Path) -> list[str]:
    """Return which listed files in *base* are gone or have another size; nothing is read of any of them.

    For `test`, before it may read: all else can only be compared once the test side is open.
    """
    index = _index_of(layout) if layout.splits_index.exists() and base.is_dir() else None
    return _of_listing(layout, index, base) if index is not None else []


def between(planned: Mapping[str, bytes], wanted: Mapping[str, bytes], order: Sequence[object]) -> list[str]:
    """Return in what two splits differ, from all files below splits/; *order* is that of the ids now."""
    found = _of_rows(_rows(planned), _rows(wanted))
    name = _RUN.splits_listing.as_posix()
    old, new = (listing.parse_listing(one[name]) if name in one else {} for one in (planned, wanted))
    found += _of_files(old, {key: new.get(key) for key in old}, None)
    if added := [key for key in new if key not in old]:
        found.append(f"{_count(len(added), 'file')} more: {_few(added)}")
    name = _RUN.splits_file.as_posix()
    if planned.get(name) != wanted.get(name):
        found.append("the file of the folds is another one")
    return found or [_of_order(planned, wanted, order)]


def _of_order(planned: Mapping[str, bytes], wanted: Mapping[str, bytes], order: Sequence[object]) -> str:
    """Return the first of the same rows that stands elsewhere now; *order* is that of all ids.

    Each manifest has its rows in the order of the table as it was.
    """
    sides = [name for name in planned if name.endswith(".csv")]
    places = {str(name): place for place, name in enumerate(order)}
    swapped = [
        (places[after], before, after)
        for name in sides
        for before, after in pairwise(_rows({name: planned[name]}))
        if places.get(after, 0) < places.get(before, 0)
    ]
    if swapped:
        place, before, after = min(swapped)
        where = f"now row {place}, which came after {before}"
        return f"the same rows in another order: the first is {after}, {where}"
    if all(planned[name] == wanted.get(name) for name in sides):
        return "the same rows in another order, or values of another type; each side has the rows that it had"
    return "the folds themselves differ: the code that makes them is another one"


def _index_of(layout: Layout) -> SplitsIndex:
    try:
        return msgspec.json.decode(layout.splits_index.read_bytes(), type=SplitsIndex)
    except msgspec.DecodeError as error:
        hint = f"`hpc-search fsck {layout} --repair` makes it again"
        raise DamagedError(f"{layout.splits_index} does not verify ({error})", hint=hint) from error


def _of_table(layout: Layout, index: SplitsIndex, base: Path) -> list[str]:
    spec = index.data.spec
    path = base / spec.index
    try:
        if digest(path.read_bytes()) == index.data.index:
            return []
    except OSError as error:
        if error.errno in PASSING:
            message = f"{path} cannot be read ({error.strerror})"
            raise TemporaryError(message, hint="again when the file system answers") from error
        return [f"{path} cannot be read ({error.strerror})"]
    # Only here: a worker that finds its data as they were reads no table.
    from hpc_search.planning.data import load_table
    from hpc_search.splits import manifest_csv

    table = load_table(spec, base)
    if manifests.table_digest(table) == index.data.table:
        return []
    names = tuple(index.files)
    now = {names[0]: manifest_csv(table, range(len(table.ids))).encode()}
    return [f"{path}: {words}" for words in _of_rows(_rows(manifests.read(layout, names).files), _rows(now))]


def _of_listing(layout: Layout, index: SplitsIndex, base: Path) -> list[str]:
    if not index.data.listing:
        return []
    planned = listing.parse_listing(layout.splits_listing.read_bytes())
    root = base / index.data.spec.root
    return _of_files(planned, listing.look(planned, root), root)


def _rows(files: Mapping[str, bytes]) -> dict[str, Row]:
    """Return the rows of all manifests in *files* by id."""
    found: dict[str, Row] = {}
    others = {_RUN.splits_listing.as_posix()}
    for name, content in files.items():
        if name.endswith(".csv") and name not in others:
            for row in csv.DictReader(io.StringIO(content.decode(), newline="")):
                found[row.pop("id", "")] = row
    return found


def _of_rows(old: Mapping[str, Row], new: Mapping[str, Row]) -> list[str]:
    found: list[str] = []
    for word, names in (
        ("removed", [name for name in old if name not in new]),
        ("added", [name for name in new if name not in old]),
    ):
        if names:
            found.append(f"{_count(len(names), 'row')} {word}: {_few(names)}")
    first = (*list(old.values())[:1], *list(new.values())[:1])
    for column in dict.fromkeys(name for row in first for name in row):
        changed = [
            f"{name} ({old[name].get(column, 'none')} -> {new[name].get(column, 'none')})"
            for name in old
            if name in new and old[name].get(column) != new[name].get(column)
        ]
        if changed:
            found.append(f"{_count(len(changed), column)} changed: {_few(changed)}")
    return found


def _of_files(planned: Mapping[str, int], found: Mapping[str, int | None], root: Path | None) -> list[str]:
    below = f" of {len(planned):,} files below {root}" if root is not None else " of the files"
    missing = [name for name in planned if found[name] is None]
    other = [
        f"{name} ({planned[name]:,} -> {size:,} bytes)"
        for name, size in found.items()
        if size is not None and size != planned[name]
    ]
    words = [f"{below.strip()} {listing.missing_words(missing)}"] if missing else []
    sizes = f"{_count(len(other), 'file')} of another size: {_few(other)}"
    return [*words, *([sizes] if other else [])]


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _few(names: Sequence[str]) -> str:
    more = f", ... and {len(names) - _EXAMPLES:,} more" if len(names) > _EXAMPLES else ""
    return ", ".join(names[:_EXAMPLES]) + more
