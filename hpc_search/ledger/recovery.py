"""What a dead owner left: its end records, its checkpoints, and the record that gives a trial back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from hpc_search.layout import Layout
from hpc_search.ledger import history, rebuild
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


def inherited(layout: Layout, workers: Sequence[str], trials: Collection[int]) -> Inherited:
    """Return what the journals of *workers* say of *trials*; the lowest (attempt, worker) has the result."""
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
                elif isinstance(record, lines.End):
                    _first(found.results, history.Result(record, worker, line[-18:-2].decode()))
    found.entries.update(rebuild.replay(events, found.results))
    return found


def _first(results: dict[int, history.Result], result: history.Result) -> None:
    known = results.get(result.end.trial)
    if known is None or (result.end.attempt, result.worker) < (known.end.attempt, known.worker):
        results[result.end.trial] = result


def given_back(
    trial: PlannedTrial, entry: Entry, worker: str, step: int, no_progress: int, node: str
) -> lines.End:
    """Return the end record of the attempt that *worker* left at *step*; *entry* is the trial's in the index.

    It fails the trial where this was the last of *no_progress* attempts without a newer checkpoint.
    """
    running = entry.state == codec.RUNNING
    hopeless = running and step <= entry.step and entry.stalls + 1 >= no_progress
    return lines.End(
        trial=trial.number,
        attempt=entry.attempt,
        state="failed" if hopeless else "pending",
        cause="lost" if running else "",
        detail=f"worker {worker} is gone",
        params=trial.params,
        point=trial.point,
        fold=trial.fold,
        seed=trial.seed,
        step=step,
        node=node,
        block=trial.block,
    )
