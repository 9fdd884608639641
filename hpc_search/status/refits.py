"""How far the refit is, and whether the test side was opened: a line each."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.ledger import vault
from hpc_search.records import index as codec
from hpc_search.records.index import Entry
from hpc_search.records.plan import Plan


def lines(layout: Layout, plan: Plan, entries: Sequence[Entry | None]) -> list[str]:
    """Return both lines; none of what has not begun, or is not planned."""
    return [*_refit(plan, entries), *_test(layout)]


def _refit(plan: Plan, entries: Sequence[Entry | None]) -> list[str]:
    mine = [
        entry
        for block in plan.blocks
        if block.refit
        for entry in entries[block.first : block.first + block.trials]
    ]
    if not mine:
        return []
    done = sum(entry is not None and entry.state == codec.DONE for entry in mine)
    return [f"refit: {done} of {len(mine)} done"]


def _test(layout: Layout) -> list[str]:
    try:
        looks = vault.looks(layout)
    except DamagedError as error:
        return [f"test side: opened, but {error.message}"]
    if not looks:
        return []
    times = f"{len(looks)} times, first " if len(looks) > 1 else ""
    left = ""
    if (refusal := looks[-1].refusal) is not None:
        left = f"; {vault.refused_words(refusal)}"
    elif looks[-1].result is None:
        left = "; nothing came of it yet: `test RUN` goes on"
    return [f"test side: opened {times}{vault.by_words(looks[0].opening.by)}{left}"]
