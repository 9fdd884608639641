"""`plan --amend`: what a changed search adds to one that is planned, and the plan that has both.

Pure, but for `amend`, which publishes it. Only what leaves every number, point and value as it was is an
addition. All that is not is told at once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from hpc_search import config, durable
from hpc_search.config.problems import words
from hpc_search.errors import TemporaryError, UsageError
from hpc_search.layout import Layout
from hpc_search.planning.blocks import digest_of, stages_of
from hpc_search.planning.digests import encode_digests
from hpc_search.planning.growing import Growing
from hpc_search.planning.reading import load_plan
from hpc_search.planning.same import refitted, same, with_refits_of
from hpc_search.records import plan as records
from hpc_search.records.plan import Block, Plan
from hpc_search.records.search import Budget, Part, Retry, Search, StageSpec
from hpc_search.space import amount

#: Settings that no result depends on.
FREE: Final = (
    *("description", "max_trials", "expect_points", "stop_after", "save_interval", "save_in_background"),
    *("stall", "log_bytes", "keep_checkpoints", "stop_on_error"),
)
#: Why others stay as they are.
_FIXED: Final = {
    "name": "jobs and results carry it",
    "folds": "every trial would have other samples",
    "data": "every trial would have other samples",
    "threads": "values depend on it",
    "heartbeat": "workers at work beat as it was",
    "lease": "workers at work beat as it was",
    "snapshot": "trials run the code as it was planned",
}
#: The same of what a search of several has of its own.
_OF_PART: Final = {
    "trial": "other code would run",
    "objectives": "values of different kinds cannot be compared",
    "given": "they come first: every point after them would have another number",
    "racing": "folds that are left out were left out by the rule as it was",
}
#: What may change as long as nothing was done by it.
_CHOICE: Final = {"choose": "which point is chosen", "test": "what `test` runs"}
#: Other amendments that may be published first.
_TRIES: Final = 10


class Amendment(NamedTuple):
    """The plan with what is new, and that in words."""

    plan: Plan
    news: tuple[str, ...]


def amend(wanted: Plan, layout: Layout) -> Amendment | None:
    """Publish the plan of the run at *layout* with what *wanted* adds; None where it is planned already.

    The one name plan.NNN.json is the whole change: a kill leaves the old plan or the new one.

    Raises:
        UsageError: *wanted* does more than add: every reason is named.
        TemporaryError: Others amend all the time.
    """
    for _ in range(_TRIES):
        planned = load_plan(layout)
        found = amendment(planned, wanted, refitted=refitted(planned, layout))
        if found is None:
            _beside(planned, layout)
            return None
        if durable.publish(layout.later_plan(found.plan.number), records.encode_plan(found.plan)):
            _beside(found.plan, layout)
            return found
    raise TemporaryError("others amend this run at the same moment", hint="the same command again")


def _beside(plan: Plan, layout: Layout) -> None:
    """Write what is made from an amended plan: its search to read, and the digests with its copy."""
    if plan.number == 1:
        return
    for path, content in later_files(plan, layout).items():
        if not path.exists():
            durable.publish(path, content)


def later_files(plan: Plan, layout: Layout) -> dict[Any, bytes]:
    """Return path -> content of what stands beside an amended *plan*; made from it alone."""
    text = records.encode_plan(plan)
    search = config.dump_search(plan.search).encode()
    paths = layout.later_plan(plan.number), layout.later_search(plan.number)
    digests = encode_digests({paths[0].name: text, paths[1].name: search}, text)
    return {paths[1]: search, layout.later_digests(plan.number): digests}


def amendment(planned: Plan, wanted: Plan, *, refitted: tuple[str, ...] = ()) -> Amendment | None:
    """Return the plan that has *planned* as it is and what *wanted* adds; None where that is nothing.

    The point of the searches *refitted* is chosen already.

    Raises:
        UsageError: Something else changed.
    """
    if same(planned, wanted):
        return None
    wanted = replace(wanted, search=with_refits_of(planned.search, wanted.search))
    grown = _Grown(planned, wanted, refitted)
    grown.settings()
    grown.searches()
    if grown.reasons:
        reasons = "".join(f"\n  {reason}" for reason in grown.reasons)
        hint = "take that back, or plan into another directory with --run DIR"
        raise UsageError(f"this cannot be added to the run; {_only_adds(reasons)}", hint=hint)
    return Amendment(grown.plan(), tuple(grown.news) or ("nothing that is searched changed",))


def _only_adds(reasons: str) -> str:
    return f"an amendment leaves every trial that is planned as it is:{reasons}"


class _Grown:
    """An amendment while it is made: blocks so far, what is new, and why it cannot be."""

    def __init__(self, planned: Plan, wanted: Plan, refitted: tuple[str, ...]) -> None:
        self._planned = planned
        self._wanted = wanted
        self._refitted = refitted
        self._blocks = list(planned.blocks)
        self.news: list[str] = []
        self.reasons: list[str] = []

    def plan(self) -> Plan:
        """Return the plan."""
        before = self._planned
        trials = sum(block.trials for block in self._blocks)
        return replace(
            before,
            created=round(time.time(), 3),
            search=self._wanted.search,
            blocks=tuple(self._blocks),
            points=self._points,
            trials=trials,
            versions=self._wanted.versions,
            number=before.number + 1,
            added=(*before.added, before.trials) if trials > before.trials else before.added,
        )

    @property
    def _points(self) -> int:
        return max((block.first_point + block.points for block in self._blocks), default=0)

    # -- settings
    def settings(self) -> None:
        """Compare what is no part of the numbers."""
        old, new = self._planned.search, self._wanted.search
        changed = [name for name in FREE if getattr(old, name) != getattr(new, name)]
        changed += ["retry"] if old.retry != new.retry and _same_ladder(old.retry, new.retry) else []
        if changed:
            self.news.append(f"settings changed: {', '.join(changed)}")
        self.reasons += [f"{name}: {why}" for name, why in _changed(old, new, _FIXED)]
        if not _same_ladder(old.retry, new.retry):
            self.reasons.append("retry.oom: trials that run out of memory would end with another batch")
        if "data" not in {name for name, _ in _changed(old, new, _FIXED)} and old.folds == new.folds:
            different = self._planned.splits_digest != self._wanted.splits_digest
            self.reasons += ["data: the files changed: every trial would have other samples"] * different
        self._budget(old.budget, new.budget)

    def _budget(self, old: Budget, new: Budget) -> None:
        for kind in ("hours", "gpu_hours"):
            before, after = getattr(old, kind), getattr(new, kind)
            # 0 is no limit.
            if after and (not before or after < before):
                self.reasons.append(f"budget.{kind}: {_limit(after)} is less than {_limit(before)}")
            elif after != before:
                self.news.append(f"budget.{kind}: {_limit(after)} instead of {_limit(before)}")

    # -- searches and stages
    def searches(self) -> None:
        """Compare the searches of the plan one by one, and lay out what is new."""
        old = {part.name: part for part in self._planned.search.parts}
        new = {part.name: part for part in self._wanted.search.parts}
        removed = [name for name in old if name not in new]
        self.reasons += [f"searches.{name}: it was removed" if name else "searches" for name in removed]
        if "" in removed:
            self.reasons[-1] = "searches: the run has one search; several are another plan"
            return
        whole = self._wanted.blocks
        for name, part in new.items():
            if name in old:
                self._part(old[name], part, whole)
        added = [name for name in new if name not in old]
        for block in whole:
            if block.part in added:
                self._follow(block)
        self.news += [f"search {name}" for name in added]

    def _part(self, old: Part, new: Part, whole: tuple[Block, ...]) -> None:
        where = f"searches.{new.name}." if new.name else ""
        for name, why in _changed(old, new, _OF_PART):
            self.reasons.append(f"{where}{'points' if name == 'given' else name}: {why}")
        if old.metric != new.metric and not (old.objectives or new.objectives):
            self.reasons.append(f"{where}metric: {_OF_PART['objectives']}")
        self._choice(where, old, new)
        before, after = stages_of(old), stages_of(new)
        names = [stage.name for stage in before]
        if [stage.name for stage in after[: len(before)]] != names:
            self.reasons.append(f"{where}stages: only new ones at the end can be added to {_named(names)}")
            return
        mine = {block.stage: block for block in whole if block.part == new.name}
        for place, (one, other) in enumerate(zip(before, after, strict=False)):
            if one.refit is not None and one == other:
                continue
            last = place == len(before) - 1
            stage = f"{where}stages.{one.name}." if one.name else where
            grower = Growing(self, stage, (old, one), (new, other), mine[place], last=last)
            grower.compare()
        if len(after) > len(before):
            self._add_stages(where, before, after, [block for block in whole if block.part == new.name])

    def _choice(self, where: str, old: Part, new: Part) -> None:
        for name, what in _CHOICE.items():
            if getattr(old, name) == getattr(new, name):
                continue
            if name == "choose" and new.name in self._refitted:
                why = "the point is chosen, and was trained again"
                self.reasons.append(f"{where}{name}: {why}")
            else:
                self.news.append(f"{where}{name}: {what}")

    def _add_stages(
        self, where: str, before: Sequence[StageSpec], after: Sequence[StageSpec], whole: Sequence[Block]
    ) -> None:
        """Add the stages that *after* has more; a refit chooses from all blocks of the one before it."""
        new, last = after[len(before) :], next(one for one in whole if one.stage == len(before) - 1)
        if new[0].refit is None and len(self._of(last)) > 1:
            self.reasons.append(
                f"{where}stages.{new[0].name}: the stage before it, {before[-1].name or 'of the search'}, "
                "was itself amended: none can be derived from it"
            )
            return
        for block in whole:
            if block.stage >= len(before):
                self._follow(block)
        self.news.append(f"{where}stages {words(stage.name for stage in new)}")

    def _of(self, block: Block) -> list[Block]:
        """Return the blocks so far of the stage of *block*."""
        return [one for one in self._blocks if (one.part, one.stage) == (block.part, block.stage)]

    def _follow(self, block: Block) -> None:
        """Add *block*, which needs the stage before it in its search."""
        needs = [
            place
            for place, one in enumerate(self._blocks)
            if (one.part, one.stage) == (block.part, block.stage - 1)
        ]
        self.append(replace(block, needs=needs[-1] if needs else None))

    def append(self, block: Block, first_point: int | None = None) -> None:
        """Number *block* after all others; its points too, where they do not begin at *first_point*."""
        first = self._blocks[-1].first + self._blocks[-1].trials
        point = self._points if first_point is None else first_point
        block = replace(block, first=first, first_point=point)
        self._blocks.append(replace(block, digest=digest_of(block)))

    def distinct(self, block: Block) -> list[Block]:
        """Return one block for each run of points of the stage of *block*."""
        return [*{one.first_point: one for one in reversed(self._of(block))}.values()][::-1]


def _same_ladder(old: Retry, new: Retry) -> bool:
    return old.oom == new.oom


def _limit(hours: float) -> str:
    return amount(hours, 6) if hours else "no limit"


def _named(names: list[str]) -> str:
    return words(names) if any(names) else "a search without stages"


def _changed(old: Search | Part, new: Search | Part, why: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, text) for name, text in why.items() if getattr(old, name) != getattr(new, name)]
