"""Whether the audit logs of a finished run are complete."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.planning import Numbering, load_plan

#: What has to stand in a log about the attempt that made a result, in this order.
_ATTEMPT: Final = ("trial claimed", "trial started", "trial finished")


def audit_problems(layout: Layout) -> list[str]:
    """Return what is missing in audit.log and in the logs of the folds, of a run that was collected.

    Of every result the claim, the start and the end by its worker stand in audit.log, in this order, and in
    the log of its fold alone; each log is a part of audit.log.
    """
    numbering = Numbering(load_plan(layout))
    results = history.results(layout)
    folds = {trial: numbering(trial).fold for trial in results}
    whole = layout.audit.read_text().splitlines()
    wanted = {
        (trial, found.attempt, f"worker {found.worker}"): folds[trial] for trial, found in results.items()
    }
    problems = _incomplete("audit.log", whole, wanted)
    for fold in sorted({fold for fold in folds.values() if fold is not None}):
        name = layout.audit_fold(fold).relative_to(layout.root).as_posix()
        lines = layout.audit_fold(fold).read_text().splitlines()
        problems += _incomplete(name, lines, [one for one, of in wanted.items() if of == fold])
        extra = Counter(lines) - Counter(whole)
        problems += [f"{name}: a line that audit.log does not have: {line}" for line in extra]
        others = {trial for trial in map(_trial, lines) if folds.get(trial, fold) != fold}
        problems += [f"{name}: lines of trial {trial}, of another fold" for trial in sorted(others)]
    return problems


def _incomplete(name: str, lines: Iterable[str], wanted: Iterable[tuple[int, int, str]]) -> list[str]:
    events: defaultdict[tuple[int, int, str], list[str]] = defaultdict(list)
    for line in lines:
        _, event, about, who, _ = line.split(" | ", 4)
        words = about.split()
        if event in _ATTEMPT and words[2:3] == ["attempt"]:
            events[int(words[1]), int(words[3]), who].append(event)
    problems = []
    for one in wanted:
        # An attempt may have been started several times: a fork that was refused, a memory that ran out.
        found = [event for event, _ in groupby(events[one])]
        if found != [*_ATTEMPT]:
            problems.append(f"{name}: trial {one[0]} attempt {one[1]} has the lines {found or 'none'}")
    return problems


def _trial(line: str) -> int:
    words = line.split(" | ", 3)[2].split()
    return int(words[1]) if words[:1] == ["trial"] else -1
