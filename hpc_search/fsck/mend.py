"""Finding the one byte that was changed: a checksum of 64 bits says which of all candidates is right.

A flipped bit of a disk or of memory is one wrong byte. Of a line of 600 bytes there are 153,000 neighbours
with one other byte; that one of them matches its checksum by chance has a probability of 1 in 10^14.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

import xxhash

from hpc_search.records.journal import checksum

#: Bytes that a search may hash: about 0.7 s. A piece that takes more is searched for flipped bits only, or
#: not at all. Of a quick checksum (xxh3) and of a digest (blake2b).
QUICK: Final = 8 << 30
_SLOW: Final = 400 << 20
#: Bytes of a longer piece are not all searched, however quick.
_ALL_BYTES: Final = 4 << 10
#: Bytes after the body of a line: ``,"c":"0123456789abcdef"}``.
_TAIL: Final = 24
_JOINT: Final = re.compile(rb'"c":"[0-9a-f]{16}"\}(.)\{"', re.DOTALL)


def mend_lines(piece: bytes) -> bytes | None:
    """Return *piece*, one or several lines with or without a last newline, with one byte put right.

    None where no single byte of it makes every line verify.
    """
    return next(filter(_whole, (piece, *_ends(piece), *_joints(piece))), None) or _searched(piece)


def mend(data: bytes, good: Callable[[bytes], bool], work: int = _SLOW) -> bytes | None:
    """Return *data* with one byte put right so that it is *good*, None where *work* finds none."""
    for candidate in map(bytes, _neighbours(data, work)):
        if good(candidate):
            return candidate
    return None


def _whole(piece: bytes) -> bool:
    return all(checksum(line) is not None for line in piece.removesuffix(b"\n").split(b"\n"))


def _ends(piece: bytes) -> Iterator[bytes]:
    """Yield *piece* with a right last newline, and with a right tail for the body that stands there."""
    yield piece[:-1] + b"\n"
    line, newline = _split(piece)
    body, found = line[:-_TAIL], line[-_TAIL:]
    tail = b',"c":"' + xxhash.xxh3_64_hexdigest(body).encode() + b'"}'
    if len(found) == _TAIL and sum(a != b for a, b in zip(found, tail, strict=True)) == 1:
        yield body + tail + newline


def _split(piece: bytes) -> tuple[bytes, bytes]:
    return (piece[:-1], b"\n") if piece.endswith(b"\n") else (piece, b"")


def _joints(piece: bytes) -> Iterator[bytes]:
    """Yield *piece* with a newline where two lines were joined by a changed one."""
    for match in _JOINT.finditer(piece):
        yield piece[: match.start(1)] + b"\n" + piece[match.end(1) :]


def _searched(piece: bytes) -> bytes | None:
    """Return *piece*, taken as one line, with the byte of its body that its checksum asks for."""
    line, _ = _split(piece)
    body, tail = line[:-_TAIL], line[-_TAIL:]
    if tail[:6] != b',"c":"' or tail[-2:] != b'"}' or not body:
        return None
    try:
        wanted = int(tail[6:-2], 16)
    except ValueError:
        return None
    digest = xxhash.xxh3_64_intdigest
    for candidate in _neighbours(body, QUICK):
        if digest(candidate) == wanted:
            return bytes(candidate) + piece[len(body) :]
    return None


def _neighbours(data: bytes, work: int) -> Iterator[bytearray]:
    """Yield *data* with each of its bytes changed, in place."""
    if 8 * len(data) ** 2 > work:
        return
    changed = bytearray(data)
    every = len(data) <= _ALL_BYTES and 255 * len(data) ** 2 <= work
    values = range(1, 256) if every else [1 << bit for bit in range(8)]
    for place, byte in enumerate(data):
        for value in values:
            changed[place] = byte ^ value
            yield changed
        changed[place] = byte
