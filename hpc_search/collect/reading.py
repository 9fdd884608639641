"""One pass over every journal: all attempts that ended, and which of them are results."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec
import xxhash

from hpc_search.layout import Layout
from hpc_search.ledger import history, retries, snapshots
from hpc_search.ledger.history import JournalFile
from hpc_search.records import journal as codec
from hpc_search.slices import observed
from hpc_search.slices.observed import Observed
from hpc_search.stats import Row

#: The line of an end record, and its trial. Scanning for it is 10 times faster than looking at every line.
_END: Final = re.compile(rb'\n(\{"k":"end"(?:,"n":\d+,"t":[0-9.eE+-]+,"trial":(\d{1,12}))?.*)')


class Attempt(Row, gc=False, kw_only=True, rename={"ended": "t", "checksum": "c"}):
    """What collect needs of an end record; ``params`` stays the bytes that the worker wrote, once for all.

    ``worker`` is set by the reader. Objects without the garbage collector: 100,000 of them would be
    walked again and again.
    """

    attempt: int
    state: codec.EndState
    params: msgspec.Raw
    checksum: str
    worker: str = ""
    ended: float = 0.0
    point: int = 0
    fold: int | None = None
    seed: int = 0
    cause: codec.Cause = ""
    left_out: bool = False
    detail: str = ""
    metrics: dict[str, Any] | None = None
    effective: dict[str, Any] | None = None
    accumulation: int = 1
    step: int = 0
    seconds: float = 0.0
    started: float = 0.0
    node: str = ""
    device: str = ""
    samples: tuple[int, int, int, str] | None = None


#: The line of the note with what a worker saw of its devices; a quote within a text is escaped.
_SLICE: Final = b',"event":"slice",'
#: It is among the first lines of a journal.
_SLICE_BYTES: Final = 64 << 10
_DECODER: Final = msgspec.json.Decoder(Attempt)
#: The trial of an end record, its line, and who wrote it.
_Line = tuple[int, bytes, str]


class Attempts(NamedTuple):
    """What the journals hold of ended attempts.

    ``ends`` are by trial and each comes once; ``results`` is trial -> its one accepted end.
    ``openings`` is worker -> the newest opening record, ``slices`` what it saw of its
    devices. ``damaged`` counts whole end records whose checksum fails. ``heads`` is "WORKER.SEGMENT" ->
    (bytes, xxh3-64) of the journals that have a file.
    ``codes`` is worker -> digest of the sources that it ran.
    """

    ends: list[Attempt]
    results: dict[int, Attempt]
    openings: dict[str, codec.Open]
    slices: dict[str, Observed]
    damaged: int
    heads: dict[str, tuple[int, str]]
    codes: dict[str, str]


def read_attempts(layout: Layout) -> Attempts:
    """Return every ended attempt of a run; report lines are passed over without being parsed."""
    # A later segment repeats lines; the checksum covers their number and time.
    ends: defaultdict[str, dict[str, _Line]] = defaultdict(dict)
    openings: dict[str, codec.Open] = {}
    slices: dict[str, Observed] = {}
    heads: dict[str, tuple[int, str]] = {}
    codes: dict[str, str] = {}
    damaged = 0
    for file in _read_ahead(history.journal_files(layout)):
        if not file.archived:
            # A section of an archive has a digest of its own.
            digest = xxhash.xxh3_64_hexdigest(file.data)
            heads[f"{file.worker}.{file.segment}"] = len(file.data), digest
        damaged += _take_ends(file.data, file.worker, ends[file.worker])
        if code := snapshots.code_of(file.data):
            codes[file.worker] = code
        if file.worker not in slices and (seen := _slice(file.data)) is not None:
            slices[file.worker] = seen
        opening = _opening(file.data)
        before = openings.get(file.worker)
        if opening is not None and (before is None or before.segment < opening.segment):
            openings[file.worker] = opening
    found = _decoded(ends)
    damaged += sum(map(len, ends.values())) - len(found)
    return Attempts(found, _results(layout, found), openings, slices, damaged, heads, codes)


def fewer_lines(layout: Layout, most: int) -> bool:
    """Return whether the journals have fewer than *most* lines, reading no more than it takes to know."""
    counts = (file.data.count(b"\n") for file in history.journal_files(layout))
    return all(total < most for total in accumulate(counts))


def _take_ends(data: bytes, worker: str, ends: dict[str, _Line]) -> int:
    damaged = 0
    checksum = codec.checksum
    for match in _END.finditer(data):
        line, trial = match.groups(b"0")
        digest = checksum(line)
        if digest is None:
            damaged += match.end() < len(data)
        else:
            ends[digest] = int(trial), line, worker
    return damaged


def _decoded(ends: Mapping[str, dict[str, _Line]]) -> list[Attempt]:
    """Return the attempts of worker -> checksum -> line, by trial; a newer version may write others.

    They are made in the order in which they are read afterwards: from memory in another one that takes
    three times as long.
    """
    found = []
    decode = _DECODER.decode
    known: dict[bytes, msgspec.Raw] = {}
    for _, line, worker in sorted(chain.from_iterable(map(dict.values, ends.values())), key=itemgetter(0)):
        try:
            end = decode(line)
        except msgspec.ValidationError:
            continue
        end.worker = worker
        # As it comes it holds the whole line. Most parameters are those of another trial, too.
        params = bytes(end.params)
        end.params = known.get(params) or known.setdefault(params, msgspec.Raw(params))
        found.append(end)
    return found


def _read_ahead(files: Iterator[JournalFile]) -> Iterator[JournalFile]:
    """Yield *files*, each read by another thread while the one before it is looked at."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, files, None)
        while (file := coming.result()) is not None:
            coming = pool.submit(next, files, None)
            yield file


def _opening(data: bytes) -> codec.Open | None:
    record = codec.parse_line(data[: max(data.find(b"\n"), 0)])
    return record if isinstance(record, codec.Open) else None


def _slice(data: bytes) -> Observed | None:
    place = data.find(_SLICE, 0, _SLICE_BYTES)
    if place < 0:
        return None
    record = codec.parse_line(data[data.rfind(b"\n", 0, place) + 1 : data.find(b"\n", place)])
    return observed.decode(record.text) if isinstance(record, codec.Note) else None


def _results(layout: Layout, ends: list[Attempt]) -> dict[int, Attempt]:
    known = retries.read(layout)
    finals = [
        end
        for end in ends
        if end.state in codec.FINAL and not (known and known.retired(end.trial, end.attempt, end.state))
    ]
    results = {end.trial: end for end in finals}
    if len(results) == len(finals):
        return results
    # Two ends of one trial are rare. Which of them counts is the ledger's rule, not this module's.
    chosen = {(result.worker, result.checksum) for result in history.results(layout).values()}
    return {end.trial: end for end in finals if (end.worker, end.checksum) in chosen}
