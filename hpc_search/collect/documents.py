"""The result documents: what stands in each file of RUN/results; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from hpc_search.collect.audit import iso_time
from hpc_search.collect.columns import Column, json_text, spread
from hpc_search.ledger.history import Result
from hpc_search.records import journal as codec
from hpc_search.records.plan import Plan
from hpc_search.stats import FoldValue, PointScore, Row, rank_points

#: How many points stand in top_k.json.
TOP_K: Final = 10
VERSION: Final = 1


class Outcome(NamedTuple):
    """The finished trials of a run by number, and its points, best first."""

    plan: Plan
    ends: list[codec.End]
    scores: list[PointScore]
    #: Full parameters of each point, as its trials had them.
    params: dict[int, dict[str, Any]]

    @property
    def best(self) -> PointScore | None:
        """The best complete point, None where none is complete."""
        return self.scores[0] if self.scores and self.scores[0].complete else None

    @property
    def reason(self) -> str:
        """Why there is no best point, "" where there is one."""
        if self.best is not None:
            return ""
        if not self.ends:
            return "nothing is finished yet"
        total: Counter[str] = Counter()
        for score in self.scores:
            total.update(score.reasons)
        missing = ", ".join(f"{count} {reason}" for reason, count in sorted(total.items()))
        return f"no point is complete: of its trials are missing {missing}"


def outcome(plan: Plan, results: Mapping[int, Result]) -> Outcome:
    """Return the outcome of *results*; numbers that the plan does not have are left out."""
    ends = [results[number].end for number in sorted(results) if 0 <= number < plan.trials]
    rows = (
        Row(end.trial, end.point, end.fold, end.seed, end.state, end.cause, end.value)
        for end in ends
    )  # fmt: skip
    params: dict[int, dict[str, Any]] = {}
    for end in ends:
        params.setdefault(end.point, end.params)
    scores = rank_points(rows, plan.metric.goal, lambda point: trials_of_point(plan, point))
    return Outcome(plan, ends, scores, params)


def trials_of_point(plan: Plan, point: int) -> int:
    """Return how many trials *point* has: folds x seeds, over every block that has it."""
    return sum(
        max(1, len(block.folds)) * len(block.seeds)
        for block in plan.blocks
        if block.first_point <= point < block.first_point + block.points
    )


def parameter_names(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the parameters in the order of the space, then others by name."""
    names = dict.fromkeys(name for block in plan.blocks for name in block.space.names)
    return [*names, *sorted(_keys(rows) - names.keys())]


def _keys(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    return {name for keys in set(map(tuple, rows)) for name in keys}


def result_columns(found: Outcome) -> list[Column]:
    """Return results.csv: one row a finished trial by number, nothing about how it came to be."""
    ends = found.ends
    params = [end.params for end in ends]
    metrics = [end.metrics for end in ends]
    return [
        Column("trial", [end.trial for end in ends], kind="int"),
        Column("point", [end.point for end in ends], kind="int"),
        Column("fold", [end.fold for end in ends], kind="int"),
        Column("seed", [end.seed for end in ends], kind="int"),
        Column("state", [end.state for end in ends], kind="str"),
        Column("cause", [end.cause for end in ends], kind="str"),
        Column("value", [end.value for end in ends], kind="float"),
        *spread("param_", parameter_names(found.plan, params), params, null="null"),
        *_effective_columns(ends),
        *spread("metric_", sorted(_keys(metrics)), metrics),
    ]


def _effective_columns(ends: Sequence[codec.End]) -> list[Column]:
    rows = [end.effective for end in ends]
    names = sorted(_keys(rows))
    columns = spread("effective_", names, rows, null="null")
    if any(end.accumulation != 1 for end in ends) and "accumulation" not in names:
        columns.append(Column("effective_accumulation", [end.accumulation for end in ends], kind="int"))
    return columns


def attempt_columns(
    attempts: Sequence[Result], results: Mapping[int, Result], openings: Mapping[str, codec.Open]
) -> list[Column]:
    """Return attempts.csv: one row an attempt that ended, the ones given back included."""
    ordered = sorted(attempts, key=lambda result: (result.end.trial, result.end.attempt, result.worker))
    ends = [result.end for result in ordered]
    nobody = codec.Open(worker="", run_id="", segment=0, host="", boot_id="", pid=0, start_time=0)
    opened = [openings.get(result.worker, nobody) for result in ordered]
    return [
        Column("trial", [end.trial for end in ends]),
        Column("attempt", [end.attempt for end in ends]),
        Column("worker", [result.worker for result in ordered]),
        Column("state", [end.state for end in ends]),
        Column("cause", [end.cause for end in ends]),
        Column("result", [results.get(result.end.trial) == result for result in ordered]),
        Column("value", [end.value for end in ends]),
        Column("step", [end.step for end in ends]),
        Column("seconds", [end.seconds for end in ends]),
        Column("started", [iso_time(end.started) if end.started else "" for end in ends]),
        Column("ended", [iso_time(end.t) for end in ends]),
        Column("node", [end.node for end in ends]),
        Column("device", [end.device for end in ends]),
        Column("job", [opening.job_id for opening in opened]),
        Column("seat", [opening.seat for opening in opened]),
        Column("detail", [last_line(end.detail) for end in ends]),
    ]


def last_line(text: str) -> str:
    """Return the last line of *text* that is not blank."""
    lines = text.strip().splitlines() if text else []
    return lines[-1].strip() if lines else ""


def summary_columns(found: Outcome) -> list[Column]:
    """Return summary.csv: one row a point with a finished trial, best first."""
    scores = found.scores
    params = [found.params[score.point] for score in scores]
    return [
        Column("point", [score.point for score in scores]),
        *spread("param_", parameter_names(found.plan, params), params, null="null"),
        Column("mean", [score.mean for score in scores]),
        Column("sd", [score.sd for score in scores]),
        Column("n", [score.n for score in scores]),
        Column("expected", [score.expected for score in scores]),
        Column("complete", [score.complete for score in scores]),
        Column("rank", [score.rank for score in scores]),
        Column("missing", ["; ".join(f"{n} {why}" for why, n in score.reasons.items()) for score in scores]),
    ]


def header(found: Outcome, kind: str) -> dict[str, Any]:
    """Return what every JSON document begins with: format, names, ids, metric, counts."""
    plan = found.plan
    states = Counter(end.state for end in found.ends)
    complete = sum(score.complete for score in found.scores)
    return {
        "format": f"hpc_search.{kind}",
        "version": VERSION,
        "name": plan.search.name,
        "search_id": plan.search_id,
        "run_id": plan.run_id,
        "metric": {"name": plan.metric.name, "goal": plan.metric.goal},
        "trials": plan.trials,
        "finished": len(found.ends),
        **{state: states[state] for state in codec.FINAL},
        "points": plan.points,
        "points_complete": complete,
    }


class _Trial(msgspec.Struct, frozen=True):
    trial: int
    point: int
    fold: int | None
    seed: int
    state: str
    cause: str
    value: float | None
    params: dict[str, Any]
    metrics: dict[str, Any]
    effective: dict[str, Any]


def search_results(found: Outcome) -> bytes:
    """Return search_results.json: the header, and every finished trial on a line of its own."""
    encode = msgspec.json.Encoder().encode
    head = encode(header(found, "search_results"))[:-1]
    trials = b",\n".join(
        encode(
            _Trial(
                end.trial, end.point, end.fold, end.seed, end.state, end.cause, end.value,
                end.params, end.metrics, end.effective,
            )
        )
        for end in found.ends
    )  # fmt: skip
    return head + b',"results":[\n' + trials + b"\n]}\n"


def best_hyperparams(found: Outcome) -> bytes:
    """Return best_hyperparams.json: the best complete point; ``params`` null and a reason without one."""
    best = found.best
    empty = dict.fromkeys(("point", "params", "mean", "sd", "n"))
    body = empty | {"values": []} if best is None else _point(found, best)
    return _pretty(header(found, "best_hyperparams") | body | {"reason": found.reason})


def top_k(found: Outcome) -> bytes:
    """Return top_k.json: the best complete points, at most TOP_K."""
    points = [_point(found, score) for score in found.scores[:TOP_K] if score.complete]
    return _pretty(header(found, "top_k") | {"k": TOP_K, "points": points, "reason": found.reason})


def _point(found: Outcome, score: PointScore) -> dict[str, Any]:
    return {
        "rank": score.rank,
        "point": score.point,
        "params": found.params[score.point],
        "mean": score.mean,
        "sd": score.sd,
        "n": score.n,
        "values": [_value(value) for value in score.values],
    }


def _value(value: FoldValue) -> dict[str, Any]:
    return {"fold": value.fold, "seed": value.seed, "value": value.value}


def _pretty(document: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def show_value(value: object) -> str:
    """Return a parameter's value for a terminal: a text as it is where that is safe, else JSON."""
    return value if isinstance(value, str) and value.isprintable() and value else json_text(value)
