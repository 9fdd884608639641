"""How the points of adaptive strategies come to be: whoever claims a trial of one that has none proposes it.

First the trial is owned, then the proposal published, then it stands in the worker's own journal, durable,
then the trial is claimed there with its parameters. Whoever dies in between leaves a trial without a
result that the next one takes over, and a point that has a proposal or has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import takewhile
from typing import Any, NamedTuple, Protocol

from hpc_search.errors import DamagedError, HpcSearchError, TemporaryError
from hpc_search.ledger.journal import Journal, JournalUnwritableError
from hpc_search.ledger.proposals import Proposals
from hpc_search.records import journal as lines
from hpc_search.records.plan import Block, Plan, PlannedTrial
from hpc_search.records.proposals import Entry, family_of
from hpc_search.records.search import ADAPTIVE


class Proposed(NamedTuple):
    """The parameters of a point; digest and text of the history that they were chosen from."""

    params: dict[str, Any]
    history: str = ""
    seen: str = ""


class Proposer(Protocol):
    """What chooses a point."""

    def __call__(self, point: int, /) -> Proposed | None:
        """Choose *point* from what the run knows now; None where the worker was told to stop meanwhile.

        Raises:
            HpcSearchError: It cannot: a library is missing, or there is no point left.
        """
        ...


class NotProposedError(TemporaryError):
    """A point could not be proposed; its trial was given back."""


class Proposing:
    """One worker's part in it."""

    def __init__(
        self, plan: Plan, log: Proposals, journal: Journal, worker: str, proposer: Proposer | None
    ) -> None:
        """Propose by *proposer*, publish in *log* and write down in *journal* what *worker* runs."""
        self._log = log
        self._journal = journal
        self._worker = worker
        self._proposer = proposer
        self._blocks = [block for block in plan.blocks if block.strategy.kind in ADAPTIVE]
        #: Number of its first trial -> point before which all points of a block are proposed.
        self._cursors: dict[int, int] = {}
        self._told: set[int] = set()

    @property
    def needed(self) -> bool:
        """Whether the plan has points that have to be proposed."""
        return bool(self._blocks)

    def wanted(self, shut: Callable[[int], bool]) -> bool:
        """Return whether a trial may be claimed whose point is to be proposed; not those that are *shut*."""
        if not self._blocks:
            return False
        with suppress(DamagedError):
            # Who has claimed is told so.
            self._log.read()
        return any(self._unproposed(block) and not shut(block.first) for block in self._blocks)

    def _unproposed(self, block: Block) -> bool:
        """Return whether a point of *block* is not proposed yet."""
        end = block.first_point + block.points
        at = self._cursors.get(block.first, block.first_point + max(0, len(block.given) - block.start))
        while at < end and at in self._log.all:
            at += 1
        self._cursors[block.first] = at
        return at < end

    def trials(
        self, attempts: Mapping[int, int], trial_of: Callable[[int], PlannedTrial]
    ) -> dict[int, PlannedTrial]:
        """Return the trials with these *attempts*, all of whose points are proposed, by number.

        Some are missing where the worker was told to stop before they were.

        Raises:
            NotProposedError: A point cannot be proposed.
        """
        settled = (self.settle(trial_of(number), attempt) for number, attempt in attempts.items())
        return {trial.number: trial for trial in takewhile(lambda trial: trial is not None, settled) if trial}

    def settle(self, trial: PlannedTrial, attempt: int) -> PlannedTrial | None:
        """Return *trial* with its point, proposed where that is needed, once the journal says so.

        None where the worker was told to stop before it was.

        Raises:
            NotProposedError: It cannot be.
        """
        try:
            entry = self._entry(trial, attempt)
        except JournalUnwritableError:
            raise
        except Exception as error:
            where = f"point {trial.point}, of trial {trial.number}, could not be proposed"
            words = error.message if isinstance(error, HpcSearchError) else f"{type(error).__name__}: {error}"
            hint = getattr(error, "hint", "") or "put that right, then `submit` again"
            raise NotProposedError(f"{where}: {words}", hint=hint) from error
        if entry is None:
            return trial if trial.known else None
        if entry.entry not in self._told:
            self._tell(entry)
        return trial._replace(params=entry.params, known=True)

    def _entry(self, trial: PlannedTrial, attempt: int) -> Entry | None:
        """Return the entry of the point of *trial*, proposed where it has to be and is not; else None."""
        entry = self._log.settled(trial.point)
        while entry is None and not trial.known:
            if self._proposer is None:
                raise HpcSearchError("nothing here proposes points")
            proposed = self._proposer(trial.point)
            if proposed is None:
                return None
            family = self._family(trial.point)
            if self._log.taken(family, proposed.params):
                # It had seen all that this log has.
                raise HpcSearchError(f"another point has the parameters that were chosen: {proposed.params}")
            entry = self._log.publish(
                Entry(
                    point=trial.point,
                    params=proposed.params,
                    family=family,
                    worker=self._worker,
                    attempt=attempt,
                    history=proposed.history,
                    seen=proposed.seen,
                )
            )
        return entry

    def _family(self, point: int) -> str:
        """Return the search and stage of *point*: no two points of one are equal."""
        for block in self._blocks:
            if block.first_point <= point < block.first_point + block.points:
                return family_of(block)
        raise HpcSearchError("its strategy proposes no points")

    def _tell(self, entry: Entry) -> None:
        """Write the record of *entry*, whoever proposed it: that one may have died before it could."""
        self._journal.append(
            lines.Propose(
                point=entry.point,
                params=entry.params,
                history=entry.history,
                seen=entry.seen,
                entry=entry.entry,
            )
        )
        self._journal.sync()
        self._told.add(entry.entry)
