"""Which paused trials go on: pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from hpc_search.records.search import PruningSpec
from hpc_search.strategies.pruning.judging import Judgement, cut, place
from hpc_search.strategies.pruning.schedule import core

Fate = Literal["running", "paused", "done", "failed", "pruned"]


class Member(NamedTuple):
    """A trial that reached a rung of its bracket: its value at each one, in order.

    ``running`` is said of everyone that neither waits nor ended, ``promoted`` of one that may go beyond its
    rung by a decision that is recorded.
    """

    number: int
    fate: Fate
    values: tuple[float, ...]
    promoted: bool = False


class Promotion(NamedTuple):
    """A paused trial that goes on, its rung, and what that was decided from; None where it was before."""

    number: int
    rung: int
    judged: Judgement | None


def settled(members: Sequence[Member], before: int) -> bool:
    """Return whether nobody moves: none is on its way to a rung or its end.

    *before* is the number of trials that have neither reached a rung nor ended.
    """
    return before == 0 and all(member.fate != "running" for member in members)


_NOBODY: Mapping[int, int] = {}


def promotions(
    spec: PruningSpec,
    goal: str,
    members: Sequence[Member],
    before: int,
    behind: Mapping[int, int] = _NOBODY,
) -> list[Promotion]:
    """Return the paused trials that go on, first those at the highest rung, of a rung the best first.

    ``asha`` and ``hyperband``: those among the best floor(n / eta) of the n that reached a rung. Where nobody
    moves any more, at least the best one of each rung, so that every bracket has a whole training.
    ``successive_halving``: the best max(1, floor(n / eta)) of those that came together, when all are there.
    Trials that failed or were pruned take nobody's place. Those *behind* were pruned in another fold or with
    another seed, after so many rungs: there they count as worse.
    """
    found = [Promotion(one.number, len(one.values) - 1, None) for one in members if one.promoted]
    rungs = max((len(member.values) for member in members), default=0)
    if core(spec).kind == "successive_halving":
        groups = list(_cohorts(spec, goal, members, before, behind))
    else:
        alive = [member for member in members if member.fate not in ("failed", "pruned")]
        least = int(settled(members, before))
        groups = [([one for one in alive if len(one.values) > rung], least) for rung in range(rungs)]
    for rung, (group, least) in enumerate(groups):
        found += _best(spec, goal, group, rung, least, _at(behind, rung))
    return sorted(
        {one.number: one for one in reversed(found)}.values(),
        key=lambda one: (-one.rung, one.judged is not None, *_order(goal, one)),
    )


def _order(goal: str, one: Promotion) -> tuple[float, int]:
    return place(goal, one.number, one.judged.value if one.judged is not None else 0.0)


def _at(behind: Mapping[int, int], rung: int) -> list[int]:
    return [number for number, rungs in behind.items() if rungs > rung]


def _best(
    spec: PruningSpec, goal: str, group: Sequence[Member], rung: int, least: int, behind: Sequence[int]
) -> Iterator[Promotion]:
    """Yield those of *group*, which reached *rung*, that wait there and have a place beyond it."""
    slots = max(least, (len(group) + len(behind)) // core(spec).options["eta"])
    values = {member.number: member.values[rung] for member in group}
    order = sorted(place(goal, number, value) for number, value in values.items())[:slots]
    top = {number for _, number in order}
    for member in group:
        if member.number in top and member.fate == "paused" and len(member.values) == rung + 1:
            others = {number: value for number, value in values.items() if number != member.number}
            seen = tuple(sorted([*others, *behind]))
            judged = Judgement("promote", values[member.number], seen, cut(goal, others, slots))
            yield Promotion(member.number, rung, judged)


def _cohorts(
    spec: PruningSpec, goal: str, members: Sequence[Member], before: int, behind: Mapping[int, int]
) -> Iterator[tuple[list[Member], int]]:
    """Yield those that came to each rung together, as far as all of them are there."""
    cohort, rung = list(members), 0
    while cohort and not before:
        alive = [member for member in cohort if member.fate not in ("failed", "pruned")]
        there = [member for member in alive if len(member.values) > rung]
        if any(member.fate in ("running", "paused") and member not in there for member in alive):
            return
        yield there, 1
        slots = max(1, (len(there) + len(_at(behind, rung))) // core(spec).options["eta"])
        there.sort(key=lambda member: place(goal, member.number, member.values[rung]))
        cohort, rung = there[:slots], rung + 1
