"""What a changed stage adds to the one that is planned. Pure."""

from __future__ import annotations

from typing import Any, Protocol

from msgspec.structs import replace

from hpc_search.config.problems import words
from hpc_search.planning.differences import differences, strategy_text
from hpc_search.records.plan import Block
from hpc_search.records.search import Part, StageSpec
from hpc_search.space import Space


class Grown(Protocol):
    """An amendment while it is made."""

    news: list[str]
    reasons: list[str]

    def append(self, block: Block, first_point: int | None = None) -> None:
        """Number *block* after all others; its points too, where they do not begin at *first_point*."""

    def distinct(self, block: Block) -> list[Block]:
        """Return one block for each run of points of the stage of *block*."""


class Growing:
    """One stage as it is planned and as it is wanted."""

    def __init__(
        self,
        grown: Grown,
        where: str,
        old: tuple[Part, StageSpec],
        new: tuple[Part, StageSpec],
        whole: Block,
        *,
        last: bool,
    ) -> None:
        self._grown = grown
        self._where = where
        (self._old_part, self._old), (self._new_part, self._new) = old, new
        #: The block that it would be in a plan of its own.
        self._whole = whole
        self._last = last

    def compare(self) -> None:
        """Add the blocks of what is new, or the reasons why it cannot be."""
        grown, before = self._grown, len(self._grown.reasons)
        for name in ("pruning", "narrow"):
            if getattr(self._old, name) != getattr(self._new, name):
                grown.reasons.append(f"{self._where}{name}: trials would end elsewhere, at other points")
        if _on(self._old) != _on(self._new):
            change = f"{_on(self._old) or 'nothing'} -> {_on(self._new) or 'nothing'}"
            grown.reasons.append(f"{self._where}on: {change}; a run has one refit")
        seeds = self._seeds()
        block, news = self._more()
        if not self._last and (seeds or block):
            grown.reasons.append(f"{self._where[:-1]}: later stages were planned from it as it is")
        if len(grown.reasons) > before:
            return
        if seeds:
            known = grown.distinct(self._whole)
            for one in known:
                grown.append(replace(one, seeds=seeds), one.first_point)
            count = sum(one.points for one in known)
            self._add_news(f"seeds {words(map(str, seeds))} for the {count:,} points there are")
        if block is not None:
            grown.append(block)
            self._add_news(news)

    def _add_news(self, text: str) -> None:
        where = self._where.rstrip(".")
        self._grown.news.append(f"{where}: {text}" if where else text)

    def _seeds(self) -> tuple[int, ...]:
        """Return the seeds that are new."""
        old = self._old_part.seeds if self._old.seeds is None else self._old.seeds
        gone = [seed for seed in old if seed not in self._whole.seeds]
        if gone:
            self._grown.reasons.append(f"{self._where}seeds: {words(map(str, gone))} cannot be taken out")
        return tuple(seed for seed in self._whole.seeds if seed not in old)

    def _more(self) -> tuple[Block | None, str]:
        """Return a block of the points that are new, and words for it."""
        old = self._old_part.space.with_fixed(self._old.fixed)
        new = self._new_part.space.with_fixed(self._new.fixed)
        before, after = self._old.strategy, self._new.strategy
        grid = before.kind == after.kind == "grid"
        if grid and old != new:
            return self._wider(old, new)
        grown = self._grown
        for name, change in differences(old, new):
            grown.reasons.append(
                f"{self._where}{name}: {change}; the points that are planned would be others"
            )
        if before == after:
            return None, ""
        count = after.options.get("points", 0) - before.options.get("points", 0)
        others = {**before.options, "points": 0} != {**after.options, "points": 0}
        if before.kind != after.kind or others or before.kind in ("top", "points", "catalog"):
            change = f"{strategy_text(before)} -> {strategy_text(after)}"
            grown.reasons.append(f"{self._where}strategy: {change}; only more points can be asked for")
        elif count < 0:
            asked = f"{after.options['points']} instead of {before.options['points']}"
            grown.reasons.append(
                f"{self._where}strategy.{before.kind}.points: {asked}; none can be taken out"
            )
        else:
            start = sum(one.points for one in grown.distinct(self._whole))
            block = self._block(self._whole.points - start, start=start)
            return block, f"{count:,} points more of {before.kind}"
        return None, ""

    def _block(self, points: int, **more: Any) -> Block:
        """Return a block of *points* that goes on as the one that is planned: it needs the same one.

        Its space has the same order, on which the points of a number depend, and their digest does not.
        """
        block = self._grown.distinct(self._whole)[0]
        return replace(block, points=points, seeds=self._whole.seeds, strategy=self._whole.strategy, **more)

    def _wider(self, old: Space, new: Space) -> tuple[Block | None, str]:
        """Return a block of the combinations of the grid *new* that *old* does not have."""
        from hpc_search.strategies.rest import Rest, lost

        size, gone = old.size() or 0, lost(new, old)
        if gone:
            changes = [f"{self._where}{name}: {change}" for name, change in differences(old, new)]
            changes[-1] += f"; {gone:,} of the {size:,} points that are planned would not be in it"
            self._grown.reasons += changes
            return None, ""
        if self._whole.given:
            self._grown.reasons.append(
                f"{self._where}space: a grid after points that are given stays as it is"
            )
            return None, ""
        count = Rest((old,)).count(new)
        block = self._block(count, space=self._whole.space, without=(old,)) if count else None
        return block, f"{count:,} combinations more of the grid"


def _on(stage: StageSpec) -> str:
    return stage.refit.on if stage.refit is not None else ""
