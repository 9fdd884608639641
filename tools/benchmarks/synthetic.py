"""Run directories for the benches: planned by the real planner, filled through the real codecs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from hpc_search import planning
from hpc_search.layout import Layout
from hpc_search.ledger import this_process
from hpc_search.ledger.journal import Journal
from hpc_search.planning import Numbering
from hpc_search.records import index, journal
from hpc_search.records.plan import Plan

#: The grid of the DNA search: 5 x 5 x 3^7 = 54,675 points.
DNA_POINTS: Final = 54_675
DNA_SPACE: Final = """\
  learning_rate: [1e-5, 2e-5, 5e-5, 1e-4, 2e-4]
  margin: [0.2, 0.5, 1.0, 1.5, 2.0]
  clusters_per_batch: [5, 10, 20]
  cluster_size: [5, 10, 20]
  density: [10, 30, 50]
  epochs: [5, 10, 20]
  beta1: [0.85, 0.9, 0.95]
  beta2: [0.99, 0.995, 0.999]
  weight_decay: [0.0, 1e-4, 1e-2]
"""
_SEARCH: Final = """\
name: bench
trial: {trial}
metric: {{name: score, goal: max}}
space:
{space}strategy: {strategy}
seeds: [{seeds}]
max_trials: {limit}
"""
REPORTS: Final = 10
#: A trial that does nothing; it must not look like one that forgot to read its parameters.
NOTHING: Final = "def nothing(trial):\n    trial.used(*trial.params)\n    return {'score': 1.0}\n"
_TRACEBACK: Final = """Traceback (most recent call last):
  File "train.py", line 12, in train
    loss = step(batch)
RuntimeError: failure of kind {kind} in batch {number}
"""


def search_text(
    space: str = DNA_SPACE, strategy: str = "grid", seeds: int = 1, trial: str = "bench_trial.py:nothing"
) -> str:
    """Return a search file."""
    listed = ", ".join(map(str, range(seeds)))
    return _SEARCH.format(space=space, strategy=strategy, seeds=listed, trial=trial, limit=100_000_000)


def write_search(place: Path, text: str, code: str = NOTHING) -> Path:
    """Write a search file and the code of its trial below *place*; return the search file."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "bench_trial.py").write_text(code)
    path = place / "search.yaml"
    path.write_text(text)
    return path


def planned(place: Path, text: str, code: str = NOTHING) -> tuple[Layout, Plan]:
    """Plan *text*, whose trials are *code*, into ``place/run`` in this process."""
    made = planning.draft(write_search(place, text, code))
    layout = Layout(place / "run")
    planning.build(made, layout)
    return layout, planning.load_plan(layout)


def dna_run(place: Path, trials: int) -> tuple[Layout, Plan]:
    """Plan the DNA grid with as many seeds as it takes for *trials* trials."""
    return planned(place, search_text(seeds=-(-trials // DNA_POINTS)))


def mark_finished(layout: Layout, plan: Plan, finished: int) -> None:
    """Show the first *finished* trials as done in the index, the cursor behind them; no journals."""
    entry = index.encode_entry(
        index.Entry(state=index.DONE, attempt=1, owner=1, value=0.5, end=1, seconds=0.01)
    )
    with layout.claims.open("r+b") as file:
        file.write(index.encode_header(index.Header(plan.trials, finished, finished)))
        file.write(entry * finished)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The workers that filled a run: how many, whether they were killed in one more trial or exited.

    Every ``failed``-th trial failed (0: none); ``host`` is where they ran ("": here).
    """

    workers: int
    killed: bool = False
    failed: int = 0
    host: str = ""


def fill(layout: Layout, plan: Plan, finished: int, crew: Crew, reports: int = REPORTS) -> None:
    """Finish the first *finished* trials as *crew* would have, with *reports* reports each.

    Journals, claims, ends, acceptances and the index are whole.
    """
    numbering = Numbering(plan)
    entries = bytearray(index.index_bytes(plan.trials))
    cursor = finished + crew.workers if crew.killed else finished
    entries[: index.HEADER_BYTES] = index.encode_header(index.Header(plan.trials, finished, cursor))

    def put(number: int, entry: index.Entry) -> None:
        at = index.entry_offset(number)
        entries[at : at + index.RECORD_BYTES] = index.encode_entry(entry)

    for worker in range(crew.workers):
        identity = f"{worker + 1:016x}"
        layout.worker(identity).mkdir(mode=0o700)
        opening = _opening(plan, identity, crew.host)
        writer = Journal(layout, identity, lambda _, opening=opening: opening)  # type: ignore[misc]
        for number in range(worker, finished, crew.workers):
            failed = bool(crew.failed) and number % crew.failed == 0
            put(
                number,
                _entry(
                    worker + 1, number, _one(writer, numbering, number, identity, reports, failed), failed
                ),
            )
        if crew.killed:
            _claim(writer, numbering, finished + worker)
            running = index.Entry(state=index.RUNNING, attempt=1, owner=worker + 1, changed=int(time.time()))
            put(finished + worker, running)
        else:
            writer.append(journal.Exit(reason="no work left"))
        writer.sync()
        writer.close()
    layout.claims.write_bytes(entries)


def _entry(owner: int, number: int, checksum: str, failed: bool) -> index.Entry:
    return index.Entry(
        state=index.FAILED if failed else index.DONE,
        cause=index.CAUSES.index("error") if failed else 0,
        attempt=1,
        owner=owner,
        value=0.0 if failed else _value(number),
        end=int(checksum, 16),
        seconds=1.5,
        changed=int(time.time()),
    )


def _opening(plan: Plan, worker: str, host: str) -> journal.Open:
    me = this_process()
    return journal.Open(
        worker=worker,
        run_id=plan.run_id,
        segment=1,
        host=host or me.host,
        boot_id="" if host else me.boot_id,
        pid=2**22 + 1,
        start_time=1,
        seat="bench",
        device="cpu",
        versions={"python": "3", "hpc_search": "bench"},
    )


def _value(number: int) -> float:
    return (number * 2654435761 % 2**32) / 2**32


def _claim(writer: Journal, numbering: Numbering, number: int) -> None:
    trial = numbering(number)
    where = {"trial": number, "attempt": 1}
    place = {"point": trial.point, "fold": trial.fold, "seed": trial.seed, "block": trial.block}
    writer.append(msgspec.convert({"k": "claim", **where, **place, "params": trial.params}, journal.Claim))
    writer.append(journal.Start(trial=number, attempt=1, pid=7, log=100 * number))


def _one(writer: Journal, numbering: Numbering, number: int, worker: str, reports: int, failed: bool) -> str:
    trial = numbering(number)
    _claim(writer, numbering, number)
    value = _value(number)
    for step in range(reports):
        metrics = {"score": value * (step + 1) / reports, "loss": 1.0 / (step + 1 + value)}
        writer.append(journal.Report(trial=number, attempt=1, step=step, metrics=metrics))
    end = journal.End(
        trial=number,
        attempt=1,
        state="failed" if failed else "done",
        cause="error" if failed else "",
        detail=_TRACEBACK.format(number=number, kind=number % 7) if failed else "",
        params=trial.params,
        point=trial.point,
        fold=trial.fold,
        seed=trial.seed,
        block=trial.block,
        value=None if failed else value,
        metrics={} if failed else {"score": value, "loss": 1.0 - value},
        step=reports,
        seconds=1.5,
        started=round(time.time(), 3),
        node="node-a",
        device="cpu",
        log=(100 * number, 100 * number + 100),
    )
    checksum = writer.append(end)
    writer.append(journal.Accepted(trial=number, attempt=1, end=checksum, worker=worker))
    return checksum
