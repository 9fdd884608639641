"""splits/splits.json: what the data were, how they were split, and what the manifests hold."""

from __future__ import annotations

from typing import Literal

from hpc_search.records.search import DataSpec, FoldsSpec, Struct


class Manifest(Struct, kw_only=True):
    """One manifest: blake2b-128 of its bytes, and how many rows it has."""

    digest: str
    rows: int


class DataRecord(Struct, kw_only=True):
    """The data as they were: the specification, and digests by which a change is found.

    ``table`` is the digest of ids, labels, groups, times and columns as read; ``index`` that of the bytes
    of the CSV file, "" for a function; ``listing`` that of the name and size of every file of the column
    ``path``, "" without one.
    """

    spec: DataSpec
    rows: int
    table: str
    index: str = ""
    listing: str = ""
    files: int = 0
    bytes: int = 0


class FoldRecord(Struct, kw_only=True):
    """One fold: its number, its outer fold, its manifests by side, RUN-relative.

    ``test`` is the digest of its test side, "" without one.
    """

    number: int
    outer: int | None = None
    sides: dict[str, str]
    test: str = ""


class Overlap(Struct, kw_only=True):
    """How many values of ``column`` stand on both sides of a fold, with up to three of them.

    ``promised`` says that the split had promised none; a plan is then refused.
    """

    fold: int
    column: str
    sides: tuple[str, str]
    count: int
    examples: tuple[str, ...] = ()
    promised: bool = False


class SplitsIndex(Struct, kw_only=True):
    """splits/splits.json."""

    format: str = "hpc_search.splits"
    version: int = 2
    ids: Literal["int", "str"]
    spec: FoldsSpec
    data: DataRecord
    folds: tuple[FoldRecord, ...]
    #: RUN-relative path -> manifest.
    files: dict[str, Manifest]
    overlaps: tuple[Overlap, ...] = ()
