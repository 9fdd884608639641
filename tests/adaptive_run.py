"""A run by hand whose points are proposed, and a proposer that is easy to follow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from hpc_search.errors import UsageError
from hpc_search.layout import Layout
from hpc_search.ledger import Ledger
from hpc_search.ledger.proposals import Proposals
from hpc_search.ledger.proposing import Proposed, Proposer
from hpc_search.mounts import Claiming
from hpc_search.records.plan import Plan, encode_plan
from hpc_search.records.search import StrategySpec
from hpc_search.space import Choice, Space
from hpc_search.steering.points import Points
from tests.ledger_run import LedgerRun

#: Values of the one parameter.
VALUES = 64


class Lowest:
    """Proposes the lowest value of x that no other point has, by a view of its own."""

    def __init__(
        self, layout: Layout, meanwhile: Callable[[int], None] = lambda _: None, values: int = VALUES
    ) -> None:
        self._log = Proposals(layout)
        self._values = values
        self._meanwhile = meanwhile
        #: Every point that it was asked for.
        self.asked: list[int] = []

    def __call__(self, point: int) -> Proposed | None:
        self.asked.append(point)
        self._log.read()
        taken = {entry.params["x"] for entry in self._log.all.values()}
        free = next((x for x in range(self._values) if x not in taken), None)
        self._meanwhile(point)
        if free is None:
            raise UsageError("every point of the space was proposed before", hint="ask for fewer")
        return Proposed({"x": free}, f"digest of {len(taken)}", f"0-{len(taken)}")


class AdaptiveRun(LedgerRun):
    """*points* points x *folds* folds, proposed by whoever claims them."""

    def __init__(
        self, root: Path, points: int = 4, folds: int = 1, claiming: Claiming = "lock", **more: Any
    ) -> None:
        super().__init__(root, trials=points * folds, claiming=claiming, **more)
        self.plan = adaptive(self.plan, points, folds)
        self.layout.plan.write_bytes(encode_plan(self.plan))

    def ledger(  # type: ignore[override]
        self, proposer: Proposer | None = None, **more: Any
    ) -> Ledger:
        points = Points(self.layout, self.plan)
        made = Ledger(
            self.layout,
            self.plan,
            points,
            self.identity(**more),
            lock_timeout=20,
            proposals=points.proposals,
            proposer=proposer or Lowest(self.layout),
        )
        self._open.append(made)
        return made


def adaptive(plan: Plan, points: int, folds: int) -> Plan:
    """Return *plan* with one block of so many points, to be proposed."""
    space = Space({"x": Choice(tuple(range(VALUES)))})
    strategy = StrategySpec("evolution", {"points": points})
    search = msgspec.structs.replace(plan.search, space=space, strategy=strategy)
    block = msgspec.structs.replace(
        plan.blocks[0],
        points=points,
        folds=tuple(range(folds)) if folds > 1 else (),
        space=space,
        strategy=strategy,
    )
    return msgspec.structs.replace(plan, search=search, blocks=(block,), points=points, trials=block.trials)
