"""The HDF5 side of a checkpoint: a skeleton of four contiguous datasets, and the proof that a file is one.

The library lays the file out and tells where the data belong; the bytes themselves are written and read by
plain system calls.
"""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Final

#: Room before the HDF5 part, for the seal; HDF5 readers skip it.
USERBLOCK: Final = 4096
#: The only names in a checkpoint. The data come last, after everything that describes them.
DATASETS: Final = ("meta", "structure", "table", "data")
_PAGE: Final = 4096
_ERRNO: Final = re.compile(r"\berrno = (\d+)")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file: where they start and how many they are."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.length


def create(path: Path, sizes: Mapping[str, int]) -> dict[str, Span]:
    """Lay out datasets of *sizes* bytes in the existing empty file *path*; return where each one's bytes go.

    ``table`` counts 8 bytes an item. A dataset of no bytes gets one byte, so that it has a place.

    Raises:
        OSError: A system call failed; h5py tells some of them as RuntimeError.
    """
    try:
        return _create(path, sizes)
    except RuntimeError as error:
        number = _ERRNO.search(str(error))
        code = int(number[1]) if number is not None else errno.EIO
        raise OSError(code, os.strerror(code), os.fspath(path)) from error


def _create(path: Path, sizes: Mapping[str, int]) -> dict[str, Span]:
    import h5py

    with (
        # A fork waits for this lock: no child ever inherits a file that HDF5 would write out at its exit.
        h5py._objects.phil,  # noqa: SLF001 - the one lock of h5py has no public name
        h5py.File(
            path,
            "w",
            locking=False,
            # 1.8 is the oldest format whose metadata carry checksums; every reader of today knows it.
            libver=("v108", "v108"),
            userblock_size=USERBLOCK,
            alignment_threshold=_PAGE,
            alignment_interval=_PAGE,
        ) as file,
    ):
        return {name: _create_dataset(file, name, sizes[name]) for name in DATASETS}


def _create_dataset(file: Any, name: str, size: int) -> Span:
    import h5py

    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plist.set_obj_track_times(False)
    dtype = _types()[name]
    space = h5py.h5s.create_simple((max(1, size // dtype.get_size()),))
    dataset = h5py.h5d.create(file.id, name.encode(), dtype, space, plist)
    return Span(dataset.get_offset(), size)


def _types() -> dict[str, Any]:
    import h5py

    return {name: h5py.h5t.STD_U64LE if name == "table" else h5py.h5t.STD_U8LE for name in DATASETS}


def inspect(stream: BinaryIO, file_size: int) -> dict[str, Span]:
    """Return where the bytes of each dataset are, after proving that *stream* holds them and nothing else.

    Nothing is allocated by what the file declares, and no link is followed.

    Raises:
        ValueError: It has a link, an attribute, a name, a type, a layout or a size that a checkpoint
            never has, or HDF5 cannot read it.
        OSError: A system call failed: that says nothing of the file.
    """
    import h5py

    try:
        with h5py.File(stream, "r", locking=False) as file:
            _check_root(file)
            spans = {name: _check_dataset(file, name, file_size) for name in DATASETS}
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        if isinstance(error, io.UnsupportedOperation):
            # What a stream says whose lseek failed.
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
        if isinstance(error, OSError) and error.errno:
            raise
        raise ValueError(f"HDF5 cannot read it: {error}") from error
    _check_apart(spans)
    return spans


def _check_apart(spans: Mapping[str, Span]) -> None:
    # Two names of one dataset would let the size of the data stand for that of what describes them.
    placed = sorted(spans.items(), key=lambda item: item[1].offset)
    for (first, before), (second, after) in pairwise(placed):
        if after.offset < before.end:
            raise ValueError(f"{first!r} and {second!r} overlap: {before} and {after}")


def _check_root(file: Any) -> None:
    import h5py

    if file.id.get_create_plist().get_userblock() != USERBLOCK or len(file.attrs):
        raise ValueError("its root group is not that of a checkpoint")
    names = sorted(file)
    if names != sorted(DATASETS):
        raise ValueError(f"it holds {names!r:.200}, expected {sorted(DATASETS)}")
    for name in names:
        link = file.id.links.get_info(name.encode())
        if link.type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"{name!r} is a soft or external link, which are never followed")


def _check_dataset(file: Any, name: str, file_size: int) -> Span:
    import h5py

    dataset = h5py.h5o.open(file.id, name.encode())
    if not isinstance(dataset, h5py.h5d.DatasetID):
        raise ValueError(f"{name!r} is not a dataset")  # noqa: TRY004 - the file is wrong, no argument is
    plist = dataset.get_create_plist()
    if plist.get_external_count():
        raise ValueError(f"{name!r} is stored in another file")
    if plist.get_layout() != h5py.h5d.CONTIGUOUS or plist.get_nfilters():
        raise ValueError(f"{name!r} is chunked, filtered or virtual, expected contiguous")
    if not dataset.get_type().equal(_types()[name]) or h5py.h5a.get_num_attrs(dataset):
        raise ValueError(f"{name!r} has an unexpected type or attributes")
    space = dataset.get_space()
    if space.get_simple_extent_type() != h5py.h5s.SIMPLE or space.get_simple_extent_ndims() != 1:
        raise ValueError(f"{name!r} is not one-dimensional")
    length = space.get_simple_extent_npoints() * dataset.get_type().get_size()
    offset = dataset.get_offset()
    if offset is None or offset < USERBLOCK or offset + length > file_size:
        raise ValueError(f"{name!r} declares {length} bytes at {offset} in a file of {file_size}")
    return Span(offset, length)
