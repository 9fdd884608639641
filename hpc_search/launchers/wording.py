"""What `submit` says that it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from hpc_search.config.profile import Profile
from hpc_search.launchers.base import ActiveJobs, Fewer

#: Tokens that are all named.
_NAMED = 3
#: Fields that what is in the queue is given too, or that are not of a task.
_CHANGED_LIVE: Final = frozenset({"name", "throttle", "time", "workers"})


def already(active: Mapping[str, ActiveJobs], pending: int) -> str:
    """Return the sentence where enough workers are there for *pending* trials."""
    waiting = sum(jobs.pending for jobs in active.values())
    running = sum(jobs.running for jobs in active.values())
    reasons: Counter[str] = Counter()
    for jobs in active.values():
        reasons.update(jobs.reasons)
    # SLURM's "None" says that it has not looked at the job yet.
    named = sorted(reasons.keys() - {"", "None"})
    why = f" ({', '.join(named)})" if named else ""
    trials = "1 trial" if pending == 1 else f"{pending} trials"
    workers = f"{running} running and {waiting} waiting{why} workers for {trials}"
    return f"already submitted: {workers}; nothing was sent"


def kept(before: Profile, after: Profile) -> str:
    """Return what of *after* only holds for what is sent from now on; "" where nothing differs."""
    changed = [
        name
        for name in Profile.__struct_fields__
        if name not in _CHANGED_LIVE and getattr(before, name) != getattr(after, name)
    ]
    if not changed:
        return ""
    return (
        f"{', '.join(changed)}: for workers that are sent from now on; those that are there keep theirs "
        "(`cancel`, then `submit` replaces them)"
    )


def sent(missing: int, there: int, tokens: Sequence[str], avoided: Mapping[str, str], packed: int = 1) -> str:
    """Return the sentence on *missing* workers sent under *tokens*, and on the nodes *avoided*, with why.

    Where *packed* workers share a task, tasks are missing.
    """
    what = _workers(missing) if packed == 1 else f"{'task' if missing == 1 else 'tasks'} of {packed} workers"
    more = f", {there} {'was' if there == 1 else 'were'} there already" if there else ""
    nodes = "; ".join(f"{name}: {why}" for name, why in avoided.items())
    without = f"; not on {nodes}, again and again (`--set exclude=` allows all nodes)" if nodes else ""
    return f"{missing} {what} submitted as {_names(tokens)}{more}{without}"


def partly(sent: int, missing: int, rule: str, *, by_workers: bool) -> str:
    """Return the sentence where the site's *rule* has left room for *sent* of *missing* workers."""
    rest = (
        "the rest follows as tasks end" if by_workers else "the rest: the same command when tasks have ended"
    )
    return f"{sent:,} of {missing:,} workers submitted; {rule}; {rest}"


def fewer(done: Fewer, asked: int) -> str:
    """Return the sentence on workers that are there no more so that *asked* are left."""
    parts = [f"{done.waiting} waiting cancelled"] if done.waiting else []
    parts += [f"{done.running} running told to stop at the next checkpoint"] if done.running else []
    return f"{asked} {_workers(asked)} wanted: {', '.join(parts) or 'nothing to end'}"


def _workers(count: int) -> str:
    return "worker" if count == 1 else "workers"


def _names(tokens: Sequence[str]) -> str:
    if len(tokens) <= _NAMED:
        return ", ".join(tokens)
    return f"{tokens[0]} to {tokens[-1]} ({len(tokens)} arrays)"
