"""The few bytes of journals that a status shows: heads and tails of live workers, ends of failures."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from hpc_search.layout import Layout, parse_journal
from hpc_search.ledger import gone, history, liveness
from hpc_search.records import index as codec
from hpc_search.records import journal
from hpc_search.records.index import Entry

#: More failed trials than this, a cause, are counted but not read.
_READ_A_CAUSE: Final = 100
#: Bytes of journals and archives that are read for the texts of failures.
_BUDGET: Final = 64 << 20
_HEAD: Final = 16 << 10
_TAIL: Final = 4 << 10


class LiveWorker(msgspec.Struct, frozen=True):
    """A worker that did not say that it exits; ``trials`` are what it holds, running ones first."""

    id: str
    node: str
    seat: str
    device: str
    job_id: str
    trials: tuple[int, ...]


class Failure(msgspec.Struct, frozen=True):
    """``count`` failed trials with one cause and headline ("" where it was not read)."""

    cause: str
    detail: str
    count: int
    trial: int


def read_workers(layout: Layout, held: Mapping[int, list[int]]) -> tuple[LiveWorker, ...]:
    """Return the workers that have a journal without an exit, and are not gone by what is known."""
    me = liveness.this_process()
    departed = gone.reported(layout)
    found = []
    for worker in history.live_workers(layout):
        opening = _open_journal(layout, worker)
        if opening is not None and worker not in departed and not liveness.certainly_gone(opening, me):
            trials = tuple(held.get(int(worker, 16), ()))
            found.append(
                LiveWorker(worker, opening.host, opening.seat, opening.device, opening.job_id, trials)
            )
    return tuple(found)


def _open_journal(layout: Layout, worker: str) -> journal.Open | None:
    """Return the opening of a worker's last segment, None where that ends in an exit."""
    try:
        segments = [parse_journal(path.name) for path in layout.worker(worker).iterdir()]
        segment = max((number for number in segments if number is not None), default=0)
        fd = os.open(layout.journal(worker, segment), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        head = os.pread(fd, _HEAD, 0)
        tail = os.pread(fd, _TAIL, max(0, os.fstat(fd).st_size - _TAIL))
    except OSError:
        return None
    finally:
        os.close(fd)
    if any(journal.kind(line) == b"exit" and journal.checksum(line) for line in tail.split(b"\n")):
        return None
    record = journal.parse_line(head.partition(b"\n")[0])
    return record if isinstance(record, journal.Open) else None


def read_failures(layout: Layout, failed: Mapping[int, Entry]) -> tuple[Failure, ...]:
    """Return the failed trials grouped by cause and headline, most frequent first."""
    wanted = dict(_examples(failed))
    details = dict(_details(layout, wanted))
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for number, entry in failed.items():
        cause = codec.CAUSES[entry.cause] if entry.cause < len(codec.CAUSES) else "?"
        groups[cause, details.get(number, "")].append(number)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return tuple(Failure(cause, text, len(found), min(found)) for (cause, text), found in ordered)


def _examples(failed: Mapping[int, Entry]) -> Iterator[tuple[int, Entry]]:
    taken: Counter[int] = Counter()
    for number, entry in failed.items():
        if taken[entry.cause] < _READ_A_CAUSE:
            taken[entry.cause] += 1
            yield number, entry


def _details(layout: Layout, wanted: Mapping[int, Entry]) -> Iterator[tuple[int, str]]:
    left = dict(wanted)
    for data in _journals(layout, {f"{entry.owner:016x}" for entry in wanted.values()}):
        for number, entry in list(left.items()):
            text = _detail(data, entry.end)
            if text is not None:
                del left[number]
                yield number, text
        if not left:
            return


def _journals(layout: Layout, workers: set[str]) -> Iterator[bytes]:
    """Yield the journals of *workers*, then the archives, as far as the budget of bytes goes."""
    live = [path for worker in sorted(workers) for path in sorted(layout.worker(worker).glob("journal.*"))]
    budget = _BUDGET
    for path in [*live, *(layout.archive / name for name in history.archive_paths(layout))]:
        try:
            budget -= path.stat().st_size
            if budget < 0:
                return
            yield path.read_bytes()
        except OSError:
            continue


def _detail(data: bytes, end: int) -> str | None:
    """Return the headline of the end record with the checksum *end*, found by its bytes."""
    at = data.find(b',"c":"%016x"}' % end)
    if at < 0:
        return None
    line = data[data.rfind(b"\n", 0, at) + 1 : data.find(b"}", at) + 1]
    if journal.checksum(line) is None:
        return None
    fields: dict[str, Any] = msgspec.json.decode(line)
    return journal.headline(str(fields.get("detail", "")))


class _Submission(msgspec.Struct, frozen=True):
    token: str = ""
    launcher: str = ""


def last_submission(layout: Layout) -> str:
    """Return the token of the newest submission to SLURM, "" where there is none."""
    try:
        names = sorted(path.name for path in layout.submits.iterdir() if path.name.endswith(".json"))
    except OSError:
        return ""
    for name in reversed(names):
        with suppress(OSError, msgspec.DecodeError):
            found = msgspec.json.decode((layout.submits / name).read_bytes(), type=_Submission)
            if found.launcher == "slurm":
                return found.token
    return ""
