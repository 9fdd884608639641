"""Running what looks at the test side: beside the run, with its sources, on a copy of each state."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import structs

from hpc_search.errors import DamagedError, SearchFailedError
from hpc_search.layout import Layout
from hpc_search.ledger import history, read_state
from hpc_search.ledger.samples import read_samples
from hpc_search.records import index as codec
from hpc_search.records import journal as lines
from hpc_search.records.plan import Plan, PlannedTrial
from hpc_search.records.samples import Samples
from hpc_search.records.search import Budget, Part, TrialSpec
from hpc_search.records.vault import Unit
from hpc_search.search import states
from hpc_search.search.clones import clone
from hpc_search.search.runs import Run


class Gave(NamedTuple):
    """What one state gave on the test side."""

    unit: Unit
    metrics: dict[str, float]
    samples: Samples | None


def testing_plan(plan: Plan) -> Plan:
    """Return *plan* with what tests in place of what trains, and nothing that ends it early."""
    search = structs.replace(plan.search, trial=_tests(plan.search.parts[0]), budget=Budget())
    if search.searches:
        parts = tuple(structs.replace(part, trial=_tests(part)) for part in search.searches)
        search = structs.replace(search, searches=parts)
    return structs.replace(plan, search=search)


def _tests(part: Part) -> TrialSpec:
    return part.test or part.trial


def evaluate(run: Run, units: Sequence[Unit], name: str) -> list[Gave]:
    """Return what *units* give, one after the other; RUN/checkpoints and the ledger are not touched.

    The copies are removed again, those of a test that failed stay below RUN/reruns, called *name*, until the
    next one.

    Raises:
        SearchFailedError: One of them gave no metrics: what it said is shown.
        DamagedError: The states are not those of *units*.
    """
    for path in run.layout.reruns.glob(f"{name}-*"):
        shutil.rmtree(path, ignore_errors=True)
    layout = clone(run, name)
    entries = read_state(run.layout, run.plan.trials)[1]
    for unit in units:
        # The next attempt may load the states of all before it.
        entry = entries[unit.trial]._replace(state=codec.PENDING, owner=0, value=0.0, end=0)
        with open(layout.claims, "r+b") as file:
            os.pwrite(file.fileno(), codec.encode_entry(entry), codec.entry_offset(unit.trial))
        shutil.copytree(run.layout.checkpoint_dir(unit.trial), layout.checkpoint_dir(unit.trial))
    # Between the look at them and this a person was asked.
    if wrong := states.changed(layout, tuple(units)):
        message = "what was refitted was changed meanwhile:" + "".join(f"\n  {one}" for one in wrong)
        raise DamagedError(message, hint="put the files back, and the same `test` goes on with this opening")
    plan = testing_plan(run.plan)
    found = [_one(layout, plan, unit) for unit in units]
    shutil.rmtree(layout.root, ignore_errors=True)
    return found


def _one(layout: Layout, plan: Plan, unit: Unit) -> Gave:
    from hpc_search.worker import Supervisor, WorkerOptions

    trial = PlannedTrial(unit.trial, unit.point, unit.fold, unit.seed, unit.params)
    options = WorkerOptions(seat="test", only=unit.trial, override=trial, testing=True, any_packages=True)
    Supervisor(layout, plan, options).run()
    ends = [
        (record, line.worker)
        for line in history.lines(layout, frozenset({b"end"}))
        if isinstance(record := lines.parse_line(line.data), lines.End) and record.trial == unit.trial
    ]
    end, worker = ends[-1] if ends else (None, "")
    if end is None or end.state != "done" or not end.metrics:
        raise _failed(layout, unit, end)
    samples = read_samples(layout, worker, end.samples) if end.samples is not None else None
    return Gave(unit, {name: float(value) for name, value in end.metrics.items()}, samples)


def _failed(layout: Layout, unit: Unit, end: lines.End | None) -> SearchFailedError:
    words = "it gave no result"
    if layout.stop.exists():
        words = layout.stop.read_text().strip()
    elif end is not None:
        words = end.detail.rstrip() if end.state != "done" else "it returned no metric"
    return SearchFailedError(
        f"the test of trial {unit.trial} failed: {words}",
        hint=f"its log is in {layout.root}; correct it, take the corrected code with "
        "`hpc-search submit RUN --resnapshot`, and the same `test` goes on with this opening",
    )
