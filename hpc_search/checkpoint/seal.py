"""The first bytes of a checkpoint: sizes, and a checksum of everything that is not tensor data.

Verified before the HDF5 library sees the file: what is damaged never reaches its parser.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import xxhash

from hpc_search.checkpoint.hdf5 import USERBLOCK

#: Version of the format. A reader refuses a version it does not know.
VERSION: Final = 1
_MAGIC: Final = b"hpc_search.checkpoint\n\0\0"
#: magic, version, zero, file size, offset and length of the data, checksum of the rest of the file.
_FIELDS: Final = struct.Struct("<24sIIQQQQ")
_CHECKSUM: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Seal:
    """Sizes in bytes; ``rest`` is xxh3 of all bytes after the seal that are not data."""

    file_size: int
    data_offset: int
    data_length: int
    rest: int


def encode(seal: Seal) -> bytes:
    """Return *seal* as the bytes of a user block."""
    head = _FIELDS.pack(_MAGIC, VERSION, 0, seal.file_size, seal.data_offset, seal.data_length, seal.rest)
    body = head.ljust(USERBLOCK - _CHECKSUM.size, b"\0")
    return body + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(body))


def parse(block: bytes, file_size: int) -> Seal:
    """Return the seal that *block* holds, for a file of *file_size* bytes.

    Raises:
        ValueError: It is no seal, of an unknown version, damaged, or of a file of another size.
    """
    if len(block) < USERBLOCK or not block.startswith(_MAGIC):
        raise ValueError(f"it does not start as a checkpoint: found {block[:24]!r}")
    body, checksum = block[: -_CHECKSUM.size], block[-_CHECKSUM.size :]
    if _CHECKSUM.pack(xxhash.xxh3_64_intdigest(body)) != checksum:
        raise ValueError("the checksum of its first block is wrong")
    _, version, _, size, offset, length, rest = _FIELDS.unpack_from(body)
    if version != VERSION:
        raise ValueError(f"its format version is {version}, this program reads {VERSION}")
    if size != file_size:
        raise ValueError(f"it has {file_size} bytes, {size} were written")
    if offset < USERBLOCK or offset + length > size:
        raise ValueError(f"its data, {length} bytes at {offset}, do not fit in {size} bytes")
    return Seal(size, offset, length, rest)
