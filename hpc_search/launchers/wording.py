"""What `submit` says that it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from hpc_search.launchers.base import ActiveJobs


def already(active: Mapping[str, ActiveJobs], pending: int) -> str:
    """Return the sentence where enough workers are there for *pending* trials."""
    waiting = sum(jobs.pending for jobs in active.values())
    running = sum(jobs.running for jobs in active.values())
    reasons: Counter[str] = Counter()
    for jobs in active.values():
        reasons.update(jobs.reasons)
    why = f" ({', '.join(sorted(filter(None, reasons)))})" if any(reasons) else ""
    workers = f"{running} running and {waiting} waiting{why} workers for {pending} trials"
    return f"already submitted: {workers}; nothing was sent"


def sent(missing: int, there: int, tokens: Sequence[str], avoided: Mapping[str, str]) -> str:
    """Return the sentence on *missing* workers sent under *tokens*, and on the nodes *avoided*, with why."""
    more = f", {there} were there already" if there else ""
    nodes = "; ".join(f"{name}: {why}" for name, why in avoided.items())
    without = f"; not on {nodes}, again and again (`--set exclude=` allows all nodes)" if nodes else ""
    workers = "worker" if missing == 1 else "workers"
    return f"{missing} {workers} submitted as {', '.join(tokens)}{more}{without}"
