"""What a run has used of its budget; only reads.

`hours` are those since its first trial started, by the file server's clock alone: of `ledger/began`, and now.
No clock of a machine is compared with another's, and hours in which nothing worked count: such a budget is
for a deadline. `gpu_hours` are seconds inside attempts, whatever became of them, times the devices of their
worker; an attempt that runs counts up to its worker's last sign of life. A worker without a GPU, or with a
slice of one, counts as one device.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from hpc_search.config.profile import Profile
from hpc_search.layout import Layout
from hpc_search.ledger import submits
from hpc_search.ledger.state import USED_UP
from hpc_search.records.plan import Plan
from hpc_search.site.shared import file_server_now
from hpc_search.status import hours, slots
from hpc_search.status.model import Use
from hpc_search.status.workers import signs


class Used(NamedTuple):
    """What is used, and the seconds until nothing is left, where as much goes on as now."""

    uses: tuple[Use, ...] = ()
    seconds: float = float("inf")

    @property
    def over(self) -> str:
        """Why nothing may begin any more, "" where it may."""
        spent = [one.text for one in self.uses if one.used >= one.limit]
        return f"{USED_UP}: {', '.join(spent)}" if spent else ""


class Meter:
    """Looks again and again; of the journals it reads each byte once."""

    def __init__(self, layout: Layout, plan: Plan) -> None:
        """Look at the run at *layout*."""
        self._layout = layout
        self._plan = plan
        self._book: hours.Book | None = None

    def look(self) -> Used:
        """Return what is used now."""
        if not self._plan.search.budget.gpu_hours:
            return used(self._layout, self._plan, {})
        self._book = hours.read(self._layout, self._plan.run_id, self._book, keep=False)
        return used(self._layout, self._plan, hours.workers(self._book))


def used(layout: Layout, plan: Plan, rows: Mapping[str, hours.Row]) -> Used:
    """Return what is used by the workers with the journals *rows*."""
    budget = plan.search.budget
    uses, seconds = [], float("inf")
    if budget.hours:
        spent = elapsed(layout)
        uses.append(Use("hours", spent / 3600, budget.hours))
        seconds = budget.hours * 3600 - spent
    if budget.gpu_hours:
        spent, rate, cpu = _inside(layout, plan, rows)
        uses.append(Use("gpu_hours", spent / 3600, budget.gpu_hours, cpu))
        seconds = min(seconds, (budget.gpu_hours * 3600 - spent) / max(1.0, rate))
    return Used(tuple(uses), seconds)


def elapsed(layout: Layout) -> float:
    """Return the seconds since the first trial started, 0 where none has or the time cannot be asked for."""
    with suppress(OSError):
        began = os.stat(layout.began).st_mtime
        now = file_server_now(layout)
        return max(0.0, now - began) if now is not None else 0.0
    return 0.0


def _inside(layout: Layout, plan: Plan, rows: Mapping[str, hours.Row]) -> tuple[float, float, bool]:
    """Return device seconds inside attempts, devices at work, and whether some are no GPU."""
    profiles = _profiles(layout) if rows else {}
    spent, rate, cpu = 0.0, 0.0, False
    for worker, row in rows.items():
        share = slots.share_of(profiles.get(row.token), row.device, plan.search.threads)
        many = devices(share)
        inside = row.busy
        if row.tail is not None:
            inside += max(0.0, row.last - row.tail.started)
        if not row.exited:
            rate += many
            inside += _since(layout, worker) if row.tail is not None else 0.0
        spent += many * inside
        cpu |= share.unit == "core" and inside > 0
    return spent, rate, cpu


def devices(share: slots.Share) -> float:
    """Return how many devices a worker's *share* is: of GPUs their number, of anything else one."""
    return share.amount if share.unit == "GPU" else 1.0


def _since(layout: Layout, worker: str) -> float:
    """Return the seconds from a worker's last line to its last heartbeat: two times of the file server."""
    seen = signs(layout, worker)
    return max(0.0, seen.beat - seen.journal)


def _profiles(layout: Layout) -> dict[str, Profile]:
    return {one.token: one.profile for one in submits.submissions(layout) if one.launcher == "slurm"}
