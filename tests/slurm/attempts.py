"""What the journals of a run say of every attempt, and what must not be in them whatever happened."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from hpc_search.records.journal import End, Open
from tests.slurm.searches import Search

#: Causes of an attempt that the scheduler, not the trial, brought to its end; "" was given back unstarted.
SCHEDULER_CAUSES: Final = frozenset({"", "preempted", "lost"})


@dataclass(slots=True)
class Attempt:
    """One attempt by one worker; times are the worker's clock, and all nodes are one machine."""

    trial: int
    number: int
    worker: str
    claimed: float
    #: The step that it goes on with; it reports the ones before it again.
    resumed: int = 0
    #: Time of the report, by step.
    steps: dict[int, float] = field(default_factory=dict)
    #: Time of the checkpoint, by the step that it goes on with.
    saves: dict[int, float] = field(default_factory=dict)
    #: Its own last word, and what somebody else said who found its worker gone.
    end: End | None = None
    given_back: End | None = None

    @property
    def cause(self) -> str | None:
        """Why it is not the last of its trial; None where it is, or where nobody said."""
        last = self.end or self.given_back
        return last.cause if last is not None and last.state != "done" else None


def attempts(search: Search) -> list[Attempt]:
    """Return all attempts, by trial, number and worker."""
    found: dict[tuple[int, int, str], Attempt] = {}
    resumed = search.resumed()
    others: dict[tuple[int, int], End] = {}
    for worker, record in search.records("claim", "report", "checkpoint", "end"):
        key = record.trial, record.attempt, worker
        kind = type(record).__name__
        if kind == "Claim":
            found[key] = Attempt(*key, record.t, resumed.get(key, 0))
        elif key in found:
            _note(found[key], kind, record)
        else:
            others[key[:2]] = record
    for (trial, number, _), attempt in found.items():
        attempt.given_back = others.get((trial, number))
    return [found[key] for key in sorted(found)]


def _note(attempt: Attempt, kind: str, record: Any) -> None:
    if kind == "Report":
        if record.step >= attempt.resumed:
            attempt.steps.setdefault(record.step, record.t)
    elif kind == "Checkpoint":
        attempt.saves[record.step] = record.t
    else:
        attempt.end = record


@dataclass(frozen=True, slots=True)
class Lost:
    """What an interrupted attempt had done, and the next one had to do again."""

    trial: int
    attempt: int
    #: Whether the interrupted one said why it ended; one that was killed could not.
    told: bool
    steps: int
    #: From its last checkpoint (or its first step) to the last report that was lost.
    seconds: float
    #: From its last checkpoint to the last report but one that was lost: a save was not yet due then.
    unsaved: float


def lost_work(found: list[Attempt]) -> list[Lost]:
    """Return what was lost between attempts of a trial where the later one reported anything."""
    by_trial: defaultdict[int, list[Attempt]] = defaultdict(list)
    for attempt in found:
        by_trial[attempt.trial].append(attempt)
    pairs = [pair for of_trial in by_trial.values() for pair in pairwise(_running(of_trial))]
    return [_lost(earlier, later) for earlier, later in pairs]


def _running(of_trial: list[Attempt]) -> list[Attempt]:
    return [attempt for attempt in of_trial if attempt.steps]


def _lost(earlier: Attempt, later: Attempt) -> Lost:
    first = min(later.steps)
    # What a zombie did after the trial was taken from it was never needed.
    done = sorted(t for step, t in earlier.steps.items() if step >= first and t < later.claimed)
    begun = min(earlier.steps.values())
    saved = max((t for step, t in earlier.saves.items() if step <= first), default=begun)
    told = earlier.end is not None and earlier.end.cause == "preempted"
    seconds = done[-1] - saved if done else 0.0
    unsaved = done[-2] - saved if len(done) > 1 else 0.0
    return Lost(earlier.trial, earlier.number, told, len(done), seconds, unsaved)


def resume_times(search: Search, found: list[Attempt]) -> list[float]:
    """Return, for requeued tasks, the seconds from a task's start to the first step of a resumed trial.

    They need a `SteppedSearch`, which notes the starts.
    """
    starts = {}
    for line in (search.directory / "starts").read_text().splitlines():
        token, task, restart, seconds = line.split()
        starts[token, f"slurm:{task}:0", int(restart)] = float(seconds)
    times = []
    for worker, opened in _openings(search).items():
        first = min((one for one in found if one.worker == worker), key=lambda one: one.claimed, default=None)
        start = starts.get((opened.token, opened.seat, opened.restart))
        if first and first.number > 1 and first.steps and opened.restart and start is not None:
            times.append(min(first.steps.values()) - start)
    return times


def _openings(search: Search) -> dict[str, Open]:
    return {worker: record for worker, record in search.records("open") if record.segment == 1}


def wrong_causes(found: list[Attempt]) -> list[str]:
    """Return the attempts that ended for another reason than the scheduler's, one line each."""
    return [words for attempt in found for words in _wrong(attempt)]


def _wrong(attempt: Attempt) -> list[str]:
    said = (end for end in (attempt.end, attempt.given_back) if end is not None and end.state != "done")
    wrong = (end for end in said if end.state != "pending" or end.cause not in SCHEDULER_CAUSES)
    name = f"trial {attempt.trial}, attempt {attempt.number}"
    return [f"{name}: {end.state}({end.cause}): {end.detail}" for end in wrong]


def started_twice(search: Search) -> int:
    """Return how many tasks had more than one worker without a requeue between them."""
    seats = Counter((one.token, one.seat, one.restart) for one in _openings(search).values())
    return sum(count > 1 for count in seats.values())
