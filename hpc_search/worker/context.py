"""What every attempt of a worker shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hpc_search.layout import Layout
from hpc_search.ledger import Ledger
from hpc_search.records.plan import Plan
from hpc_search.steering.referee import Referee
from hpc_search.worker.events import Events
from hpc_search.worker.log import Log
from hpc_search.worker.memory import KillCounter


@dataclass(frozen=True, slots=True)
class AttemptContext:
    """What every attempt of a worker shares."""

    layout: Layout
    plan: Plan
    ledger: Ledger
    log: Log
    events: Events
    device: str
    directory: str
    node: str
    stall: float
    kills: KillCounter
    #: Seconds that a trial can have in one job, None without a limit.
    limit: float | None
    #: Whether this attempt has all of it.
    whole: bool
    #: Seconds that a process may take to die by SIGKILL.
    survival: float
    #: Called when the trial's process runs.
    started: Callable[[], None]
    #: Says in words that others took memory of the GPU when a trial ended with this text, else "".
    foreign: Callable[[str], str] = lambda _: ""
    #: Says in words that the sources on this node were changed, and puts them right, else "".
    mended: Callable[[], str] = lambda: ""
    to_first_report: bool = False
    #: Whether it looks at the test side.
    testing: bool = False
    #: Who decides on trials at their rungs; None where nothing ends trials early.
    referee: Referee | None = None
