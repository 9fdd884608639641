"""Changing what is in the queue already, by the ids that the token has now: a few calls an array."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from hpc_search.config.profile import Profile
from hpc_search.launchers.base import Fewer
from hpc_search.site.client import ask
from hpc_search.site.tasks import Task


def change(tasks: Sequence[Task], before: Profile, after: Profile) -> list[str]:
    """Give *tasks* the throttle and the walltime of *after* where they differ; return what was done."""
    # Those that end take no change any more.
    done, tasks = [], [task for task in tasks if task.counts]
    if before.throttle != after.throttle:
        limit = f"at most {after.throttle} tasks" if after.throttle else "any number of tasks"
        commands = [_update(array, f"ArrayTaskThrottle={after.throttle}") for array in by_array(tasks)]
        done.append(_told(commands, f"{limit} at once", "throttle"))
    if before.time != after.time and after.time > 0:
        waiting = by_array(task for task in tasks if task.waits)
        commands = [_update(ids(*one), f"TimeLimit={after.time}") for one in waiting.items()]
        done.append(_told(commands, f"{after.time} minutes for what waits", "time"))
    return [words for words in done if words]


def reduce(tasks: Sequence[Task], count: int) -> Fewer:
    """Cancel *count* of *tasks*: waiting ones, the last ones first, then running ones after a checkpoint.

    SIGINT goes to the worker alone: it saves, ends, and asks for no more time.
    """
    waiting = sorted((task for task in tasks if task.waits), key=_order)[-count:]
    running = [task for task in tasks if not task.waits and task.counts]
    running = sorted(running, key=_order)[-(count - len(waiting)) :] if count > len(waiting) else []
    for one in by_array(waiting).items():
        ask(["scancel", "--state=PENDING", ids(*one)])
    for one in by_array(running).items():
        ask(["scancel", "--signal=INT", ids(*one)])
    return Fewer(len(waiting), len(running))


def by_array(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    """Return the tasks by the id of their array."""
    found: defaultdict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        found[task.array].append(task)
    return dict(found)


def ids(array: str, tasks: Sequence[Task]) -> str:
    """Return what scontrol and scancel call these *tasks* of *array*: ``17_[0-3,5]``."""
    indexes = sorted(int(task.number) for task in tasks if task.number)
    if not indexes:
        return array
    runs: list[list[int]] = []
    for index in indexes:
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    words = (str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return f"{array}_[{','.join(words)}]"


def _order(task: Task) -> tuple[int, int]:
    return int(task.array), int(task.number or 0)


def _update(name: str, setting: str) -> bool:
    return ask(["scontrol", "update", f"JobId={name}", setting]) is not None


def _told(answers: Sequence[bool], what: str, field: str) -> str:
    if not answers:
        return ""
    arrays = "1 array has" if len(answers) == 1 else f"{len(answers)} arrays have"
    if all(answers):
        return f"{arrays} now {what}"
    refused = len(answers) - sum(answers)
    return (
        f"SLURM refused `{field}` for {refused} of {len(answers)} arrays: it holds for those sent from now on"
    )
