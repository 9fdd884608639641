"""What a dead owner left: its end records, its checkpoints, and the record that gives a trial back."""

from __future__ import annotations

from typing import NamedTuple

from hpc_search.layout import Layout
from hpc_search.ledger import history
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
    segments = history.worker_segments(layout, worker) or history.archived_segments(layout, worker)
    for _, data in segments:
        for _, line in history.verified(data, frozenset({b"end", b"checkpoint"})):
            record = lines.parse_line(line)
            if isinstance(record, lines.End):
                left.ends[record.trial, record.attempt] = record, line[-18:-2].decode()
            elif isinstance(record, lines.Checkpoint):
                left.steps[record.trial] = max(record.step, left.steps.get(record.trial, 0))
    return left


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
