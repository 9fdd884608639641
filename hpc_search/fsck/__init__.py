"""Checking every file of a run, and repairing what can be repaired."""

from __future__ import annotations

from hpc_search.errors import UsageError
from hpc_search.fsck.adopt import adopt
from hpc_search.fsck.check import Checkup, confirmed, examine, truth
from hpc_search.fsck.disk import Disk
from hpc_search.fsck.findings import Finding, Report
from hpc_search.fsck.live import Absent, live_workers, maybe_live
from hpc_search.fsck.repair import repair
from hpc_search.layout import Layout

__all__ = ["Finding", "Report", "adopt", "check_run", "repair_run"]
#: The lease where the plan cannot be read.
_LEASE = 900.0


def check_run(layout: Layout) -> Report:
    """Verify every file of the run at *layout*; writes nothing and takes no lock.

    Raises:
        UsageError: It is no run.
    """
    checkup = confirmed(layout)
    findings = tuple(case.finding for case in checkup.cases)
    return Report(run=str(layout.root), files=checkup.files, bytes=checkup.bytes, findings=findings)


def repair_run(layout: Layout, absent: Absent = lambda _: False) -> Report:
    """Repair the run at *layout*; *absent* says whether no scheduler knows a token any more.

    Raises:
        UsageError: It is no run, or a worker may be live.
        TemporaryError: Another command is at work on the run.
    """
    disk = Disk(layout)
    checkup = examine(layout, maybe_live(disk))
    lease = checkup.plan.search.lease if checkup.plan is not None else _LEASE
    live = live_workers(disk, lease, absent, checkup.facts, checkup.plan.run_id if checkup.plan else "")
    if live:
        worker, where = min(live.items())
        more = f" and {len(live) - 1} more" if len(live) > 1 else ""
        raise UsageError(
            f"worker {worker} on {where}{more} may be at work: nothing was changed",
            hint=f"`hpc-search cancel {layout}`, or wait until it ends; one that was killed on "
            f"another machine is taken for dead after its lease of {lease:g} s",
        )
    _refuse_unread(layout, checkup)
    checkup, findings = repair(layout)
    return Report(
        run=str(layout.root), files=checkup.files, bytes=checkup.bytes, findings=findings, repaired=True
    )


def _refuse_unread(layout: Layout, checkup: Checkup) -> None:
    """Change nothing where results may stand in what cannot be read now: they would be taken for lost."""
    unread = [name for name in sorted(checkup.unread) if truth(name)]
    if unread:
        more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
        why = checkup.unread[unread[0]]
        raise UsageError(
            f"{layout.root / unread[0]}{more} cannot be read ({why}): nothing was changed",
            hint="make it readable and repeat this; move out of the run what the disk does not give any more",
        )
