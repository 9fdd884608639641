"""What the two ways of claiming have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from hpc_search.records import journal as lines
from hpc_search.records.index import Entry
from hpc_search.records.plan import PlannedTrial


class Mark(NamedTuple):
    """A change that the shared state does not show yet; without a *record*, that the trial was started."""

    record: lines.End | None
    checksum: str
    number: int
    attempt: int
    worker: str

    @property
    def gives_back(self) -> bool:
        """Whether its trial is open again."""
        return self.record is not None and self.record.state not in lines.FINAL


class Taken(NamedTuple):
    """Trials with what they were before, and lines for the journal."""

    trials: list[tuple[int, Entry]]
    records: list[lines.Record]


class Writer(Protocol):
    """The journal and the waiting marks of the worker that a book is kept for."""

    def finish(self, end: lines.End) -> str:
        """Make *end* durable and queue its mark; return its checksum."""

    def finish_all(self, ends: Sequence[lines.End]) -> list[str]:
        """Do that with *ends* by one fsync."""

    def queue(self, mark: Mark) -> None:
        """Have *mark* written with the next ones."""

    def flush(self) -> None:
        """Write every waiting mark."""

    def note(self, event: str, text: str = "") -> None:
        """Put an event into the audit log."""


class Book(Protocol):
    """Who owns which trial, and which end is its result: shared by all workers of a run."""

    @property
    def name(self) -> str:
        """How it claims: "lock" or "exclusive"."""

    @property
    def waits(self) -> float:
        """Seconds until trials may be claimed, 0 or less where they may now."""

    def settle(self, marks: Sequence[Mark]) -> list[lines.Record]:
        """Write *marks*; return what the journal has to say of them."""

    def take(self, marks: Sequence[Mark], limit: int, only: int | None) -> Taken:
        """Write *marks*, then own up to *limit* trials, or the trial *only*."""

    def take_away(self, numbers: Sequence[int]) -> list[tuple[int, Entry]]:
        """Return those of the trials *numbers* without a result, whoever has them, for this worker to end."""

    def take_paused(self, numbers: Sequence[int], *, to_end: bool) -> list[tuple[int, Entry]]:
        """Own those of the trials *numbers* that are paused, to run or to end them; return what they were."""

    def recover(self) -> int:
        """Take over or finish what dead workers left; return how many trials were touched."""

    def reconcile(self, *, whole: bool = False) -> int:
        """Show every end record that the journals hold; return how many were missing.

        Unless it shall be the *whole*, what earlier ones have read may be left out.
        """

    def owns(self, number: int, attempt: int) -> bool:
        """Return whether nobody has taken *number* over since *attempt* and it has no result."""

    def reserved(self) -> dict[int, int]:
        """Return the trials that are owned and not yet handed out, with their next attempt."""

    def contradiction(self, held: Mapping[int, int]) -> str:
        """Return what cannot be where locks exclude: another owner of one of the *held* attempts; else ""."""

    def let_go(self) -> None:
        """Forget the reserved trials that others took over."""

    def counts(self) -> tuple[int, int]:
        """Return (trials, final trials)."""

    def anything_open(self) -> bool:
        """Return whether a trial is not final, wherever it stands."""

    def left(self) -> int:
        """Return how many trials are not final, without those behind gates."""

    def pending_estimate(self) -> int:
        """Return about how many trials can be claimed now."""

    def close(self) -> None:
        """Close every descriptor."""


def accepted_line(number: int, attempt: int, end: str, worker: str) -> lines.Accepted:
    """Return the line that says which end record is the result of trial *number*."""
    return lines.Accepted(trial=number, attempt=attempt, end=end, worker=worker)


def superseded(mark: Mark) -> lines.Note:
    """Return the line that says that *mark* came too late."""
    return lines.Note(event="superseded", trial=mark.number, attempt=mark.attempt)


def end_line(trial: PlannedTrial, attempt: int, state: lines.EndState, **more: Any) -> lines.End:
    """Return the end record of an *attempt* at *trial* of which no more than that is known here."""
    return lines.End(
        trial=trial.number,
        attempt=attempt,
        state=state,
        params=trial.params,
        point=trial.point,
        fold=trial.fold,
        seed=trial.seed,
        block=trial.block,
        **more,
    )
