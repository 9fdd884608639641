"""The folds of a plan: reading its data, splitting them, and the files below splits/ that say how."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from hpc_search import splits
from hpc_search.errors import PASSING, TemporaryError, UsageError, about
from hpc_search.layout import Layout
from hpc_search.planning import data, listing
from hpc_search.planning.digests import digest
from hpc_search.records.search import DataSpec, FoldsSpec, Search, canonical_json
from hpc_search.records.splits import DataRecord, FoldRecord, Manifest, SplitsIndex
from hpc_search.splits import Fold, Split, Table, overlaps

_RUN: Final = Layout(Path())
_INDEX: Final = _RUN.splits_index.as_posix()


class Manifests(NamedTuple):
    """RUN-relative path -> content of every file below splits/, and what splits.json says.

    ``order`` has the ids of the table that they are made of.
    """

    files: dict[str, bytes]
    record: SplitsIndex | None = None
    order: tuple[str | int, ...] = ()

    @property
    def folds(self) -> tuple[FoldRecord, ...]:
        """The folds, none where nothing is split."""
        return self.record.folds if self.record is not None else ()

    @property
    def digest(self) -> str:
        """Digest of all of them, "" where there are none."""
        content = b"".join(name.encode() + b"\0" + self.files[name] for name in sorted(self.files))
        return digest(content) if self.files else ""


def make(search: Search, base: Path, kept: bytes | None = None) -> Manifests:
    """Read the data of *search*, relative to *base*, and split them.

    *kept* is the content of a folds.json that a run keeps; without it that of the search is read.

    Raises:
        UsageError: The data or the split are wrong, files are missing, or two sides share what they promise
            not to.
    """
    if search.data is None or search.folds is None:
        return Manifests({})
    spec = search.folds
    table = data.load_table(search.data, base)
    files: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    if search.data.path:
        sizes = listing.list_files(table, search.data.path, base / search.data.root)
        files[_RUN.splits_listing.as_posix()] = listing.listing_csv(sizes)
    if spec.kind == "file":
        files[_RUN.splits_file.as_posix()] = _read(base / spec.file) if kept is None else kept
    split = _split(table, spec, base, files)
    rows: dict[str, int] = {}
    folds = [_fold(fold, table, files, rows) for fold in split.folds]
    if rest := split.left_out(len(table.ids)):
        _manifest(_RUN.splits_rest.as_posix(), table, rest, files, rows)
    index = SplitsIndex(
        ids=table.id_kind,
        spec=spec,
        data=_record(search.data, base, table, sizes, files),
        folds=tuple(folds),
        files={name: Manifest(digest=digest(files[name]), rows=rows[name]) for name in rows},
        overlaps=overlaps.report(split, table, spec.apart),
    )
    files[_INDEX] = _encoded(index)
    return Manifests(files, index, table.ids)


def settled(made: Manifests, planned: Manifests) -> Manifests:
    """Return *planned* where *made* differs from it in nothing but the bytes of the table's file.

    Another line end, or a column that nobody uses, leaves the ids, labels, groups and folds as they were.
    """
    if made.record is None or planned.record is None or made.files.keys() != planned.files.keys():
        return made
    again = msgspec.structs.replace(made.record.data, index=planned.record.data.index)
    files = {**made.files, _INDEX: _encoded(msgspec.structs.replace(made.record, data=again))}
    return planned if files == planned.files else made


def read(layout: Layout, names: tuple[str, ...] = ()) -> Manifests:
    """Return what is below splits/ of a run, as far as it can be read; only *names* where there are some."""
    wanted = names or tuple(
        path.relative_to(layout.root).as_posix()
        for path in sorted(layout.splits.rglob("*"))
        if path.is_file()
    )
    files = {name: (layout.root / name).read_bytes() for name in wanted if (layout.root / name).is_file()}
    try:
        index = msgspec.json.decode(files[_INDEX], type=SplitsIndex)
    except (KeyError, msgspec.DecodeError):
        return Manifests(files)
    return Manifests(files, index)


def table_digest(table: Table) -> str:
    """Return the digest of everything that *table* says, in its order."""
    content = [table.ids, table.labels, table.groups, table.times, dict(table.columns)]
    return hashlib.blake2b(canonical_json(content), digest_size=16).hexdigest()


def _encoded(index: SplitsIndex) -> bytes:
    return msgspec.json.format(msgspec.json.encode(index), indent=1)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror})"
        if error.errno in PASSING:
            hint = "plan again when the file system answers"
            raise TemporaryError(message, hint=hint, key="folds.file") from error
        raise UsageError(message, hint="the path is relative to the search file", key="folds.file") from error


def _split(table: Table, spec: FoldsSpec, base: Path, files: dict[str, bytes]) -> Split:
    with about(f"folds.{'nested' if spec.outer else spec.kind}"):
        if spec.kind == "file":
            return splits.make_split(table, spec, file=files[_RUN.splits_file.as_posix()])
        splitter = data.load_named(spec.function, base, "folds.splitter") if spec.kind == "splitter" else None
        return splits.make_split(table, spec, splitter=splitter)


def _record(
    spec: DataSpec, base: Path, table: Table, sizes: dict[str, int], files: dict[str, bytes]
) -> DataRecord:
    names = _RUN.splits_listing.as_posix()
    return DataRecord(
        spec=spec,
        rows=len(table.ids),
        table=table_digest(table),
        index=digest((base / spec.index).read_bytes()) if spec.index else "",
        listing=digest(files[names]) if names in files else "",
        files=len(sizes),
        bytes=sum(sizes.values()),
    )


def _fold(fold: Fold, table: Table, files: dict[str, bytes], rows: dict[str, int]) -> FoldRecord:
    """Add the manifests of *fold* to *files*, and how many rows they have to *rows*."""
    paths = {}
    for side, chosen in fold.sides.items():
        paths[side] = _RUN.split_manifest(fold.number, side).as_posix()
        _manifest(paths[side], table, chosen, files, rows)
    test = digest(files[paths["test"]]) if "test" in paths else ""
    return FoldRecord(number=fold.number, outer=fold.outer, sides=paths, test=test)


def _manifest(
    name: str, table: Table, chosen: tuple[int, ...], files: dict[str, bytes], rows: dict[str, int]
) -> None:
    files[name] = splits.manifest_csv(table, chosen).encode()
    rows[name] = len(chosen)
