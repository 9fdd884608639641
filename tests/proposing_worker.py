"""A worker process on a run by hand: claims and ends trials; may kill itself at a step of a proposal.

python proposing_worker.py RUN [STEP NUMBER]
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import Claimed, Ledger, proposals, this_process
from hpc_search.ledger.journal import Journal
from hpc_search.ledger.proposals import Proposals
from hpc_search.ledger.proposing import Proposing
from hpc_search.planning import load_plan
from hpc_search.records import journal as lines
from hpc_search.records.proposals import PACK
from hpc_search.steering.points import Points
from tests.adaptive_run import Lowest

#: Steps of a claim, in order.
STEPS = ("owned", "chosen", "created", "settled", "told", "claimed", "packed")


def kill_at(step: str, number: int) -> None:
    """Kill this process, as the kernel does, when it has come to *step* for the *number*-th time."""
    left = [number]

    def after(real: Callable[..., Any], wanted: Callable[[Any], bool] = lambda _: True) -> Callable[..., Any]:
        def called(*args: Any, **more: Any) -> Any:
            result = real(*args, **more)
            left[0] -= wanted(args)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return called

    def is_a(name: str) -> Callable[[Any], bool]:
        return lambda args: isinstance(args[1], getattr(lines, name))

    targets: dict[str, tuple[Any, str, Callable[[Any], bool]]] = {
        "owned": (Proposals, "settled", lambda _: True),
        "chosen": (Lowest, "__call__", lambda _: True),
        "created": (durable, "publish", lambda args: args[0].name.isdecimal()),
        "settled": (Proposing, "_entry", lambda _: True),
        "told": (Journal, "append", is_a("Propose")),
        "claimed": (Journal, "append", is_a("Claim")),
        "packed": (durable, "publish", lambda args: args[0].name.startswith("packed")),
    }
    owner, name, wanted = targets[step]
    setattr(owner, name, after(getattr(owner, name), wanted))


def work(layout: Layout) -> None:
    plan = load_plan(layout)
    points = Points(layout, plan)
    ledger = Ledger(
        *(layout, plan, points, this_process()),
        lock_timeout=60,
        proposals=points.proposals,
        proposer=Lowest(layout, lambda _: time.sleep(0.001), values=100_000),
    )
    ledger.beat()
    ledger.reconcile()
    while True:
        claimed = ledger.claim(4) or (ledger.recover() and ledger.claim(4)) or []
        for one in claimed:
            ledger.start(one, os.getpid(), 0)
            ledger.finish(end_of(one))
        if not claimed:
            trials, finals = ledger.counts()
            if finals >= trials:
                break
            time.sleep(0.01)
    ledger.exit("no work left")


def end_of(claimed: Claimed) -> lines.End:
    trial = claimed.trial
    return lines.End(
        trial=trial.number,
        attempt=claimed.attempt,
        state="done",
        params=trial.params,
        point=trial.point,
        fold=trial.fold,
        value=float(trial.params["x"]),
    )


if __name__ == "__main__":
    # Few entries a pack: many are made in a short time.
    vars(proposals)["PACK"] = int(os.environ.get("HPC_TEST_PACK", PACK))
    if len(sys.argv) > 2:
        kill_at(sys.argv[2], int(sys.argv[3]))
    work(Layout(Path(sys.argv[1])))
