"""A trial in words and as JSON. Pure."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from hpc_search.ledger.history import Result
from hpc_search.records import index as codec
from hpc_search.records import journal as lines
from hpc_search.records.plan import Block, Plan
from hpc_search.records.stages import point_words
from hpc_search.strategies.history import points_of, ranges
from hpc_search.strategies.pruning import in_words

if TYPE_CHECKING:
    from hpc_search.search.trials import TrialView

Records = Sequence[tuple[str, lines.AnyRecord]]
_CURVE_ROWS = 12


def as_text(plan: Plan, view: TrialView) -> str:
    """Return parameters, attempts and curve of a trial."""
    trial, entry, result, records, searched = view
    state = codec.STATES[entry.state] if entry is not None else "unknown"
    fold = f", fold {trial.fold}" if trial.fold is not None else ""
    block = plan.block_at(trial.number)
    metric = plan.part(block).metric.name
    of = "".join(f", {what} {name}" for what, name in _place(block).items())
    whole = f"{point_words(trial.point, searched)}{fold}, seed {trial.seed}: {state}"
    rows = [f"trial {trial.number} of {plan.search.name}{of}: {whole}"]
    if result is not None:
        rows.extend(_result(metric, result))
    rows.append("parameters" if trial.known else f"parameters: {trial.unknown}")
    width = max(map(len, trial.params), default=0)
    rows.extend(f"  {name:<{width}}  {value!r}" for name, value in trial.params.items())
    rows.extend(_attempts(records, metric, trial.number))
    rows.extend(_curve(records))
    return "\n".join(rows)


def _place(block: Block) -> dict[str, str]:
    found = {"search": block.part, "stage": block.stage_name}
    return {what: name for what, name in found.items() if name}


def _result(metric: str, result: Result) -> list[str]:
    end = result.end
    if end.state == "done":
        where = f"attempt {end.attempt}, {end.seconds:.2f} s on {end.node}"
        rows = [f"result: {metric} = {end.value!r}, {where}"]
        rows.extend(f"  {name} = {value!r}" for name, value in end.metrics.items() if name != metric)
    else:
        rows = [f"result: {end.state}" + (f" ({end.cause})" if end.cause else "")]
        rows.extend(f"  {line}" for line in end.detail.rstrip().splitlines()[-12:])
    if end.effective:
        rows.append(f"effective: {end.effective}, accumulation {end.accumulation}")
    return rows


def _attempts(records: Records, metric: str, number: int) -> list[str]:
    rows = []
    saves = Counter(record.attempt for _, record in records if isinstance(record, lines.Checkpoint))
    last = {record.attempt: record for _, record in records if isinstance(record, lines.Checkpoint)}
    proposed = [record for _, record in records if isinstance(record, lines.Propose)]
    for worker, record in records:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.t))
        if isinstance(record, lines.Propose) and record is proposed[0]:
            # Everyone who runs the point has written it down.
            rows.append(f"  {when}  point proposed from {_known(record.seen)} (history {record.history})")
        elif isinstance(record, lines.Claim):
            rows.append(f"  {when}  attempt {record.attempt} claimed by {worker}")
        elif isinstance(record, lines.Checkpoint) and record is last[record.attempt]:
            before = f", the last of {saves[record.attempt]} saves" if saves[record.attempt] > 1 else ""
            rows.append(f"  {when}  attempt {record.attempt} saved step {record.step}{before}")
        elif isinstance(record, lines.End):
            words = f" ({record.cause})" if record.cause else ""
            if record.state == "pending" and record.detail:
                words += f": {lines.headline(record.detail)}"
            rows.append(f"  {when}  attempt {record.attempt} ended: {record.state}{words}")
        elif isinstance(record, lines.Verdict):
            at = "" if record.trial == number else f" (found before trial {record.trial})"
            rows.append(f"  {when}  {in_words(record, metric)}{at}")
        elif isinstance(record, lines.Note):
            rows.append(f"  {when}  {record.event} {record.text}".rstrip())
    return ["history", *rows] if rows else ["history", "  not started"]


def _known(seen: str) -> str:
    """Return in words what a point was chosen from: ``0-41;running 42`` as the ledger has it."""
    found = points_of(seen)
    points = ", ".join(f"{ranges(numbers)} ({fate})" for fate, numbers in found.items() if numbers)
    return f"what was known of the points {points}" if points else "nothing"


def _curve(records: Records) -> list[str]:
    steps: dict[int, dict[str, float]] = {}
    for _, record in records:
        if isinstance(record, lines.Report):
            steps[record.step] = record.metrics
    if not steps:
        return []
    order = sorted(steps)
    stride = max(1, -(-len(order) // _CURVE_ROWS))
    shown = sorted({*order[::stride], order[-1]})
    rows = [
        f"  step {step:>6}  " + "  ".join(f"{n} {v:.6g}" for n, v in steps[step].items()) for step in shown
    ]
    return [f"curve ({len(order)} reports)", *rows]


def as_json(plan: Plan, view: TrialView) -> str:
    """Return the trial as one JSON object."""
    trial, entry, _, records, searched = view
    content = {
        "trial": trial.number,
        **_place(plan.block_at(trial.number)),
        "point": trial.point,
        "searched": searched,
        "fold": trial.fold,
        "seed": trial.seed,
        "params": trial.params if trial.known else None,
        "state": codec.STATES[entry.state] if entry is not None else "unknown",
        "attempts": entry.attempt if entry is not None else None,
        "records": [{"worker": worker, **msgspec.to_builtins(record)} for worker, record in records],
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=1).decode()
