"""A planned run without a planner or workers, and ledgers of workers that live or are dead on purpose."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hpc_search.layout import Layout
from hpc_search.ledger import Claimed, Identity, Ledger, finals, history, new_index, read_state, this_process
from hpc_search.mounts import Claiming
from hpc_search.planning import Numbering
from hpc_search.records import index
from hpc_search.records import journal as lines
from hpc_search.records.index import Entry
from hpc_search.records.plan import Block, Plan
from hpc_search.records.search import Metric, Retry, Search, StrategySpec, TrialSpec
from hpc_search.space import Choice, Space

#: No process has this number: Linux gives at most 2**22.
NO_PID = 2**22 + 1


class Waits(NamedTuple):
    """A block of a plan: its trials, the position of the one that it waits for, the search it is part of.

    With ``folds`` so many trials are of each.
    """

    trials: int
    needs: int | None = None
    part: str = ""
    folds: tuple[int, ...] = ()


class LedgerRun:
    """One run below *root*; `ledger` joins it as another worker."""

    def __init__(
        self,
        root: Path,
        trials: int = 6,
        retry: Retry | None = None,
        lease: float = 900.0,
        claiming: Claiming = "lock",
        blocks: Sequence[Waits] = (),
    ) -> None:
        self.layout = Layout(root)
        for name in ("ledger/seals", "ledger/archive", "workers", "samples", "checkpoints"):
            (root / name).mkdir(parents=True)
        blocks = blocks or (Waits(trials),)
        trials = sum(one.trials * max(1, len(one.folds)) for one in blocks)
        space = Space({"x": Choice(tuple(range(trials)))})
        search = Search(
            name="example",
            trial=TrialSpec(callable="train.py:train"),
            metric=Metric(name="acc", goal="max"),
            space=space,
            strategy=StrategySpec("grid"),
            retry=retry or Retry(),
            lease=lease,
        )
        names = dict.fromkeys(one.part for one in blocks)
        parts = tuple(msgspec.structs.replace(search.parts[0], name=name) for name in names)
        self.plan = Plan(
            search_id="5ea4c4",
            run_id="5ea4c4-1d",
            created=1.0,
            search=msgspec.structs.replace(search, searches=parts) if len(parts) > 1 else search,
            blocks=tuple(_blocks(blocks, search)),
            points=trials,
            trials=trials,
            claiming=claiming,
        )
        self.numbering = Numbering(self.plan)
        if claiming == "lock":
            self.new_index()
        else:
            self.layout.open.mkdir()
        self._seats = count()
        self._open: list[Ledger] = []

    def new_index(self) -> None:
        """Put an untouched index in place."""
        head, size = new_index(self.plan.trials)
        self.layout.claims.write_bytes(head)
        os.truncate(self.layout.claims, size)

    def identity(self, **more: Any) -> Identity:
        """Return this process on a seat of its own; *more* changes it."""
        return replace(this_process("token", f"local:{next(self._seats)}", "cpu"), **more)

    def ledger(self, folds: Sequence[int] = (), **more: Any) -> Ledger:
        """Join as a new worker, with *folds* for these alone."""
        me = self.identity(**more)
        ledger = Ledger(self.layout, self.plan, self.numbering, me, lock_timeout=20, folds=folds)
        self._open.append(ledger)
        return ledger

    def mortal(self) -> Ledger:
        """Join as a worker whose process is gone already, for all that others can see."""
        return self.ledger(pid=NO_PID)

    def close(self) -> None:
        """Close every descriptor."""
        for ledger in self._open:
            ledger.close()

    def entries(self) -> list[Entry]:
        """Return the index."""
        return read_state(self.layout, self.plan.trials)[1]

    def states(self) -> list[str]:
        """Return the state of every trial by the index."""
        return [index.STATES[entry.state] for entry in self.entries()]

    def finals(self) -> int:
        """Return the header's count of final trials."""
        return finals(self.layout)

    def records(self, *kinds: str) -> Iterator[lines.AnyRecord]:
        """Yield the records of these kinds in all journals."""
        wanted = frozenset(kind.encode() for kind in kinds)
        for line in history.lines(self.layout, wanted):
            record = lines.parse_line(line.data)
            assert record is not None
            yield record


def _blocks(blocks: Sequence[Waits], search: Search) -> Iterator[Block]:
    first = 0
    for one in blocks:
        yield Block(
            first=first,
            first_point=first,
            points=one.trials,
            folds=one.folds,
            seeds=(0,),
            space=search.space,
            strategy=search.strategy,
            digest="b10c",
            needs=one.needs,
            stage=int(one.needs is not None),
            stage_name="second" if one.needs is not None else "first",
            part=one.part,
        )
        first += one.trials * max(1, len(one.folds))


def end_of(claimed: Claimed, state: str = "done", value: float | None = 0.5, **more: Any) -> lines.End:
    """Return the end record of an attempt."""
    trial = claimed.trial
    fields: dict[str, Any] = {"value": value if state == "done" else None, "seconds": 1.0} | more
    return lines.End(
        trial=trial.number,
        attempt=claimed.attempt,
        state=state,  # type: ignore[arg-type]
        params=trial.params,
        point=trial.point,
        seed=trial.seed,
        **fields,
    )


def flip(path: Path, offset: int) -> None:
    """Change one bit of a file in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def without_times(entries: list[Entry]) -> list[tuple[Any, ...]]:
    """Return what must be equal after a rebuild: everything but the time of the change."""
    return [tuple(msgspec.to_builtins(entry._replace(changed=0))) for entry in entries]
