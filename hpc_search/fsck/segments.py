"""Reading one segment of a journal: which bytes verify, what the others were, what can be mended."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from hpc_search.fsck.mend import mend_lines
from hpc_search.records import journal as codec
from hpc_search.records.journal import AnyRecord

_NUMBER: Final = re.compile(rb'\{"k":"([a-z]+)","n":(\d+)')
_TRIAL: Final = re.compile(rb'"trial":(\d+)')
#: Damaged places of one segment that are searched for a single wrong byte.
_SEARCHED: Final = 20


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes *start* to *end* that do not verify; ``mended`` are the right ones where they were found."""

    start: int
    end: int
    data: bytes
    mended: bytes | None
    #: Whether it is the end of the file and looks like a write that was cut short.
    torn: bool

    @property
    def held(self) -> str:
        """What kind of record it was, as far as it can still be read."""
        match = _NUMBER.search(self.mended or self.data)
        kind = match[1].decode() if match else ""
        return (
            f"a record {kind!r} of {_of(self.trials)}" if kind and self.trials else f"{len(self.data)} bytes"
        )

    @property
    def trials(self) -> tuple[int, ...]:
        """Trials that the bytes name."""
        return tuple(sorted({int(number) for number in _TRIAL.findall(self.mended or self.data)}))


@dataclass(slots=True)
class Segment:
    """One segment as it stands, and as it reads with what could be mended.

    ``records`` are (number, record) of the lines that verify, ``checksums`` those of its end records.
    ``broken`` says why the chain does not hold, "" where it does; the chain proves the lines before record
    ``proven``.
    """

    worker: str
    number: int
    data: bytes
    damages: list[Damage] = field(default_factory=list)
    mended: bytes = b""
    records: list[tuple[AnyRecord, str]] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)
    broken: str = ""
    proven: int = 0

    @property
    def whole(self) -> bytes:
        """The bytes with what could be mended."""
        return self.mended if self.damages else self.data


def _of(trials: tuple[int, ...]) -> str:
    names = ", ".join(map(str, trials[:5])) + (", ..." if len(trials) > 5 else "")
    return f"trial {names}" if len(trials) == 1 else f"trials {names}"


def read_segment(worker: str, number: int, data: bytes) -> Segment:
    """Return what segment *number* of *worker* holds."""
    segment = Segment(worker, number, data)
    segment.damages = _damages(data)
    segment.mended = _patched(data, segment.damages)
    _read(segment)
    return segment


def _damages(data: bytes) -> list[Damage]:
    found: list[Damage] = []
    at, first = 0, -1
    while at < len(data):
        stop = data.find(b"\n", at) + 1 or len(data)
        bad = codec.checksum(data[at:stop].removesuffix(b"\n")) is None
        if bad and first < 0:
            first = at
        if not bad and first >= 0:
            found.append(_damage(data, first, at, len(found)))
            first = -1
        at = stop
    if first >= 0:
        found.append(_damage(data, first, len(data), len(found)))
    return found


def _damage(data: bytes, start: int, end: int, before: int) -> Damage:
    piece = data[start:end]
    mended = mend_lines(piece) if before < _SEARCHED else None
    # A write that a kill or a power cut left unfinished: no newline, or a hole of zeros.
    torn = end == len(data) and mended is None and (not piece.endswith(b"\n") or b"\0" in piece)
    return Damage(start, end, piece, mended, torn)


def _patched(data: bytes, damages: list[Damage]) -> bytes:
    parts, at = [], 0
    for damage in damages:
        parts += [data[at : damage.start], damage.data if damage.mended is None else damage.mended]
        at = damage.end
    return b"".join([*parts, data[at:]])


def _read(segment: Segment) -> None:
    data = segment.whole
    chain = hashlib.blake2b(digest_size=16)
    clean = True
    repeats = lines = 0
    for line in data.split(b"\n"):
        digest = codec.checksum(line)
        if digest is not None:
            lines += 1
            match = _NUMBER.match(line)
            if match is not None:
                segment.numbers.add(int(match[2]))
            record = codec.parse_line(line)
            if record is not None:
                segment.records.append((record, digest))
            if isinstance(record, codec.Open):
                repeats = record.repeats
            if isinstance(record, codec.End | codec.Exit) and lines > repeats + 1 and not segment.broken:
                _check_chain(segment, record, chain.hexdigest(), clean=clean)
        elif line:
            clean = False
        chain.update(line + b"\n")


def _check_chain(segment: Segment, record: codec.End | codec.Exit, found: str, *, clean: bool) -> None:
    """Note a chain that does not hold, where no damaged line before it explains that."""
    if record.chain == found:
        segment.proven = record.n
    elif clean:
        segment.broken = f"the lines before record {record.n} are not the ones that its chain was made of"
