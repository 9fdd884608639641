"""How the trials of each fold stand; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hpc_search.records import index as codec
from hpc_search.records.index import Entry
from hpc_search.records.plan import Plan
from hpc_search.status import index
from hpc_search.status.model import Fold


def look(plan: Plan, entries: Sequence[Entry | None]) -> tuple[Fold, ...]:
    """Return every fold by number, all searches and stages together; none where nothing is split.

    Refits train on several folds and count in none.
    """
    states: dict[int, Counter[int]] = {}
    trials: Counter[int] = Counter()
    left_out: Counter[int] = Counter()
    for block in plan.blocks:
        if block.refit:
            continue
        each = block.points * len(block.seeds)
        for place, fold in enumerate(block.folds):
            first = block.first + place * each
            mine = [entry for entry in entries[first : first + each] if entry is not None]
            states.setdefault(fold, Counter()).update(entry.state for entry in mine)
            left_out[fold] += index.left_out(mine, states[fold])
            trials[fold] += each
    return tuple(
        Fold(
            fold=fold,
            trials=trials[fold],
            running=of_fold[codec.RUNNING],
            done=of_fold[codec.DONE],
            failed=of_fold[codec.FAILED],
            pruned=of_fold[codec.PRUNED],
            left_out=left_out[fold],
        )
        for fold, of_fold in sorted(states.items())
    )
