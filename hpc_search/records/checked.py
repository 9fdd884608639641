"""A JSON document of one line that carries its own checksum, as a journal's line does.

``{...,"c":"CHECKSUM"}`` and a newline; the checksum is xxh3-64 of everything before ``,"c":"``.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
import xxhash

from hpc_search.errors import DamagedError
from hpc_search.records.journal import checksum

_T = TypeVar("_T", bound=msgspec.Struct)


def encode(record: msgspec.Struct) -> bytes:
    """Return the document of *record*, which must have at least one field that is always written."""
    body = msgspec.json.encode(record)[:-1]
    return body + b',"c":"' + xxhash.xxh3_64_hexdigest(body).encode() + b'"}\n'


def verifies(data: bytes) -> bool:
    """Return whether *data* is exactly what `encode` gave for some record."""
    return data.endswith(b"\n") and checksum(data[:-1]) is not None


def decode(data: bytes, kind: type[_T], where: str, hint: str = "") -> _T:
    """Return the record in *data*.

    Raises:
        DamagedError: The checksum fails, or it is no *kind*; *where* is named.
    """
    if not verifies(data):
        raise DamagedError(f"{where} does not verify: its content does not match its checksum", hint=hint)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise DamagedError(f"{where} does not verify: {error}", hint=hint) from error
