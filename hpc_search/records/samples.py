"""The codec of samples/WORKER.N.bin: the selection metric of each sample, as trials reported it.

A record is a JSON line ``{"trial":..,"attempt":..,"count":..,"ids":[..]}`` and then ``count`` float64,
little-endian. The end record of the trial holds segment, offset, bytes and xxh3-64 of the record.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import xxhash


class _Head(msgspec.Struct, frozen=True):
    trial: int
    attempt: int
    count: int
    ids: list[str | int]


class Samples(NamedTuple):
    """Per-sample scores of one trial."""

    trial: int
    attempt: int
    ids: list[str | int]
    scores: list[float]


def encode_samples(trial: int, attempt: int, ids: Sequence[str | int], scores: Sequence[float]) -> bytes:
    """Return the record of one trial."""
    values = array.array("d", scores)
    if sys.byteorder == "big":
        values.byteswap()
    return msgspec.json.encode(_Head(trial, attempt, len(values), list(ids))) + b"\n" + values.tobytes()


def parse_samples(data: bytes, checksum: str) -> Samples | None:
    """Return the record in *data*, None where it does not verify."""
    if xxhash.xxh3_64_hexdigest(data) != checksum:
        return None
    line, _, body = data.partition(b"\n")
    head = msgspec.json.decode(line, type=_Head)
    values = array.array("d")
    values.frombytes(body)
    if sys.byteorder == "big":
        values.byteswap()
    return Samples(head.trial, head.attempt, head.ids, values.tolist())


def sample_checksum(data: bytes) -> str:
    """Return the checksum of a record."""
    return xxhash.xxh3_64_hexdigest(data)
