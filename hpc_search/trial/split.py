"""The samples of a trial's fold, from the manifests of the plan."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hpc_search import splits
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.records.splits import SplitsIndex


@dataclass(frozen=True, slots=True)
class Split:
    """The ids of one fold's parts. The test share is not here."""

    train: tuple[str | int, ...]
    val: tuple[str | int, ...]


def read_split(layout: Layout, fold: int) -> Split:
    """Return the ids of *fold* from the manifests.

    Raises:
        DamagedError: A manifest is missing or differs from the one planned.
    """
    index = msgspec.json.decode(layout.splits_index.read_bytes(), type=SplitsIndex)
    parts = [_read_part(layout, layout.split_manifest(fold, part), index) for part in ("train", "val")]
    return Split(train=parts[0], val=parts[1])


def _read_part(layout: Layout, path: Path, index: SplitsIndex) -> tuple[str | int, ...]:
    name = path.relative_to(layout.root).as_posix()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path} cannot be read ({error.strerror})") from error
    if hashlib.blake2b(content, digest_size=16).hexdigest() != index.files[name].digest:
        message = f"{path} was changed after the plan"
        raise DamagedError(
            message, hint="restore it, or plan a new run; results of changed splits mean nothing"
        )
    return tuple(splits.parse_manifest(content.decode(), index.ids, str(path)))
