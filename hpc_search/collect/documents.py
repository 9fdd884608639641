"""The result documents: what stands in each file of RUN/results; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from hpc_search.collect import staged
from hpc_search.collect.columns import Column, in_parts, json_text, picked, spread
from hpc_search.collect.outcome import Outcome, keys_of
from hpc_search.collect.pareto import ParetoPoint, mean_columns, rank_column
from hpc_search.collect.provenance import slice_columns
from hpc_search.collect.reading import Attempt, Attempts
from hpc_search.collect.selection import Judgement
from hpc_search.collect.times import iso_seconds
from hpc_search.records import journal as codec
from hpc_search.stats import FoldValue, PointScore

#: How many points stand in top_k.json.
TOP_K: Final = 10
VERSION: Final = 1


class View(NamedTuple):
    """The outcome of one search, or of all together, and what can be said of its points."""

    found: Outcome
    judged: Judgement

    @property
    def name(self) -> str:
        """The name of the search, "" of the only one or of all together."""
        return self.found.part.name if self.found.part is not None else ""


def result_columns(found: Outcome) -> list[Column]:
    """Return results.csv: one row a finished trial by number, nothing about how it came to be.

    But for ``code``, the digest of its sources, where they are not the same for all.
    """
    ends = found.ends
    nothing: dict[str, Any] = {}
    metrics = [end.metrics or nothing for end in ends]
    return [
        Column("trial", [end.trial for end in ends], kind="int"),
        *staged.columns(found.plan, found.blocks, [end.point for end in ends]),
        Column("point", [end.point for end in ends], kind="int"),
        Column("fold", [end.fold for end in ends], kind="int"),
        Column("seed", [end.seed for end in ends], kind="int"),
        Column("state", [end.state for end in ends], kind="str"),
        Column("cause", [end.cause for end in ends], kind="str"),
        Column("value", [end.value for end in ends], kind="float"),
        *picked(found.parameters, found.which),
        *_effective_columns(ends),
        *spread("metric_", sorted(keys_of(metrics)), metrics),
        *rank_column(found.fronts, [end.point for end in ends]),
        *picked(slice_columns(found.slices), found.on),
        *([Column("code", found.codes, kind="str")] if found.mixed else []),
    ]


def _effective_columns(ends: Sequence[Attempt]) -> list[Column]:
    nothing: dict[str, Any] = {}
    rows = [end.effective or nothing for end in ends]
    names = sorted(keys_of(rows))
    columns = spread("effective_", names, rows, null="null")
    accumulation = [end.accumulation for end in ends]
    if set(accumulation) - {1} and "accumulation" not in names:
        columns.append(Column("effective_accumulation", accumulation, kind="int"))
    return columns


def attempt_columns(attempts: Attempts) -> list[Column]:
    """Return attempts.csv: one row an attempt that ended, the ones given back included."""
    results, openings = attempts.results, attempts.openings
    ends = attempts.ends
    if len(results) < len(ends):
        # Several of one trial.
        ends = sorted(ends, key=attrgetter("trial", "attempt", "worker", "checksum"))
    jobs = {worker: (opening.job_id, opening.seat) for worker, opening in openings.items()}
    opened = [jobs.get(end.worker, ("", "")) for end in ends]
    return [
        Column("trial", [end.trial for end in ends]),
        Column("attempt", [end.attempt for end in ends]),
        Column("worker", [end.worker for end in ends]),
        Column("state", [end.state for end in ends]),
        Column("cause", [end.cause for end in ends]),
        Column("result", [results.get(end.trial) is end for end in ends]),
        Column("value", [end.value for end in ends]),
        Column("step", [end.step for end in ends]),
        Column("seconds", [end.seconds for end in ends]),
        Column("started", iso_seconds([end.started for end in ends])),
        Column("ended", iso_seconds([end.ended for end in ends])),
        Column("node", [end.node for end in ends]),
        Column("device", [end.device for end in ends]),
        Column("job", [job for job, _ in opened]),
        Column("seat", [seat for _, seat in opened]),
        Column("code", [attempts.codes.get(end.worker, "") for end in ends]),
        Column("detail", [end.detail and codec.headline(end.detail) for end in ends]),
    ]


def summary_columns(found: Outcome) -> list[Column]:
    """Return summary.csv: one row a point with a finished trial, best first."""
    names = ("point", "mean", "sd", "n", "expected", "complete", "rank", "reasons")
    # Best first they lie all over the memory: each is visited once.
    rows = list(map(attrgetter(*names), found.scores))
    of = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(names, ())
    points = of["point"]
    return [
        *staged.columns(found.plan, found.ranked, points),
        Column("point", points),
        *picked(found.parameters, [found.of_point[point] for point in points]),
        *(Column(name, of[name]) for name in names[1:-1]),
        *mean_columns(found.fronts, points),
        *rank_column(found.fronts, points),
        Column("missing", [_missing(reasons) if reasons else "" for reasons in of["reasons"]]),
    ]


def _missing(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{count} {reason}" for reason, count in reasons.items())


def header(found: Outcome, kind: str) -> dict[str, Any]:
    """Return what every JSON document begins with: format, names, id of the search, metric, counts.

    Nothing of it differs between two runs of one search.
    """
    plan = found.plan
    return {
        "format": f"hpc_search.{kind}",
        "version": VERSION,
        "name": plan.search.name,
        "search_id": plan.search_id,
        **_of_part(found),
        "trials": sum(block.trials for block in found.blocks),
        "finished": len(found.ends),
        **{state: found.states[state] for state in codec.FINAL},
        "points": found.points,
        "points_complete": found.complete,
    }


def _of_part(found: Outcome) -> dict[str, Any]:
    if found.part is None:
        return {"searches": [part.name for part in found.plan.search.parts]}
    metric = found.part.metric
    name = {"search": found.part.name} if found.part.name else {}
    return {**name, "metric": {"name": metric.name, "goal": metric.goal}}


class _Trial(msgspec.Struct, frozen=True, gc=False):
    trial: int
    point: int
    fold: int | None
    seed: int
    state: str
    cause: str
    value: float | None
    params: msgspec.Raw
    metrics: dict[str, Any]
    effective: dict[str, Any]
    #: Place of what its worker saw in ``slices``.
    slice: int


def search_results(found: Outcome) -> bytes:
    """Return search_results.json: the header, which run and code, and a line for every finished trial."""
    encoder = msgspec.json.Encoder()
    code = dict(sorted(Counter(found.codes).items()))
    of_run = {"run_id": found.plan.run_id, "code": code, "slices": found.slices}
    head = encoder.encode(header(found, "search_results") | of_run)[:-1]
    nothing: dict[str, Any] = {}
    trials = (
        _Trial(
            end.trial, end.point, end.fold, end.seed, end.state, end.cause, end.value,
            end.params, end.metrics or nothing, end.effective or nothing, place,
        )
        for end, place in zip(found.ends, found.on, strict=True)
    )  # fmt: skip
    # A newline within a text is escaped, so every newline here ends a trial.
    parts = [encoder.encode_lines(part)[:-1].replace(b"\n", b",\n") for part in in_parts(trials)]
    return b"".join((head, b',"results":[\n', b",\n".join(parts), b"\n]}\n"))


def best_hyperparams(found: Outcome, judged: Judgement) -> bytes:
    """Return best_hyperparams.json: the chosen point; ``params`` null and a reason without one."""
    body = _chosen(found, judged)
    return _pretty(header(found, "best_hyperparams") | body | {"reason": found.reason})


def best_of_searches(found: Outcome, views: Sequence[View]) -> bytes:
    """Return best_hyperparams.json of a plan with several searches: the chosen point of each."""
    bodies = {
        one.name: {"metric": _of_part(one.found)["metric"], **_chosen(*one), "reason": one.found.reason}
        for one in views
    }
    return _pretty(header(found, "best_hyperparams") | {"best": bodies})


def _chosen(found: Outcome, judged: Judgement) -> dict[str, Any]:
    score = chosen_score(found, judged)
    empty = dict.fromkeys(("point", "params", "mean", "sd", "n", "se", "interval", "choice"))
    if score is None or judged.chosen is None:
        return empty | {"values": []}
    choice = {"rule": judged.rule, "simpler": judged.simpler, "best": judged.chosen.best}
    return _point(found, score, judged) | {"choice": choice}


def chosen_score(found: Outcome, judged: Judgement) -> PointScore | None:
    """Return the chosen point of *found*, None without one."""
    return next((score for score in found.scores if score.complete and score.point == judged.point), None)


def top_k(found: Outcome, judged: Judgement) -> bytes:
    """Return top_k.json: the best complete points, at most TOP_K."""
    points = [_point(found, score, judged) for score in found.scores[:TOP_K] if score.complete]
    return _pretty(header(found, "top_k") | {"k": TOP_K, "points": points, "reason": found.reason})


def selection(found: Outcome, judged: Judgement) -> bytes:
    """Return selection.json: everything that can be said of how sure the choice is."""
    score = chosen_score(found, judged)
    params = found.params[found.of_point[score.point]] if score is not None else None
    body = {"params": params, **msgspec.structs.asdict(judged), "reason": found.reason}
    if judged.chosen is not None:
        # The order of all points by simplicity is an intermediate result.
        body["chosen"] = {name: getattr(judged.chosen, name) for name in ("point", "best", "within", "error")}
    return _pretty(header(found, "selection") | body)


def front_points(found: Outcome) -> list[ParetoPoint]:
    """Return the points of the Pareto front, the best by the first objective first."""
    scores = {score.point: score for score in found.scores}
    return [
        ParetoPoint(point, found.params[found.of_point[point]], found.fronts.named(point), scores[point].n)
        for point in found.fronts.front
    ]


def pareto_front(found: Outcome) -> bytes:
    """Return pareto_front.json: the complete points that no other one dominates."""
    body = {
        "objectives": [{"name": one.name, "goal": one.goal} for one in found.fronts.objectives],
        "fronts": len(set(found.fronts.ranks.values())),
        "points": front_points(found),
        "reason": found.reason,
    }
    return _pretty(header(found, "pareto_front") | body)


def _point(found: Outcome, score: PointScore, judged: Judgement) -> dict[str, Any]:
    known = judged.interval(score.point)
    interval = (
        None
        if known is None or known.low is None
        else {"low": known.low, "high": known.high, "level": 0.95, "method": known.method}
    )
    return {
        "rank": score.rank,
        "point": score.point,
        **staged.labels(found.plan, found.ranked, score.point),
        "params": found.params[found.of_point[score.point]],
        "mean": score.mean,
        "sd": score.sd,
        "n": score.n,
        "se": known.error if known is not None else None,
        "interval": interval,
        "values": [_value(value) for value in score.values],
    }


def _value(value: FoldValue) -> dict[str, Any]:
    return {"fold": value.fold, "seed": value.seed, "value": value.value}


def _pretty(document: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def show_value(value: object) -> str:
    """Return a parameter's value for a terminal: a text as it is where that is safe, else JSON."""
    return value if isinstance(value, str) and value.isprintable() and value else json_text(value)
