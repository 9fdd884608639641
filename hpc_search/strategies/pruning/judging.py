"""What becomes of a trial after a report: pure, and replayable from what is recorded of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from hpc_search.records.journal import Verdict
from hpc_search.records.search import PruningSpec
from hpc_search.strategies.history import ranges
from hpc_search.strategies.pruning.schedule import core, pauses

Decision = Literal["continue", "pause", "prune", "promote"]
#: The rule of a trial whose point was pruned in another fold or with another seed.
POINT: Final = "point"


class Judgement(NamedTuple):
    """A decision and what it was made from.

    ``value`` is the trial's own one; ``seen`` are the trials that it was compared with, ``peers`` those of
    them whose values decide: the last place that goes on, or the two around a percentile. ``patience`` is the
    best value before the last reports that ``patient`` waits for, and of them; None where there are too few.
    """

    decision: Decision
    value: float
    seen: tuple[int, ...] = ()
    peers: Mapping[int, float] = {}
    patience: tuple[float, float] | None = None


def judge(
    spec: PruningSpec,
    goal: str,
    number: int,
    values: Sequence[float],
    others: Mapping[int, float],
    behind: Sequence[int] = (),
) -> Judgement:
    """Return what becomes of trial *number*, whose reports so far gave *values*, against *others*.

    *others* are the values at the same rung of those that reached it (asha, hyperband), or at the same
    step of those that are done (median, percentile). Those *behind* reached this rung in another fold or with
    another seed and were pruned there: they count as worse.

    ``median`` and ``percentile`` are Optuna's: the best own value so far against the percentile of the
    others' values at this step, interpolated (Vizier takes running averages, which keep a slow start long).
    ``asha`` is that of Li et al. 2020: the best floor(n / eta) of the n at a rung go on.
    """
    judged = _judge(spec, goal, number, values, others, behind)
    if spec.kind != "patient" or judged.decision == "continue":
        return judged
    sign, wait = _sign(goal), spec.options["patience"]
    if len(values) <= wait:
        return judged._replace(decision="continue")
    before, since = (sign * max(sign * value for value in part) for part in (values[:-wait], values[-wait:]))
    decision = "continue" if sign * since > sign * before else judged.decision
    return judged._replace(decision=decision, patience=(before, since))


def _judge(
    spec: PruningSpec,
    goal: str,
    number: int,
    values: Sequence[float],
    others: Mapping[int, float],
    behind: Sequence[int],
) -> Judgement:
    rule, sign = core(spec), _sign(goal)
    if rule.kind == "successive_halving":
        return Judgement("pause", values[-1])
    if pauses(spec):
        value, seen = values[-1], tuple(sorted([*others, *behind]))
        peers = cut(goal, others, (len(seen) + 1) // rule.options["eta"])
        return Judgement(_at_rung(rule, goal, number, value, len(seen), peers), value, seen, peers)
    seen = tuple(sorted(others))
    value = sign * max(sign * one for one in values)
    peers = _around(rule, goal, others)
    return Judgement(_at_step(rule, goal, value, len(others), peers), value, seen, peers)


def place(goal: str, number: int, value: float) -> tuple[float, int]:
    """Return what sorts trials, the best first; of equal ones the lower number is better."""
    return -_sign(goal) * value, number


def cut(goal: str, others: Mapping[int, float], slots: int) -> dict[int, float]:
    """Return the one of *others* that a trial has to beat for one of *slots* places; {} for none."""
    if not 0 < slots <= len(others):
        return {}
    order = sorted((place(goal, number, value) for number, value in others.items()))
    number = order[slots - 1][1]
    return {number: others[number]}


def goes_on(goal: str, number: int, value: float, slots: int, peers: Mapping[int, float]) -> bool:
    """Return whether a trial has one of *slots* places; *peers* is what `cut` gave."""
    return slots > 0 and all(
        place(goal, number, value) < place(goal, other, peer) for other, peer in peers.items()
    )


def _at_rung(
    rule: PruningSpec, goal: str, number: int, value: float, count: int, peers: Mapping[int, float]
) -> Decision:
    slots = (count + 1) // rule.options["eta"]
    return "continue" if goes_on(goal, number, value, slots, peers) else "pause"


def _keep(rule: PruningSpec) -> float:
    return 50.0 if rule.kind == "median" else float(rule.options["keep"])


def _around(rule: PruningSpec, goal: str, others: Mapping[int, float]) -> dict[int, float]:
    """Return the two of *others* around the percentile, or the one that is at it."""
    if len(others) < max(1, rule.options["startup"]):
        return {}
    order = sorted(place(goal, number, value) for number, value in others.items())
    at = _keep(rule) / 100 * (len(order) - 1)
    numbers = dict.fromkeys((order[math.floor(at)][1], order[math.ceil(at)][1]))
    return {number: others[number] for number in numbers}


def _at_step(rule: PruningSpec, goal: str, value: float, count: int, peers: Mapping[int, float]) -> Decision:
    if not peers:
        return "continue"
    order = [peers[number] for _, number in sorted(place(goal, *peer) for peer in peers.items())]
    at = _keep(rule) / 100 * (count - 1)
    limit = order[0] + (order[-1] - order[0]) * (at - math.floor(at))
    return "prune" if _sign(goal) * value < _sign(goal) * limit else "continue"


def _sign(goal: str) -> int:
    return 1 if goal == "max" else -1


# -- records
def recorded(
    spec: PruningSpec, judged: Judgement, *, trial: int, attempt: int, rung: int, step: int
) -> Verdict:
    """Return the record of what was *judged*."""
    return Verdict(
        trial=trial,
        attempt=attempt,
        rung=rung,
        step=step,
        decision=judged.decision,
        value=judged.value,
        rule=name(spec),
        peers=dict(judged.peers),
        seen=ranges(judged.seen),
        patience=judged.patience,
    )


def name(spec: PruningSpec) -> str:
    """Return the rule's name in records: ``median``, ``patient hyperband``."""
    return spec.kind if spec.inner is None else f"{spec.kind} {spec.inner.kind}"


def count(seen: str) -> int:
    """Return how many trials *seen* names.

    Raises:
        ValueError: It is no such text.
    """
    total = 0
    for run in seen.split(",") if seen else ():
        low, _, high = run.partition("-")
        total += int(high or low) + 1 - int(low)
    return total


def replay(spec: PruningSpec, verdict: Verdict, goal: str) -> Decision:
    """Return the decision that follows from what *verdict* says it was made from.

    Raises:
        ValueError: It has no value, or names its peers in no known way.
    """
    if verdict.rule == POINT:
        return "prune"
    rule, value = core(spec), verdict.value
    if value is None:
        raise ValueError("no value")
    seen = count(verdict.seen)
    if verdict.decision == "promote":
        # The last ones of a bracket always have a place; a trial that was not the best has none.
        slots = max(1, (seen + 1) // rule.options["eta"])
        return "promote" if goes_on(goal, verdict.trial, value, slots, verdict.peers) else "pause"
    if rule.kind == "successive_halving":
        decision: Decision = "pause"
    elif pauses(spec):
        decision = _at_rung(rule, goal, verdict.trial, value, seen, verdict.peers)
    else:
        decision = _at_step(rule, goal, value, seen, verdict.peers)
    if spec.kind != "patient" or decision == "continue":
        return decision
    if verdict.patience is None:
        return "continue"
    before, since = (_sign(goal) * one for one in verdict.patience)
    return "continue" if since > before else decision
