"""The result documents: what stands in each file of RUN/results; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from hpc_search.collect import staged
from hpc_search.collect.columns import Column, json_text, picked, spread
from hpc_search.collect.pareto import Fronts, ParetoPoint, fronts, mean_columns, rank_column
from hpc_search.collect.provenance import Provenance, distinct, slice_columns
from hpc_search.collect.reading import Attempt, Attempts
from hpc_search.collect.times import iso_seconds
from hpc_search.records import journal as codec
from hpc_search.records.plan import Block, Plan
from hpc_search.records.search import Part
from hpc_search.stats import FoldValue, PointScore

#: How many points stand in top_k.json.
TOP_K: Final = 10
VERSION: Final = 1


class Outcome(NamedTuple):
    """The finished trials of a run by number, and its points, best first.

    ``params`` are the distinct parameters, ``parameters`` the same as columns; ``which[i]`` is the place
    of those of ``ends[i]``. ``states`` counts trials, ``complete`` points.
    """

    plan: Plan
    #: The search that it is of; that of the whole plan where there is only one, None for all of several.
    part: Part | None
    blocks: tuple[Block, ...]
    ends: list[Attempt]
    scores: list[PointScore]
    params: list[dict[str, Any]]
    parameters: list[Column]
    which: list[int]
    #: Place of the parameters of each point.
    of_point: dict[int, int]
    states: Counter[str]
    complete: int
    #: The differing devices behind the results; ``on[i]`` is the place of those of ``ends[i]``.
    slices: list[Provenance]
    on: list[int]
    #: Digest of the sources of each of ``ends``.
    codes: list[str]
    fronts: Fronts

    @property
    def mixed(self) -> bool:
        """Whether results of several snapshots of the sources are compared with each other."""
        # A trial that was skipped ran none.
        return len({code for code in self.codes if code}) > 1

    @property
    def best(self) -> PointScore | None:
        """The best complete point of the last stage that has one, None where none is complete.

        Of several searches there is none: their metrics may differ.
        """
        if self.part is None:
            return None
        return self.scores[0] if self.scores and self.scores[0].complete else None

    @property
    def reason(self) -> str:
        """Why there is no best point, "" where there is one."""
        if self.best is not None:
            return ""
        if self.part is None:
            return "the plan has several searches, each with a best point of its own"
        if not self.ends:
            return "nothing is finished yet"
        total: Counter[str] = Counter()
        for score in self.scores:
            total.update(score.reasons)
        missing = ", ".join(f"{count} {reason}" for reason, count in sorted(total.items()))
        return f"no point is complete: of its trials are missing {missing}"


def outcome(plan: Plan, attempts: Attempts, part: Part | None = None) -> Outcome:
    """Return the outcome of the results of *attempts*, of all or of the search *part*.

    Numbers that the plan does not have are left out.
    """
    part = part or (plan.search.parts[0] if len(plan.search.parts) == 1 else None)
    blocks = tuple(block for block in plan.blocks if part is None or block.part == part.name)
    results = attempts.results
    numbers = sorted(results) if len(blocks) == len(plan.blocks) else sorted(_numbers(blocks, results))
    ends = [results[number] for number in numbers if 0 <= number < plan.trials]
    scores = staged.ranked(plan, blocks, ends)
    # Trials of one point have the same parameters, mostly in the same bytes: those are parsed once.
    texts = [bytes(end.params) for end in ends]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    which = [places[text] for text in texts]
    seen, of_worker = distinct(attempts.slices, {end.worker for end in ends})
    params = list(map(msgspec.json.Decoder(dict[str, Any]).decode, places))
    return Outcome(
        plan,
        part,
        blocks,
        ends,
        scores,
        params,
        spread("param_", parameter_names(plan, params), params, "null"),
        which,
        _params_of_points(ends, which, params),
        Counter([end.state for end in ends]),
        sum([score.complete for score in scores]),
        seen,
        [of_worker[end.worker] for end in ends],
        [attempts.codes.get(end.worker, "") for end in ends],
        fronts(staged.last_stage(blocks, scores), part.objectives if part is not None else ()),
    )


def _params_of_points(
    ends: Sequence[Attempt], which: Sequence[int], params: Sequence[object]
) -> dict[int, int]:
    """Return point -> place of its parameters: what its first trial that has some says.

    A trial that was skipped before its point was proposed has none.
    """
    pairs = [(end.point, place) for end, place in zip(ends, which, strict=True)]
    pairs = sorted(pairs, key=lambda pair: not params[pair[1]]) if not all(params) else pairs
    return dict(reversed(pairs))


def _numbers(blocks: Sequence[Block], results: Mapping[int, Attempt]) -> Iterator[int]:
    for block in blocks:
        yield from (n for n in range(block.first, block.first + block.trials) if n in results)


def parameter_names(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the parameters in the order of the space, then others by name."""
    names = dict.fromkeys(name for block in plan.blocks for name in block.space.names)
    return [*names, *sorted(_keys(rows) - names.keys())]


def _keys(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    return {name for keys in set(map(tuple, rows)) for name in keys}


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
        *spread("metric_", sorted(_keys(metrics)), metrics),
        *rank_column(found.fronts, [end.point for end in ends]),
        *picked(slice_columns(found.slices), found.on),
        *([Column("code", found.codes, kind="str")] if found.mixed else []),
    ]


def _effective_columns(ends: Sequence[Attempt]) -> list[Column]:
    nothing: dict[str, Any] = {}
    rows = [end.effective or nothing for end in ends]
    names = sorted(_keys(rows))
    columns = spread("effective_", names, rows, null="null")
    accumulation = [end.accumulation for end in ends]
    if set(accumulation) - {1} and "accumulation" not in names:
        columns.append(Column("effective_accumulation", accumulation, kind="int"))
    return columns


def attempt_columns(attempts: Attempts) -> list[Column]:
    """Return attempts.csv: one row an attempt that ended, the ones given back included."""
    results, openings = attempts.results, attempts.openings
    ends = sorted(attempts.ends, key=attrgetter("trial", "attempt", "worker", "checksum"))
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
    scores = found.scores
    points = [score.point for score in scores]
    return [
        *staged.columns(found.plan, found.blocks, points),
        Column("point", points),
        *picked(found.parameters, [found.of_point[point] for point in points]),
        Column("mean", [score.mean for score in scores]),
        Column("sd", [score.sd for score in scores]),
        Column("n", [score.n for score in scores]),
        Column("expected", [score.expected for score in scores]),
        Column("complete", [score.complete for score in scores]),
        Column("rank", [score.rank for score in scores]),
        *mean_columns(found.fronts, points),
        *rank_column(found.fronts, points),
        Column("missing", [_missing(score.reasons) if score.reasons else "" for score in scores]),
    ]


def _missing(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{count} {reason}" for reason, count in reasons.items())


def header(found: Outcome, kind: str) -> dict[str, Any]:
    """Return what every JSON document begins with: format, names, ids, metric, counts."""
    plan = found.plan
    return {
        "format": f"hpc_search.{kind}",
        "version": VERSION,
        "name": plan.search.name,
        "search_id": plan.search_id,
        "run_id": plan.run_id,
        **_of_part(found),
        "trials": sum(block.trials for block in found.blocks),
        "finished": len(found.ends),
        **{state: found.states[state] for state in codec.FINAL},
        "points": sum(block.points for block in found.blocks),
        "points_complete": found.complete,
        "code": dict(sorted(Counter(found.codes).items())),
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
    """Return search_results.json: the header, and every finished trial on a line of its own."""
    encoder = msgspec.json.Encoder()
    head = encoder.encode(header(found, "search_results") | {"slices": found.slices})[:-1]
    nothing: dict[str, Any] = {}
    trials = [
        _Trial(
            end.trial, end.point, end.fold, end.seed, end.state, end.cause, end.value,
            end.params, end.metrics or nothing, end.effective or nothing, place,
        )
        for end, place in zip(found.ends, found.on, strict=True)
    ]  # fmt: skip
    # A newline within a text is escaped, so every newline here ends a trial.
    lines = encoder.encode_lines(trials)[:-1].replace(b"\n", b",\n")
    return b"".join((head, b',"results":[\n', lines, b"\n]}\n"))


def best_hyperparams(found: Outcome) -> bytes:
    """Return best_hyperparams.json: the best complete point; ``params`` null and a reason without one."""
    best = found.best
    empty = dict.fromkeys(("point", "params", "mean", "sd", "n"))
    body = empty | {"values": []} if best is None else _point(found, best)
    slices = {"slices": _slices_of(found, best.point) if best is not None else []}
    return _pretty(header(found, "best_hyperparams") | body | slices | {"reason": found.reason})


def best_of_searches(found: Outcome, searches: Sequence[Outcome]) -> bytes:
    """Return best_hyperparams.json of a plan with several searches: the best point of each."""
    bodies = {}
    for one in searches:
        metric = _of_part(one)["metric"]
        point = (
            dict.fromkeys(("point", "params", "mean", "sd", "n"))
            if one.best is None
            else _point(one, one.best)
        )
        bodies[one.part.name if one.part is not None else ""] = {
            "metric": metric,
            **point,
            "reason": one.reason,
        }
    return _pretty(header(found, "best_hyperparams") | {"best": bodies})


def _slices_of(found: Outcome, point: int) -> list[Provenance]:
    """Return what the trials of *point* ran on, each differing slice once."""
    places = [place for end, place in zip(found.ends, found.on, strict=True) if end.point == point]
    return [found.slices[place] for place in sorted(set(places))]


def top_k(found: Outcome) -> bytes:
    """Return top_k.json: the best complete points, at most TOP_K."""
    points = [_point(found, score) for score in found.scores[:TOP_K] if score.complete]
    return _pretty(header(found, "top_k") | {"k": TOP_K, "points": points, "reason": found.reason})


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


def _point(found: Outcome, score: PointScore) -> dict[str, Any]:
    return {
        "rank": score.rank,
        "point": score.point,
        **staged.labels(found.plan, found.blocks, score.point),
        "params": found.params[found.of_point[score.point]],
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
