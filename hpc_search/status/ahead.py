"""What is left of a run, stage by stage: slot seconds, and the time until all of it has ended; pure.

Stages come one after the other, and their trials take different times. A stage that has not begun takes its
length from an earlier one of its search that differs in the number of epochs alone, in proportion to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

from hpc_search.records import index as codec
from hpc_search.records.index import Entry
from hpc_search.records.plan import Block, Plan
from hpc_search.status import estimate
from hpc_search.status.estimate import Crew, Length, Rate
from hpc_search.status.model import Eta, Stage

#: Parameters that a trial's time is in proportion to.
_EPOCHS: Final = frozenset(
    f"{prefix}{what}" for what in ("epochs", "steps", "iterations") for prefix in ("", "n_", "num_", "max_")
)
_CHANGED: Final = attrgetter("changed")


class Ahead(NamedTuple):
    """What is left: until when, in slot seconds, and the stages that are in neither."""

    eta: Eta | None = None
    work: tuple[float, float] | None = None
    without: tuple[str, ...] = ()


class Group(NamedTuple):
    """So many trials of a search that are left and take about as long; None: that is not known."""

    search: str
    stage: str
    left: int
    length: Length | None
    trials: tuple[range, ...]

    @property
    def name(self) -> str:
        """What it is called; "" where the run has no stages."""
        return " ".join(filter(None, (self.search, self.stage)))


class Pace(NamedTuple):
    """The rate of recent ends, what one of them took, and slot time over time in trials."""

    rate: Rate | None
    one: Length | None
    overhead: float = 1.0


def groups(plan: Plan, entries: Sequence[Entry | None], stages: Sequence[Stage]) -> list[Group]:
    """Return what is left of each of the *stages* of a plan, in order; not of searches that stopped."""
    numbered = sorted(enumerate(plan.blocks), key=lambda one: (_place(plan, one[1]), one[1].stage, one[0]))
    found = []
    each = groupby((block for _, block in numbered), key=lambda block: (block.part, block.stage))
    learned: dict[str, list[tuple[Mapping[str, Any], Length]]] = {}
    for ((part, _), blocks), stage in zip(each, stages, strict=True):
        mine = list(blocks)
        finals = sorted(_finals(mine, entries), key=_CHANGED)
        known = learned.setdefault(part, [])
        length = estimate.length(finals) or _derived(mine[0], known)
        # A trial that was stopped early says nothing of one that is not.
        if whole := estimate.length([entry for entry in finals if entry.state == codec.DONE]):
            known.append((mine[0].space.fixed, whole))
        left = stage.trials - stage.finished
        if left and stage.state != "stopped":
            trials = tuple(range(block.first, block.first + block.trials) for block in mine)
            found.append(Group(part, stage.stage, left, length, trials))
    return found


def median(groups: Sequence[Group], number: int) -> float | None:
    """Return what a trial such as *number* takes usually."""
    group = next((one for one in groups if any(number in trials for trials in one.trials)), None)
    return group.length.median if group is not None and group.length is not None else None


def _place(plan: Plan, block: Block) -> int:
    return [part.name for part in plan.search.parts].index(block.part)


def _finals(blocks: Sequence[Block], entries: Sequence[Entry | None]) -> Iterator[Entry]:
    for block in blocks:
        for entry in entries[block.first : block.first + block.trials]:
            if entry is not None and entry.final:
                yield entry


def _derived(block: Block, known: Sequence[tuple[Mapping[str, Any], Length]]) -> Length | None:
    """Return how long a trial of *block* takes by the latest earlier stage that tells it."""
    for fixed, length in reversed(known):
        if (factor := _factor(fixed, block.space.fixed)) is not None:
            return Length(*(factor * seconds for seconds in length))
    return None


def _factor(before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
    """Return how much longer a trial takes with *after* fixed than with *before*, None where nobody knows."""
    changed = [name for name in before.keys() | after.keys() if before.get(name, ...) != after.get(name, ...)]
    if not changed:
        return 1.0
    [name, *others] = changed
    values = before.get(name), after.get(name)
    if others or name not in _EPOCHS or not all(isinstance(one, int | float) and one > 0 for one in values):
        return None
    return float(values[1]) / float(values[0])  # type: ignore[arg-type]


def ahead(groups: Sequence[Group], pace: Pace, crew: Crew, begun: float, *, moving: bool) -> Ahead:
    """Return what is left of *groups*, of which running attempts have done *begun* slot seconds.

    It ends at no time where it is not *moving*: it goes on when somebody says so.
    """
    known = [(group, group.length) for group in groups if group.length is not None]
    without = tuple(group.name for group in groups if group.length is None and group.name)
    measured = _by_rate(groups, known, pace)
    if not known:
        return Ahead(measured if moving else None, None, without)
    parts = [estimate.work_left(length, group.left, pace.overhead, 0.0) for group, length in known]
    low, high = (max(0.0, sum(part[side] for part in parts) - begun) for side in (0, 1))
    left = sum(group.left for group, _ in known)
    chains = [[length for _, length in mine] for _, mine in groupby(known, key=lambda one: one[0].search)]
    # Every stage has a last trial, for which the next one waits.
    last = known[0][1]._replace(high=max(sum(one.high for one in chain) for chain in chains))
    eta = estimate.joined(measured, estimate.by_slots((low, high), last, crew, left)) if moving else None
    if eta is not None:
        later = max(sum(max(0.0, one.mean - 2 * one.error) for one in chain[1:]) for chain in chains)
        least = max(eta.low, later)
        eta = Eta(least, None if without or eta.high is None else max(least, eta.high))
    return Ahead(eta, None if without else (low, high), without)


def _by_rate(groups: Sequence[Group], known: Sequence[tuple[Group, Length]], pace: Pace) -> Eta | None:
    """Return the time by the rate of recent ends, longer trials counted as several of these."""
    if pace.rate is None:
        return None
    if len(groups) == 1 and not groups[0].name:
        return estimate.eta(pace.rate, groups[0].left)
    if pace.one is None or not pace.one.mean or not known:
        return None
    whole = sum(group.left * length.mean for group, length in known)
    return estimate.eta(pace.rate, whole / pace.one.mean)
