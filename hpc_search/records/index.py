"""The codec of ledger/claims.bin: a header and one fixed-size record a trial, little-endian.

An all-zero record is a trial that nobody touched. The index can be rebuilt from the journals.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple

MAGIC: Final = b"HPCSIDX1"
#: magic, version, record size, trials, final trials, cursor, generation, crc32 of the rest
_HEADER: Final = struct.Struct("<8sIIQQQQ12xI")
HEADER_BYTES: Final = _HEADER.size
#: 64 bytes, so that no record straddles a page: the fields of Entry (2 bytes reserved before the last), crc32
_RECORD: Final = struct.Struct("<BBHIQdQfIIBBBBIBB2xII")
RECORD_BYTES: Final = _RECORD.size
_CRC: Final = struct.Struct(f"<{RECORD_BYTES - 4}xI")
_ZERO: Final = bytes(RECORD_BYTES)
VERSION: Final = 1
#: Largest values of the counters' fields, and of the seconds.
_BYTE: Final = 2**8 - 1
_SHORT: Final = 2**16 - 1
_WORD: Final = 2**32 - 1
_LONGEST: Final = 1e30

PENDING, CLAIMED, RUNNING, PAUSED, DONE, FAILED, PRUNED = range(7)
STATES: Final = ("pending", "claimed", "running", "paused", "done", "failed", "pruned")
CAUSES: Final = ("", "error", "oom", "timeout", "nonfinite", "noop", "lost", "preempted")
#: Flag: the effective parameters differ from the requested ones.
FLAG_EFFECTIVE: Final = 1
#: Flag of a trial that is owned: its owner only ends it, and it is paused again where that fails.
FLAG_ENDING: Final = 2
#: Flag of a pruned trial that never began, for its point had lost a race.
FLAG_LEFT_OUT: Final = 4


class Header(NamedTuple):
    """Totals of the index: trials, how many are final, and a number below which none is pending.

    But those that may not be claimed at the moment (`ledger.gates`).
    """

    trials: int
    finals: int = 0
    cursor: int = 0
    #: Raised by every rebuild, so that an incremental reader starts over.
    generation: int = 0


class Entry(NamedTuple):
    """One trial in the index. Counters are of attempts that ended without a result, by cause."""

    state: int = PENDING
    cause: int = 0
    #: The last rung that it was paused at, 0 for none.
    rung: int = 0
    attempt: int = 0
    #: Worker id as a number, 0 for none.
    owner: int = 0
    value: float = 0.0
    #: Checksum of the accepted end record as a number, 0 for none.
    end: int = 0
    seconds: float = 0.0
    #: Wall-clock second of the last change, for people only.
    changed: int = 0
    #: Step of the newest checkpoint known when an attempt last ended.
    step: int = 0
    errors: int = 0
    ooms: int = 0
    #: Attempts in a row that ended for infrastructure reasons without a newer checkpoint.
    stalls: int = 0
    flags: int = 0
    #: Effective value of the parameter that out-of-memory retries halve, 0 where none was.
    batch: int = 0
    #: Attempts that ended because memory of the host ran out (not in ``ooms``), and because they hung.
    kills: int = 0
    hangs: int = 0
    #: Failures of attempts up to this one were taken back: one that is still to be marked is no result.
    again: int = 0

    @property
    def final(self) -> bool:
        """Whether the trial ended."""
        return self.state >= DONE

    @property
    def left_out(self) -> bool:
        """Whether a race left the trial out."""
        return self.state == PRUNED and bool(self.flags & FLAG_LEFT_OUT)


def encode_header(header: Header) -> bytes:
    """Return the header's bytes."""
    body = _HEADER.pack(MAGIC, VERSION, RECORD_BYTES, *header, 0)[:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def parse_header(data: bytes) -> Header | None:
    """Return the header, None where it does not verify."""
    if len(data) < HEADER_BYTES:
        return None
    magic, version, size, trials, finals, cursor, generation, crc = _HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or size != RECORD_BYTES:
        return None
    if crc != zlib.crc32(data[: HEADER_BYTES - 4]):
        return None
    return Header(trials, finals, cursor, generation)


def encode_entry(entry: Entry) -> bytes:
    """Return the record's bytes; counters saturate."""
    try:
        body = _RECORD.pack(*entry, 0)[:-4]
    except (struct.error, OverflowError):
        body = _RECORD.pack(*_saturated(entry), 0)[:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def _saturated(entry: Entry) -> Entry:
    def within(value: int, most: int) -> int:
        return min(max(0, value), most)

    return entry._replace(
        rung=within(entry.rung, _SHORT),
        attempt=within(entry.attempt, _WORD),
        seconds=min(entry.seconds, _LONGEST),
        changed=within(entry.changed, _WORD),
        step=within(entry.step, _WORD),
        errors=within(entry.errors, _BYTE),
        ooms=within(entry.ooms, _BYTE),
        stalls=within(entry.stalls, _BYTE),
        batch=within(entry.batch, _WORD),
        kills=within(entry.kills, _BYTE),
        hangs=within(entry.hangs, _BYTE),
        again=within(entry.again, _WORD),
    )


def parse_entry(data: bytes) -> Entry | None:
    """Return the entry, None where it does not verify."""
    if data == _ZERO:
        return Entry()
    *fields, crc = _RECORD.unpack(data)
    return Entry(*fields) if crc == zlib.crc32(data[:-4]) else None


def parse_entries(data: bytes) -> list[Entry | None]:
    """Return the entries of whole records one after the other, None for one that does not verify."""
    size = RECORD_BYTES
    # Entry._make checks the length first, in Python: twice the time.
    new, crc32, untouched = tuple.__new__, zlib.crc32, Entry()
    entries: list[Entry | None] = []
    for at, fields in zip(range(0, len(data), size), _RECORD.iter_unpack(data), strict=True):
        if crc32(data[at : at + size - 4]) == fields[-1]:
            entries.append(new(Entry, fields[:-1]))
        else:
            entries.append(untouched if data[at : at + size] == _ZERO else None)
    return entries


def verified_states(data: bytes) -> bytes | None:
    """Return the states of whole records one after the other, a byte each; None where one does not verify."""
    size, crc32 = RECORD_BYTES, zlib.crc32
    stored = [crc for (crc,) in _CRC.iter_unpack(data)]
    found = [crc32(data[at : at + size - 4]) for at in range(0, len(data), size)]
    if found != stored:
        for number, (crc, claimed) in enumerate(zip(found, stored, strict=True)):
            if crc != claimed and data[number * size : (number + 1) * size] != _ZERO:
                return None
    return data[::size]


def entry_offset(number: int) -> int:
    """Return the byte offset of the record of trial *number*."""
    return HEADER_BYTES + number * RECORD_BYTES


def index_bytes(trials: int) -> int:
    """Return the size of the whole file."""
    return HEADER_BYTES + trials * RECORD_BYTES
