"""What a dead owner left: its end records, its checkpoints, and the record that gives a trial back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hpc_search.layout import Layout
from hpc_search.ledger import history, rebuild
from hpc_search.ledger.book import end_line
from hpc_search.ledger.retries import Known
from hpc_search.ledger.superblocks import Accepted, Superblocks, entry_at
from hpc_search.records import index as codec
from hpc_search.records import journal as lines
from hpc_search.records.index import Entry
from hpc_search.records.plan import PlannedTrial


class Left(NamedTuple):
    """End records and their checksums by (trial, attempt), and the newest checkpoint's step by trial."""

    ends: dict[tuple[int, int], tuple[lines.End, str]]
    steps: dict[int, int]


def left_by(layout: Layout, worker: str) -> Left:
    """Return what the journal of *worker* holds, in its directory or, where it was folded, in the archive."""
    left = Left({}, {})
    for _, data in history.all_segments(layout, worker):
        for _, line in history.verified(data, frozenset({b"end", b"checkpoint"})):
            record = lines.parse_line(line)
            if isinstance(record, lines.End):
                left.ends[record.trial, record.attempt] = record, line[-18:-2].decode()
            elif isinstance(record, lines.Checkpoint):
                left.steps[record.trial] = max(record.step, left.steps.get(record.trial, 0))
    return left


class Inherited(NamedTuple):
    """What earlier owners left of some trials: results, the entries of the others, checkpointed steps."""

    results: dict[int, history.Result]
    entries: dict[int, Entry]
    steps: dict[int, int]


def inherited(layout: Layout, workers: Sequence[str], trials: Collection[int], again: Known) -> Inherited:
    """Return what the journals of *workers* say of *trials*; the lowest (attempt, worker) has the result.

    What *again* says was taken back does not count.
    """
    found = Inherited({}, {}, {})
    events: list[rebuild.Event] = []
    for worker in workers:
        for _, data in history.all_segments(layout, worker):
            for _, line in history.verified(data, frozenset({b"claim", b"end", b"checkpoint"})):
                record = lines.parse_line(line)
                number = getattr(record, "trial", -1)
                if number not in trials:
                    continue
                event = rebuild.event_of(worker, line)
                if event is not None:
                    events.append(event)
                elif isinstance(record, lines.Checkpoint):
                    found.steps[number] = max(record.step, found.steps.get(number, 0))
                elif isinstance(record, lines.End) and not again.retired(
                    number, record.attempt, record.state
                ):
                    _first(found.results, history.Result(record, worker, line[-18:-2].decode()))
    entries = {number: again.entry(number) for number in trials if again.entry(number).again}
    found.entries.update(rebuild.replay(events, found.results, entries))
    return found


def _first(results: dict[int, history.Result], result: history.Result) -> None:
    known = results.get(result.end.trial)
    if known is None or (result.end.attempt, result.worker) < (known.end.attempt, known.worker):
        results[result.end.trial] = result


def settled(superblocks: Superblocks, again: Known, trials: int) -> bytes:
    """Return a byte for each of *trials* trials, 1 where a seal in ledger/open has the result that counts."""
    found = bytearray(superblocks.settled())
    for batch in again.batches:
        first, count = batch.added
        for place in batch.places if count else ():
            trial = first + place - batch.first
            found += bytes(max(0, trial + 1 - len(found)))
            found[trial] = superblocks.sealed(superblocks.number(place))
    found += bytes(max(0, trials - len(found)))
    for one in again.latest():
        found[one.trial] = superblocks.sealed(superblocks.number(again.place(one.trial)))
    return bytes(found)


def at_places(results: Mapping[int, history.Result], again: Known) -> Iterator[tuple[int, Accepted]]:
    """Yield (place, result) of the *results*, and of the failures that were taken back."""
    for number, one in results.items():
        yield again.place(number), Accepted(one.end.attempt, one.worker, one.checksum)
    for place, retried in again.ended():
        yield place, Accepted(retried.attempt, retried.worker, retried.end)


def adopt(superblocks: Superblocks, results: Iterable[tuple[int, Accepted]]) -> int:
    """Mark or seal *results*, by place, where that was not done; return how many there were."""
    by_superblock: dict[int, dict[int, Accepted]] = {}
    for place, result in results:
        by_superblock.setdefault(superblocks.number(place), {})[place] = result
    return sum(
        _adopt(superblocks, number, found)
        for number, found in sorted(by_superblock.items())
        if not superblocks.sealed(number) and number in superblocks
    )


def _adopt(superblocks: Superblocks, number: int, results: Mapping[int, Accepted]) -> int:
    superblock = superblocks.look(number)
    first, end = superblocks.span(number)
    if superblock is None and len(results) == end - first:
        superblocks.publish_seal(first, end, [entry_at(*one) for one in results.items()])
        return len(results)
    done = superblock.done if superblock is not None else set[int]()
    missing = {place: one for place, one in results.items() if place not in done}
    for place, one in missing.items():
        superblocks.accept(place, one)
    return len(missing)


def given_back(
    trial: PlannedTrial, entry: Entry, worker: str, step: int, no_progress: int, node: str
) -> lines.End:
    """Return the end record of the attempt that *worker* left at *step*; *entry* is the trial's in the index.

    It fails the trial where this was the last of *no_progress* attempts without a newer checkpoint. A paused
    trial that was promoted is pending then, and goes on beyond its rung; one that was to be ended is paused.
    """
    ending = bool(entry.flags & codec.FLAG_ENDING)
    running = entry.state == codec.RUNNING and not ending
    hopeless = running and step <= entry.step and entry.stalls + 1 >= no_progress
    return end_line(
        trial,
        entry.attempt,
        "failed" if hopeless else "paused" if ending else "pending",
        cause="lost" if running else "",
        detail=f"worker {worker} is gone",
        rung=entry.rung,
        step=step,
        node=node,
    )
