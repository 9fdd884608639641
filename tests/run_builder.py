"""A run directory made by hand: a plan, journals line by line, an index; no worker and no planner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hpc_search.layout import Layout
from hpc_search.records import index, journal
from hpc_search.records.plan import Block, Plan, encode_plan
from hpc_search.records.search import Metric, Search, StrategySpec, TrialSpec
from hpc_search.space import Choice, Space

HOST = "node-a"


def worker_id(number: int) -> str:
    """Return a worker id: 16 hexadecimal digits."""
    return f"{number:016x}"


class RunBuilder:
    """Writes one run below *root*; journals are kept open in memory until `write`."""

    def __init__(
        self,
        root: Path,
        points: int = 4,
        folds: int = 2,
        goal: str = "max",
        space: Space | None = None,
        run_id: str = "0123456789ab01234567",
    ) -> None:
        """Make the directories and the plan: *points* points x *folds* folds x 1 seed."""
        self.layout = Layout(root)
        self.points = points
        self.folds = folds
        for path in (self.layout.seals, self.layout.submits, self.layout.archive, self.layout.workers):
            path.mkdir(parents=True, exist_ok=True)
        self.space = space or Space(
            dimensions={"width": Choice(values=tuple(range(points)))}, fixed={"epochs": 3}
        )
        block = Block(
            first=0,
            first_point=0,
            points=points,
            folds=tuple(range(folds)) if folds else (),
            seeds=(0,),
            space=self.space,
            strategy=StrategySpec(kind="grid"),
        )
        search = Search(
            name="example",
            trial=TrialSpec(callable="train.py:train"),
            metric=Metric(name="val_acc", goal="min" if goal == "min" else "max"),
            space=self.space,
            strategy=block.strategy,
        )
        self.plan = Plan(
            search_id=run_id[:12],
            run_id=run_id,
            created=1.0,
            search=search,
            blocks=(block,),
            points=points,
            trials=block.trials,
        )
        self.layout.plan.write_bytes(encode_plan(self.plan))
        self.lines: dict[str, list[bytes]] = {}
        self.entries: dict[int, index.Entry] = {}

    def append(self, worker: int, record: journal.Record, t: float | None = None) -> str:
        """Add *record* to the journal of *worker*, numbered; return its checksum."""
        lines = self.lines.setdefault(worker_id(worker), [])
        if not lines:
            lines.append(journal.encode_line(self._opening(worker)))
        fields = {name: getattr(record, name) for name in record.__struct_fields__}
        fields |= {"n": len(lines), "t": 1000.0 + len(lines) if t is None else t}
        line = journal.encode_line(type(record)(**fields))
        lines.append(line)
        return line[-19:-3].decode()

    def _opening(self, worker: int) -> journal.Open:
        return journal.Open(
            t=1000.0,
            worker=worker_id(worker),
            run_id=self.plan.run_id,
            segment=1,
            host=HOST,
            boot_id="boot",
            pid=100 + worker,
            start_time=1,
            seat=f"local:{worker}",
            device="cpu",
        )

    def params(self, trial: int) -> dict[str, Any]:
        """Return the parameters of *trial*."""
        return {"width": trial % self.points, "epochs": 3}

    def end(
        self,
        trial: int,
        value: float | None = None,
        *,
        worker: int = 1,
        attempt: int = 1,
        state: str = "done",
        accept: bool = True,
        reports: int = 0,
        t: float | None = None,
        **more: Any,
    ) -> str:
        """Claim and end *trial*; mark it in the index and, with *accept*, in the journal."""
        params = more.pop("params", self.params(trial))
        point = more.pop("point", trial % self.points)
        fold = more.pop("fold", trial // self.points if self.folds else None)
        place: dict[str, Any] = {"trial": trial, "attempt": attempt, "point": point, "fold": fold}
        self.append(worker, journal.Claim(params=params, **place), t)
        self.append(worker, journal.Start(trial=trial, attempt=attempt, pid=7), t)
        for step in range(reports):
            metrics = {"val_acc": step / 10, "loss": 1.0 / (step + 1)}
            self.append(worker, journal.Report(trial=trial, attempt=attempt, step=step, metrics=metrics), t)
        more.setdefault("metrics", {} if value is None else {"val_acc": value})
        fields: dict[str, Any] = {"seconds": 2.0, "started": 900.0, "node": HOST, "device": "cpu"} | more
        record = journal.End(state=state, params=params, value=value, **place, **fields)  # type: ignore[arg-type]
        checksum = self.append(worker, record, t)
        if accept and state in journal.FINAL:
            accepted = journal.Accepted(trial=trial, attempt=attempt, end=checksum, worker=worker_id(worker))
            self.append(worker, accepted, t)
            self.mark(
                trial,
                state=index.STATES.index(state),
                cause=index.CAUSES.index(record.cause),
                attempt=attempt,
                owner=worker,
                value=value or 0.0,
                end=int(checksum, 16),
                seconds=record.seconds,
                changed=int(1000 + trial if t is None else t),
            )
        return checksum

    def mark(self, trial: int, **fields: Any) -> None:
        """Put *trial* into the index."""
        self.entries[trial] = index.Entry(**fields)

    def write(
        self, *, torn: Mapping[int, bytes] | None = None, workers: Iterable[int] | None = None
    ) -> Layout:
        """Write journals and index; *torn* bytes stand at the end of a worker's journal."""
        for worker, lines in self.lines.items():
            if workers is not None and int(worker, 16) not in workers:
                continue
            self.layout.worker(worker).mkdir(exist_ok=True)
            tail = (torn or {}).get(int(worker, 16), b"")
            self.layout.journal(worker, 1).write_bytes(b"".join(lines) + tail)
        finals = sum(entry.final for entry in self.entries.values())
        data = bytearray(index.index_bytes(self.plan.trials))
        data[: index.HEADER_BYTES] = index.encode_header(index.Header(self.plan.trials, finals))
        for number, entry in self.entries.items():
            at = index.entry_offset(number)
            data[at : at + index.RECORD_BYTES] = index.encode_entry(entry)
        self.layout.claims.write_bytes(data)
        return self.layout
