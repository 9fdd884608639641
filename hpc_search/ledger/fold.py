"""Folding what workers that are gone left behind into the archive: files stay O(workers now)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import BinaryIO, Final

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import history, liveness, mode
from hpc_search.ledger.gone import reported
from hpc_search.ledger.index import IndexDamagedError, read_image
from hpc_search.ledger.liveness import Identity
from hpc_search.locks import tried_lock
from hpc_search.records import archive
from hpc_search.records import index as codec

#: Workers that must be gone before their directories are folded.
MANY: Final = 32
_EXITED, _CRASHED, _LIVE = "exited", "crashed", "live"
#: An archive below this size is merged into the next one, so that archives stay few.
_MERGE_BYTES: Final = 32 << 20
#: Seconds after which a directory without a journal was left by a worker that never began.
_STILLBORN: Final = 3600.0


def fold(layout: Layout, me: Identity, many: int = MANY) -> int:
    """Fold the directories of workers that are gone, where there are at least *many*; return how many.

    A worker counts as gone when its journal says ``exit``: then its end records are in the index. One
    that crashed is folded once the index shows nothing as its own. The archive is published before
    anything is removed.
    """
    if len(history.live_workers(layout)) < many:
        return 0
    try:
        with tried_lock(layout.coarse_lock("archive")) as free:
            # Where another one folds now, the next worker tries again; so it does where the disk is full.
            return _fold_gone(layout, me, many) if free else 0
    except OSError:
        return 0


def _fold_gone(layout: Layout, me: Identity, many: int) -> int:
    departed = reported(layout)
    states = {worker: _state(layout, worker, me, departed) for worker in history.live_workers(layout)}
    if list(states.values()).count(_LIVE) > len(states) - many:
        return 0
    owners = _owners(layout) if _CRASHED in states.values() else frozenset[str]()
    gone = [
        worker
        for worker, state in states.items()
        if state == _EXITED or (state == _CRASHED and worker not in owners)
    ]
    return _fold(layout, gone) if len(gone) >= many else 0


def _state(layout: Layout, worker: str, me: Identity, departed: frozenset[str]) -> str:
    opening, exited = liveness.opening_of(layout, worker)
    if exited:
        return _EXITED
    if opening is None:
        _remove_stillborn(layout, worker)
        return _LIVE
    return _CRASHED if worker in departed or liveness.certainly_gone(opening, me) else _LIVE


def _remove_stillborn(layout: Layout, worker: str) -> None:
    """Remove the directory of a worker that was killed, or found the disk full, before its first record.

    Its age is a difference of two times of the file server: the newest directory was made just now.
    """
    directory = layout.worker(worker)
    with suppress(OSError):
        newest = max(layout.worker(other).stat().st_mtime for other in history.live_workers(layout))
        if newest - directory.stat().st_mtime > _STILLBORN:
            layout.reserve(worker).unlink(missing_ok=True)
            # Fails where there is a journal after all.
            directory.rmdir()


def _owners(layout: Layout) -> frozenset[str]:
    """Return the workers that the index shows as owners of trials that are not final."""
    if mode.exclusive(layout):
        # Whoever takes the blocks over reads the archive.
        return frozenset()
    try:
        image = read_image(layout)
    except IndexDamagedError:
        return frozenset(history.live_workers(layout))
    held = image.numbers(codec.CLAIMED, codec.RUNNING, codec.PAUSED)
    return frozenset(f"{image.entry(number).owner:016x}" for number in held)


def _fold(layout: Layout, gone: list[str]) -> int:
    names = history.archive_paths(layout)
    number = int(names[-1]) + 1 if names else 1
    merged: list[str] = []
    content: list[bytes] = []
    if names and layout.archive_file(int(names[-1])).stat().st_size < _MERGE_BYTES:
        merged.append(names[-1])
        content.append(layout.archive_file(int(names[-1])).read_bytes())
    journals = {worker: dict(history.worker_segments(layout, worker)) for worker in gone}
    journals = {worker: segments for worker, segments in journals.items() if segments}
    content += [_sections(layout, worker, segments) for worker, segments in journals.items()]
    if not durable.publish(layout.archive_file(number), b"".join(content)):
        return 0
    for name in merged:
        (layout.archive / name).unlink(missing_ok=True)
    late = {worker: _remove(layout, worker, segments) for worker, segments in journals.items()}
    if any(segments is None or segments for segments in late.values()):
        _archive_again(layout, number, content[: len(merged)], journals, late)
    return sum(segments is not None for segments in late.values())


_Segments = dict[int, bytes]


def _archive_again(
    layout: Layout,
    number: int,
    merged: list[bytes],
    journals: Mapping[str, _Segments],
    late: Mapping[str, _Segments | None],
) -> None:
    """Replace archive *number*: without workers that live, and with what others wrote after it was read."""
    content = list(merged)
    for worker, segments in journals.items():
        more = late[worker]
        if more is not None:
            content.append(_sections(layout, worker, segments | more))
    if durable.publish(layout.archive_file(number + 1), b"".join(content)):
        layout.archive_file(number).unlink(missing_ok=True)


def _sections(layout: Layout, worker: str, segments: Mapping[int, bytes]) -> bytes:
    found = [
        archive.encode_section(worker, layout.journal(worker, segment).name, data)
        for segment, data in segments.items()
    ]
    for path, name in ((layout.log(worker), "log.txt"), (layout.samples(worker, 1), "samples.1.bin")):
        with suppress(FileNotFoundError):
            data = path.read_bytes()
            if data:
                found.append(archive.encode_section(worker, name, data))
    return b"".join(found)


def _remove(layout: Layout, worker: str, segments: Mapping[int, bytes]) -> _Segments | None:
    """Remove what is archived; return the *segments* that their worker wrote to meanwhile, whole.

    None: it lives, and keeps its directory. A zombie acknowledges nothing more once its journal has no name.
    """
    paths = {segment: layout.journal(worker, segment) for segment in segments}
    with ExitStack() as stack:
        try:
            files = {number: stack.enter_context(path.open("rb")) for number, path in paths.items()}
        except FileNotFoundError:
            return {}
        live = [number for number, _ in history.worker_segments(layout, worker)]
        if live != sorted(segments) or any(_grown(files[number], segments[number]) for number in segments):
            return None
        durable.take_away(layout.worker(worker))
        late = {number: file.read() for number, file in files.items() if _grown(file, segments[number])}
    with suppress(OSError):
        layout.samples(worker, 1).unlink(missing_ok=True)
    return late


def _grown(file: BinaryIO, before: bytes) -> bool:
    return os.fstat(file.fileno()).st_size != len(before)
