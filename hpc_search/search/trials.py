"""One trial: what is known of it, its log, and running it again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hpc_search import durable
from hpc_search.errors import UsageError
from hpc_search.ledger import history, read_trial, snapshots
from hpc_search.ledger.gates import Gates
from hpc_search.records import journal as lines
from hpc_search.records.index import Entry
from hpc_search.records.plan import PlannedTrial
from hpc_search.search.clones import clone, ends
from hpc_search.search.runs import Run
from hpc_search.space import canonical
from hpc_search.steering.points import Points
from hpc_search.strategies.catalog import names_of


class TrialView(NamedTuple):
    """Everything that is known of one trial."""

    trial: PlannedTrial
    entry: Entry | None
    result: history.Result | None
    records: list[tuple[str, lines.AnyRecord]]
    #: In a refit the point of the search that this is again.
    searched: int | None


def view_trial(run: Run, number: int) -> TrialView:
    """Return what the plan, the index and the journals say of trial *number*."""
    points = Points(run.layout, run.plan)
    planned = points(number)
    of_point = points.of_point(planned.point)
    needle = b'"trial":%d,' % number
    found: list[tuple[str, lines.AnyRecord]] = []
    for line in history.lines(run.layout):
        if needle in line.data or lines.kind(line.data) in (b"propose", b"verdict"):
            record = lines.parse_line(line.data)
            about = record.point == planned.point if isinstance(record, lines.Propose) else False
            if isinstance(record, lines.Verdict) and record.race is not None:
                about = record.trial in of_point
            if record is not None and (about or getattr(record, "trial", None) == number):
                found.append((line.worker, record))
    found.sort(key=lambda pair: (getattr(pair[1], "attempt", 0) or 0, pair[1].t, pair[1].n))
    result = history.results(run.layout).get(number)
    entry = read_trial(run.layout, run.plan.trials, number)
    opened = Gates(run.layout, run.plan).opened(run.plan.blocks.index(run.plan.block_at(number)))
    searched = opened.point if opened is not None else None
    return TrialView(_as_run(planned, result, found), entry, result, found, searched)


def _as_run(
    planned: PlannedTrial, result: history.Result | None, records: list[tuple[str, lines.AnyRecord]]
) -> PlannedTrial:
    """Return the trial with the parameters that it ran with: its stage may have to be opened anew."""
    of_result = (result.end.params,) if result is not None else ()
    of_claims = (record.params for _, record in reversed(records) if isinstance(record, lines.Claim))
    params = next(filter(None, (*of_result, *of_claims)), None)
    return planned if params is None else planned._replace(params=params, known=True)


def read_log(run: Run, worker: str, span: tuple[int, int]) -> str:
    """Return the part *span* of a worker's log, from its directory or the archive."""
    data = history.log_bytes(run.layout, worker)
    return data[span[0] : span[1]].decode(errors="replace") if data is not None else ""


def find_number(run: Run, params: Mapping[str, Any], fold: int | None, seed: int) -> int | None:
    """Return the number of the trial with these parameters, fold and seed; None where there is none."""
    wanted = canonical(dict(params))
    numbering = Points(run.layout, run.plan)
    for block in run.plan.blocks:
        for local in range(block.points):
            first = numbering(block.first + local * len(block.seeds))
            if first.known and canonical(first.params) == wanted:
                return _number_of(block, local, fold, seed)
    return None


def _number_of(block: Any, local: int, fold: int | None, seed: int) -> int | None:
    if seed not in block.seeds or (block.folds and fold not in block.folds):
        return None
    fold_index = block.folds.index(fold) if block.folds else 0
    number: int = (
        block.first + (fold_index * block.points + local) * len(block.seeds) + block.seeds.index(seed)
    )
    return number


class Reran(NamedTuple):
    """The outcome of a rerun beside the recorded result."""

    trial: PlannedTrial
    directory: Path
    end: lines.End | None
    recorded: lines.End | None
    changed: bool

    def text(self) -> str:
        """Return both values and whether they are equal."""
        return rerun_text(self)

    @property
    def equal(self) -> bool | None:
        """Whether both ended with the same value, to the last bit; None where one has none."""
        if self.end is None or self.recorded is None or self.changed:
            return None
        if self.recorded.state == "pruned" or self.end.state == self.recorded.state != "done":
            return None
        if self.end.value is None and self.recorded.value is None:
            # What trains the chosen point again may give none.
            return None
        return (self.end.state, self.end.value) == (self.recorded.state, self.recorded.value)


def rerun(run: Run, number: int, params: Mapping[str, Any] | None = None) -> Reran:
    """Run trial *number* again, alone, into RUN/reruns/; the ledger is not touched.

    With *params* it runs with these parameters instead of the planned ones.

    Raises:
        UsageError: Its point is not proposed yet.
    """
    from hpc_search.worker import Supervisor, WorkerOptions

    recorded = history.results(run.layout).get(number)
    planned = _as_run(Points(run.layout, run.plan)(number), recorded, [])
    if params is None:
        _refuse_unknown(planned)
    changed = params is not None and canonical(dict(params)) != canonical(planned.params)
    code = snapshots.code_of_worker(run.layout, recorded.worker) if recorded is not None else ""
    layout = clone(run, f"{number:06d}", code)
    override = planned._replace(params=dict(params), known=True) if params is not None else planned
    # Packages that differ are told: whether they matter is what is asked.
    options = WorkerOptions(seat="rerun", only=number, override=override, any_packages=True)
    Supervisor(layout, run.plan, options).run()
    found = ends(layout)
    return Reran(
        planned, layout.root, found[-1] if found else None, recorded.end if recorded else None, changed
    )


def check_one(run: Run, *, discard: bool = False) -> str:
    """Import the code and run trial 0 to its first report or its end; return one sentence.

    With *discard* a run whose trial fails is removed, so that the corrected code can be planned in its place.

    Raises:
        UsageError: It failed; the end of its traceback is shown.
    """
    from hpc_search.worker import Supervisor, WorkerOptions
    from hpc_search.worker.intake import CHECKED

    layout = clone(run, f"{0:06d}")
    options = WorkerOptions(seat="check", only=0, to_first_report=True)
    try:
        Supervisor(layout, run.plan, options).run()
        found = ends(layout)
        stopped = layout.stop.read_text() if layout.stop.exists() else ""
    finally:
        shutil.rmtree(layout.root, ignore_errors=True)
    end = found[-1] if found else None
    if end is not None and not stopped and (end.state == "done" or end.detail.startswith(CHECKED)):
        words = "ended" if end.state == "done" else "reached its first report"
        said = f"checked: trial 0 {words} in {end.seconds:.2f} s"
        names = end.detail.removeprefix(f"{CHECKED}: ")
        metric = run.plan.part(run.plan.blocks[0]).metric.name
        if end.state != "done" and metric not in names.split(", "):
            said += f"\n  it has {names}, not the metric {metric}: the trial has to return that"
        return said
    if discard:
        durable.take_away(run.path)
        hint = f"correct it, then plan again; {run.path} was removed"
    else:
        hint = "correct it, then plan into another directory (--run DIR): a run keeps the code of its plan"
    detail = stopped.partition("\n")[0] or (end.detail.rstrip() if end is not None else "it did not start")
    raise UsageError(f"check: trial 0 failed: {detail}", hint=hint)


def rerun_text(outcome: Reran) -> str:
    """Return what a rerun gave, beside the recorded result."""
    end, recorded = outcome.end, outcome.recorded
    if outcome.changed:
        trial = outcome.trial
        where = f"fold {trial.fold} and seed {trial.seed}" if trial.fold is not None else f"seed {trial.seed}"
        head = f"parameters of your own, with {where} of trial {trial.number}, ran in {outcome.directory}"
        return f"{head}\n  now       {_ending(end)}"
    rows = [f"trial {outcome.trial.number} ran again in {outcome.directory}"]
    rows.append(f"  now       {_ending(end)}")
    rows.append(f"  recorded  {_ending(recorded)}")
    if outcome.equal is None:
        rows.append("  not compared: there are not two values")
    else:
        rows.append("  equal to the last bit" if outcome.equal else "  DIFFERENT")
    return "\n".join(rows)


def _ending(end: lines.End | None) -> str:
    if end is None:
        return "no result"
    if end.state == "done":
        return f"done, value {end.value!r}, {end.seconds:.2f} s"
    return f"{end.state} ({end.cause}): {lines.headline(end.detail)}"


def which_trial(run: Run, text: str) -> tuple[int, dict[str, Any] | None]:
    """Return the number, and the parameters where *text* is a YAML file of `show --yaml`.

    Raises:
        UsageError: Neither a number nor such a file, or no trial of the run has its fold and seed.
    """
    if text.isdecimal():
        return int(text), None
    path = Path(text)
    if not path.is_file():
        hint = f"a number from 0 to {run.plan.trials - 1}, or a file that `show RUN TRIAL --yaml` printed"
        raise UsageError(f"{text!r} is neither a trial's number nor a file", hint=hint)
    from hpc_search.config import load_point

    point = load_point(path)
    _check_names(run, path, point["parameters"])
    number = find_number(run, point["parameters"], point["fold"], point["seed"])
    if number is None:
        number = find_seat(run, point["fold"], point["seed"])
    if number is None:
        fold, seed = point["fold"], point["seed"]
        words = f"fold {fold} and seed {seed}" if fold is not None else f"seed {seed}"
        raise UsageError(f"{path}: the run has no trial with {words}")
    return number, point["parameters"]


def _check_names(run: Run, path: Path, given: Mapping[str, Any]) -> None:
    """Refuse parameters that are those of none of the run's searches; the nearest one is told."""
    parts = [names_of(part.strategy, part.space) for part in run.plan.search.parts]
    names = min(parts, key=lambda names: len(set(names) ^ set(given)))
    unknown = sorted(set(given) - set(names))
    # Not every point has what is conditional.
    missing = sorted(set(names) - set(given) - run.plan.search.space.conditional)
    if unknown or missing:
        words = [
            f"{word} {', '.join(found)}"
            for word, found in (("unknown", unknown), ("missing", missing))
            if found
        ]
        message = f"{path}: these are not the parameters of the search: {'; '.join(words)}"
        raise UsageError(message, hint=f"the search has: {', '.join(names)}")


def find_seat(run: Run, fold: int | None, seed: int) -> int | None:
    """Return the first trial with this fold and seed, whose place parameters of one's own take."""
    for block in run.plan.blocks:
        number = _number_of(block, 0, fold, seed)
        if number is not None:
            return number
    return None


def standalone(run: Run, view: TrialView) -> str:
    """Return the trial as a YAML file that `rerun` accepts.

    Raises:
        UsageError: Its point is not proposed yet.
    """
    from hpc_search.config import dump_point

    trial = view.trial
    _refuse_unknown(trial)
    return dump_point(trial.params, fold=trial.fold, seed=trial.seed, search=run.plan.search.name)


def _refuse_unknown(trial: PlannedTrial) -> None:
    if not trial.known:
        message = f"trial {trial.number}: point {trial.point} has no parameters: {trial.unknown}"
        raise UsageError(
            message, hint="it gets them when a worker claims it; `status RUN` says how far it is"
        )


def last_log(run: Run, view: TrialView) -> str:
    """Return the output of the last attempt that has one."""
    for worker, record in reversed(view.records):
        if isinstance(record, lines.End) and record.log[1] > record.log[0]:
            return read_log(run, worker, record.log)
        if isinstance(record, lines.Start):
            return read_log(run, worker, (record.log, 1 << 62))
    return ""


def log_tail(run: Run, view: TrialView, rows: int = 20) -> str:
    """Return the last lines of the log, with a heading; "" where nothing was printed."""
    text = last_log(run, view).rstrip()
    if not text:
        return ""
    found = text.splitlines()
    head = f"\nlog (last {rows} of {len(found)} lines)" if len(found) > rows else "\nlog"
    return "\n".join([head, *(f"  {line}" for line in found[-rows:])])
