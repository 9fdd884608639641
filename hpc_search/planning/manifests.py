"""The folds of a plan: reading its data, splitting them, and the files below splits/ that say how."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from hpc_search import splits
from hpc_search.layout import Layout
from hpc_search.planning import data
from hpc_search.planning.digests import digest
from hpc_search.records.search import Search, canonical_json
from hpc_search.records.splits import DataRecord, FoldRecord, Manifest, SplitsIndex
from hpc_search.splits import Fold, Table


class Manifests(NamedTuple):
    """RUN-relative path -> content of every file below splits/, and the folds."""

    files: dict[str, bytes]
    folds: tuple[FoldRecord, ...] = ()

    @property
    def digest(self) -> str:
        """Digest of all of them, "" where there are none."""
        content = b"".join(name.encode() + b"\0" + self.files[name] for name in sorted(self.files))
        return digest(content) if self.files else ""


def make(search: Search, base: Path) -> Manifests:
    """Read the data of *search*, relative to *base*, and split them.

    Raises:
        UsageError: The data or the split are wrong.
    """
    if search.folds is None or search.data is None:
        return Manifests({})
    table = data.load_table(search.data, base)
    spec = search.folds
    split = splits.make_split(table, spec)
    files: dict[str, bytes] = {}
    rows: dict[str, int] = {}
    folds = [_fold(fold, table, files, rows) for fold in split.folds]
    index = SplitsIndex(
        ids=table.id_kind,
        spec=spec,
        data=DataRecord(spec=search.data, rows=len(table.ids), table=table_digest(table)),
        folds=tuple(folds),
        files={name: Manifest(digest=digest(files[name]), rows=rows[name]) for name in files},
    )
    files[Layout(Path()).splits_index.as_posix()] = msgspec.json.format(msgspec.json.encode(index), indent=1)
    return Manifests(files, index.folds)


def _fold(fold: Fold, table: Table, files: dict[str, bytes], rows: dict[str, int]) -> FoldRecord:
    """Add the manifests of *fold* to *files*, and how many rows they have to *rows*."""
    sides: Mapping[str, tuple[int, ...]] = {"train": fold.train, "val": fold.val, "test": fold.test}
    paths = {}
    for side, chosen in sides.items():
        if chosen:
            name = Layout(Path()).split_manifest(fold.number, side).as_posix()
            files[name] = splits.manifest_csv(table, chosen).encode()
            rows[name] = len(chosen)
            paths[side] = name
    test = digest(files[paths["test"]]) if "test" in paths else ""
    return FoldRecord(number=fold.number, outer=fold.outer, sides=paths, test=test)


def table_digest(table: Table) -> str:
    """Return the digest of everything that *table* says, in its order."""
    content = [table.ids, table.labels, table.groups, table.times, dict(table.columns)]
    return hashlib.blake2b(canonical_json(content), digest_size=16).hexdigest()
