"""The codec of ledger/seals/NNNN.jsonl: which end record is the result of a trial, published once.

The first line names the format, its version and the number of entries; every other line is one entry.
Each line ends in the checksum of what stands before it, as in a journal: ``,"c":"CHECKSUM"}``.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Final

import msgspec
import xxhash

from hpc_search.errors import DamagedError
from hpc_search.records.journal import checksum

FORMAT: Final = "hpc_search.seal"
#: Version of a seal. A reader refuses a version it does not know.
VERSION: Final = 1


class SealEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The result of ``trial`` is the end record of ``attempt`` by ``worker`` whose checksum is ``end``."""

    trial: int
    attempt: int
    worker: str
    end: str


class _Head(msgspec.Struct, frozen=True):
    format: str
    version: int
    entries: int = 0
    #: "WORKER.SEGMENT" -> (bytes, xxh3-64) of every journal as it was read for this seal.
    heads: dict[str, tuple[int, str]] = {}


_ENTRY: Final = msgspec.json.Decoder(SealEntry)
_HEAD: Final = msgspec.json.Decoder(_Head)


def encode_seal(entries: Iterable[SealEntry], heads: dict[str, tuple[int, str]] | None = None) -> bytes:
    """Return the bytes of a seal with *entries*, sorted by trial, and the *heads* of the journals."""
    ordered = sorted(entries, key=attrgetter("trial"))
    head = _Head(FORMAT, VERSION, len(ordered), heads or {})
    # A newline within a text is escaped, so every newline here ends an object.
    bodies = msgspec.json.Encoder().encode_lines([head, *ordered])[:-1].split(b"\n")
    return b"".join(map(_line, bodies))


def _line(body: bytes) -> bytes:
    # Without the closing brace: the checksum is the last key of the object.
    text = body[:-1]
    return text + b',"c":"' + xxhash.xxh3_64_hexdigest(text).encode() + b'"}\n'


def parse_seal(data: bytes) -> list[SealEntry]:
    """Return the entries of *data* that verify; a damaged line costs only itself.

    Raises:
        DamagedError: The first line verifies and names a format or version that is not known.
    """
    head, *lines = data.split(b"\n")
    if checksum(head) is not None:
        _check_version(head)
    return [_ENTRY.decode(line) for line in lines if checksum(line) is not None]


def parse_heads(data: bytes) -> tuple[int, dict[str, tuple[int, str]]] | None:
    """Return the number of entries and the heads of the journals; None where the first line is damaged."""
    line = data.partition(b"\n")[0]
    if checksum(line) is None:
        return None
    head = _HEAD.decode(line)
    return head.entries, head.heads


def _check_version(line: bytes) -> None:
    try:
        head = _HEAD.decode(line)
    except msgspec.DecodeError:
        head = _Head("", 0)
    if (head.format, head.version) != (FORMAT, VERSION):
        found = f"format {head.format!r} version {head.version}"
        message = f"a seal has {found}; this hpc_search reads version {VERSION}"
        raise DamagedError(message, hint="use the hpc_search version that published it")
