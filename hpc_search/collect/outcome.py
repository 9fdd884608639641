"""What the results of a run come to: its finished trials, and its points, best first; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from hpc_search.collect import staged
from hpc_search.collect.columns import Column, spread
from hpc_search.collect.pareto import Fronts, fronts
from hpc_search.collect.provenance import Provenance, distinct
from hpc_search.collect.reading import Attempt, Attempts
from hpc_search.records.plan import Block, Plan, count_points
from hpc_search.records.search import Part
from hpc_search.stats import PointScore


class Outcome(NamedTuple):
    """The finished trials of a run by number, and its points, best first.

    ``params`` are the distinct parameters, ``parameters`` the same as columns; ``which[i]`` is the place
    of those of ``ends[i]``. ``states`` counts trials, ``complete`` points.
    """

    plan: Plan
    #: The search that it is of; that of the whole plan where there is only one, None for all of several.
    part: Part | None
    blocks: tuple[Block, ...]
    #: Those whose points are compared with each other: all but the refits.
    ranked: tuple[Block, ...]
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
    def points(self) -> int:
        """How many points are compared."""
        return count_points(self.ranked)

    @property
    def reason(self) -> str:
        """Why there is no best point, "" where there is one."""
        if self.best is not None:
            return ""
        if self.part is None:
            return "the plan has several searches, each with a best point of its own"
        if not self.scores:
            return "nothing is finished yet"
        total: Counter[str] = Counter()
        for score in self.scores:
            total.update(score.reasons)
        missing = ", ".join(f"{count} {reason}" for reason, count in sorted(total.items()))
        why = f"no point is complete; trials without a value: {missing}"
        if left_out := sum(end.left_out for end in self.ends):
            why += f" ({left_out} left out by racing, for their points lost to others)"
        failed = any(end.state == "failed" for end in self.ends)
        return f"{why}; `hpc-search retry RUN` lets what failed run again" if failed else why


def outcome(plan: Plan, attempts: Attempts, part: Part | None = None) -> Outcome:
    """Return the outcome of the results of *attempts*, of all or of the search *part*.

    Numbers that the plan does not have are left out.
    """
    part = part or (plan.search.parts[0] if len(plan.search.parts) == 1 else None)
    blocks = tuple(block for block in plan.blocks if part is None or block.part == part.name)
    results = attempts.results
    numbers = sorted(results) if len(blocks) == len(plan.blocks) else sorted(_numbers(blocks, results))
    ends = [results[number] for number in numbers if 0 <= number < plan.trials]
    ranked = tuple(block for block in blocks if not block.refit)
    measured = ends if len(ranked) == len(blocks) else staged.within(ranked, ends)
    scores = staged.ranked(plan, ranked, measured)
    # Trials of one point have the same parameters, mostly in the same bytes: those are parsed once.
    given = [end.params for end in ends]
    texts = {id(one): bytes(one) for one in given}
    places = {text: place for place, text in enumerate(dict.fromkeys(texts.values()))}
    place_of = {one: places[text] for one, text in texts.items()}
    which = [place_of[one] for one in map(id, given)]
    seen, of_worker = distinct(attempts.slices, {end.worker for end in ends})
    params = list(map(msgspec.json.Decoder(dict[str, Any]).decode, places))
    return Outcome(
        plan,
        part,
        blocks,
        ranked,
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
        fronts(staged.last_stage(ranked, scores), part.objectives if part is not None else ()),
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
    return [*names, *sorted(keys_of(rows) - names.keys())]


def keys_of(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the keys that any of *rows* has."""
    return {name for keys in set(map(tuple, rows)) for name in keys}
