"""Appending and reading per-sample scores."""

from __future__ import annotations

import os
from collections.abc import Sequence

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records import samples as codec


def append_scores(
    layout: Layout, worker: str, trial: int, attempt: int, ids: Sequence[str | int], scores: Sequence[float]
) -> tuple[int, int, int, str]:
    """Append the scores of a trial durably; return where they are, for its end record."""
    return append_samples(layout, worker, codec.encode_samples(trial, attempt, ids, scores))


def append_samples(layout: Layout, worker: str, data: bytes) -> tuple[int, int, int, str]:
    """Append a record durably; return (segment, offset, bytes, checksum). One writer: the worker."""
    segment = 1
    path = layout.samples(worker, segment)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        offset = os.fstat(fd).st_size
        durable.write_all(fd, data)
        os.fdatasync(fd)
    finally:
        os.close(fd)
    if not offset:
        # The name of a new file.
        durable.fsync_dir(path.parent)
    return segment, offset, len(data), codec.sample_checksum(data)


def read_samples(layout: Layout, worker: str, place: tuple[int, int, int, str]) -> codec.Samples | None:
    """Return the record that an end record points to, None where it does not verify."""
    segment, offset, size, checksum = place
    path = layout.samples(worker, segment)
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return codec.parse_samples(file.read(size), checksum)
    except OSError:
        data = history.archived_file(layout, worker, f"samples.{segment}.bin")
        return codec.parse_samples(data[offset : offset + size], checksum) if data is not None else None
