"""What a worker is told, and the exit codes by which it says why it left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hpc_search.errors import EXIT_FAILED, EXIT_TEMPORARY
from hpc_search.records.plan import PlannedTrial
from hpc_search.worker.departure import GIVEN_UP, MOVE, Refill

#: A point could not be proposed: what chooses points fails, and would fail again.
NOT_PROPOSED: Final = "not proposed"
#: How a worker ends where it leaves before the work does.
EXITS: Final = {
    "broken": EXIT_FAILED,
    "node failed": EXIT_TEMPORARY,
    "slice lost": EXIT_TEMPORARY,
    NOT_PROPOSED: EXIT_TEMPORARY,
    # The slice is not the expected one; of packed workers the leader has the task run on another node.
    "leave": EXIT_TEMPORARY,
    "give up": GIVEN_UP,
    "move": MOVE,
}


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker is told: its submission, its seat, its device, and how many trials to run at most.

    ``only`` runs one trial and no other, with the parameters of ``override`` where that is given.
    """

    token: str = ""
    seat: str = ""
    device: str = ""
    limit: int | None = None
    #: Sends the workers that are missing at this one's end.
    refill: Refill | None = None
    #: Whether it is one of several workers of a task.
    packed: bool = False
    only: int | None = None
    override: PlannedTrial | None = None
    #: Stop the trial at its first report (``plan --check``).
    to_first_report: bool = False
    #: Run what looks at the test side (`hpc-search test`).
    testing: bool = False
    #: Seconds that a process may take to die by SIGKILL; then its slice is lost.
    survival: float = 30.0
    #: Seconds that importing the trial's code may take, where `stall` is not longer.
    import_limit: float = 1800.0
    #: Whether installed packages may differ from those of the plan.
    any_packages: bool = False
    #: Folds whose trials alone it claims, () for all.
    folds: tuple[int, ...] = ()
