"""When a trial is judged: after which of its reports, and in which bracket."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from hpc_search.records.search import PruningSpec

#: Rules that let a trial wait at a rung until it is promoted.
PAUSING: Final = ("asha", "successive_halving", "hyperband")


@dataclass(frozen=True, slots=True)
class Schedule:
    """The numbers of steps after which a trial is judged: ``rungs``, or every ``interval`` after ``warmup``.

    A report at ``step`` says that step + 1 - ``first_step`` steps are done: with ``first_step`` 0 reports
    count from 0, with 1 they count from 1.
    """

    rungs: tuple[int, ...] = ()
    first_step: int = 0
    warmup: int = 0
    interval: int = 0

    def rung(self, step: int) -> int:
        """Return the highest rung that a report at *step* completes, -1 for none."""
        done = step + 1 - self.first_step
        if self.interval:
            return max(-1, (done - self.warmup - 1) // self.interval)
        return bisect.bisect_right(self.rungs, done) - 1


def core(spec: PruningSpec) -> PruningSpec:
    """Return the rule itself: what ``patient`` wraps, else *spec*."""
    return spec.inner or spec


def pauses(spec: PruningSpec) -> bool:
    """Return whether trials wait at rungs for their promotion."""
    return core(spec).kind in PAUSING


def schedule(spec: PruningSpec, bracket: int = 0) -> Schedule:
    """Return when trials of *bracket* are judged: rung k after min_steps x eta^(k + bracket) steps.

    A whole training has ``max_steps``, after which nothing is left to decide.
    """
    rule = core(spec)
    first_step = rule.options["first_step"]
    if rule.kind not in PAUSING:
        options = rule.options
        return Schedule(first_step=first_step, warmup=options["warmup"], interval=options["interval"])
    return Schedule(rungs=_rungs(rule)[bracket:], first_step=first_step)


def _rungs(rule: PruningSpec) -> tuple[int, ...]:
    found, steps = [], rule.options["min_steps"]
    while steps < rule.options["max_steps"]:
        found.append(steps)
        steps *= rule.options["eta"]
    return tuple(found)


def bracket_of(spec: PruningSpec, index: int) -> int:
    """Return the bracket of the point at place *index* of its stage; only ``hyperband`` has several.

    Of R brackets, b has Hyperband's size, ceil(R / (R - b) x eta^(R - 1 - b)), and begins at rung b. They are
    mixed, so that any number of points has its share of each, to within one.
    """
    rule = core(spec)
    if rule.kind != "hyperband":
        return 0
    order = _mixed(len(_rungs(rule)) + 1, rule.options["eta"])
    return order[index % len(order)]


@lru_cache(maxsize=64)
def _mixed(brackets: int, eta: int) -> tuple[int, ...]:
    """Return the bracket of each place of one round of all brackets."""
    sizes = [-(-brackets * eta ** (brackets - 1 - b) // (brackets - b)) for b in range(brackets)]
    # Each takes the places (i + 1/2) / size of the round: evenly, whatever its size.
    places = sorted((((2 * i + 1) / size, b) for b, size in enumerate(sizes) for i in range(size)))
    return tuple(b for _, b in places)
