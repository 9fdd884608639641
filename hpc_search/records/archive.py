"""The codec of ledger/archive/NNNN: files of workers that are gone, whole, one section each.

A section is a JSON line ``{"worker":...,"name":...,"bytes":...,"digest":...,"c":...}`` (checksum as in
a journal line), the bytes of the file, and a newline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import xxhash


class _Head(msgspec.Struct, frozen=True):
    worker: str
    name: str
    bytes: int
    digest: str


class Section(NamedTuple):
    """One archived file: whose it was, its name, and where its bytes stand."""

    worker: str
    name: str
    start: int
    end: int
    digest: str

    def content(self, data: bytes) -> bytes:
        """Return the bytes of the file out of the archive's *data*."""
        return data[self.start : self.end]

    def verifies(self, data: bytes) -> bool:
        """Return whether the bytes match the digest."""
        return hashlib.blake2b(self.content(data), digest_size=16).hexdigest() == self.digest


def encode_section(worker: str, name: str, content: bytes) -> bytes:
    """Return the section of one file."""
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    head = msgspec.json.encode(_Head(worker, name, len(content), digest))[:-1]
    return head + b',"c":"' + xxhash.xxh3_64_hexdigest(head).encode() + b'"}\n' + content + b"\n"


def sections(data: bytes) -> Iterator[Section]:
    """Yield the sections of an archive, in order; a damaged head costs only its own section."""
    at = 0
    while 0 <= at < len(data):
        stop = data.find(b"\n", at)
        line = data[at:stop] if stop >= 0 else b""
        if line[-24:-18] != b',"c":"' or xxhash.xxh3_64_hexdigest(line[:-24]).encode() != line[-18:-2]:
            at = data.find(b'\n{"worker":"', at) + 1 or len(data)
            continue
        head = msgspec.json.decode(line[:-24] + b"}", type=_Head)
        if head.bytes < 0:
            return
        yield Section(head.worker, head.name, stop + 1, stop + 1 + head.bytes, head.digest)
        at = stop + 1 + head.bytes + 1
