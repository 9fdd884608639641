"""A worker's own failures, and what follows for it and for the search when they repeat."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from typing import Final, Literal

from hpc_search.layout import Layout
from hpc_search.ledger import Ledger, history
from hpc_search.ledger.liveness import certainly_gone
from hpc_search.records import journal as lines
from hpc_search.steering import stages
from hpc_search.worker import breaker
from hpc_search.worker.breaker import Standing
from hpc_search.worker.memory import KillCounter
from hpc_search.worker.opening import Fault

#: What is wrong where no trial can be run, and what to do.
_FAULTS: Final[Mapping[Fault, tuple[str, str]]] = {
    "code": (
        "the trial's code cannot be imported",
        (
            "  next: install what is missing on this machine and `submit` again; or correct the code and\n"
            "  `submit RUN --resnapshot`: this run keeps the code that it was planned with"
        ),
    ),
    "packages": (
        "the installed packages are not those of the plan",
        "  next: install the versions of the plan, or `hpc-search submit RUN --allow-different-packages`",
    ),
    "splits": (
        "the folds are not those of the plan",
        "  next: `hpc-search fsck RUN --repair`, then `submit RUN`; other folds are another run",
    ),
    "data": (
        "the data are not those of the plan",
        (
            "  next: put back what was planned with, then `submit RUN`; changed data are another run:\n"
            "  `hpc-search plan CONFIG --run DIR`"
        ),
    ),
}
#: Event of the note with a worker's cgroup and the kernel's count of kills there when it began.
_MEMORY: Final = "memory"
#: Why a worker leaves: the search is stopped, or this node is left to nobody.
Leaving = Literal["", "broken", "node failed"]


class Failures:
    """Follows the ends of one worker."""

    def __init__(self, ledger: Ledger, node: str) -> None:
        """Follow the worker of *ledger* on *node*, each search of the plan by itself."""
        self._layout = ledger.layout
        self._ledger = ledger
        self._plan = ledger.plan
        self._stop_after = ledger.plan.search.stop_after
        self._node = node
        self._mine: defaultdict[str, Standing] = defaultdict(lambda: Standing(ledger.id, node))

    def after(self, end: lines.End) -> Leaving:
        """Take the end of an attempt; return why the worker has to leave, "" where it goes on."""
        part = self._plan.part_of(end.trial).name
        mine = self._mine[part] = self._mine[part].after(end)
        count = len(mine.streak.trials)
        if not self._stop_after or not count or count % self._stop_after:
            # The journals of the others are read at every so many failures only.
            return ""
        workers = breaker.standings(self._layout, lambda trial: self._plan.part_of(trial).name == part)
        decision = breaker.judge(mine, workers, self._stop_after)
        text = breaker.words(mine, workers, end)
        return self._leave(decision, text, part) if decision != "go on" else ""

    def broken(self, number: int, detail: str, fault: Fault) -> tuple[Leaving, str]:
        """Say that trial *number* cannot be run here for a *fault* that is not its own.

        Returns:
            Why the worker has to leave, and a line.
        """
        part = self._plan.part_of(number).name
        last = lines.headline(detail)
        what, hint = _FAULTS[fault]
        text = f"{what}: {last}\n{hint}\n{detail if last != detail else ''}"
        note = lines.Note(event=breaker.BROKEN, text=text)
        self._ledger.journal.append(note)
        # Of two workers that look at each other's journals at least one shall see the other's.
        self._ledger.journal.sync()
        mine = self._mine[part] = self._mine[part].after(note)
        decision = breaker.judge_import(mine, breaker.standings(self._layout))
        return self._leave(decision, text, part), f"{what}: {last}"

    def node_failed(self, text: str) -> None:
        """Say that this node is at fault: later submissions avoid one that fails again and again."""
        self._ledger.note(breaker.NODE_FAILED, text)
        sys.stderr.write(f"hpc_search: {text.rstrip()}" + "\n")

    def _leave(self, decision: breaker.Decision, text: str, part: str) -> Leaving:
        if decision == "stop":
            sys.stderr.write(f"hpc_search: {text.rstrip()}" + "\n")
            stages.stop_search(self._layout, self._plan, self._ledger.gates, part, text.rstrip())
            # Other searches of the plan may go on.
            return "broken" if self._layout.stop.exists() else ""
        self.node_failed(f"only on {self._node}, so this worker leaves and the others go on: {text}")
        return "node failed"


def note_memory(layout: Layout, ledger: Ledger, kills: KillCounter) -> None:
    """Say which workers before this one, in its cgroup, are gone while the kernel killed for memory there.

    Only what shares a cgroup can be seen: a new job, or a requeued one, has a new one, and then nobody
    can tell a worker that was killed for memory from one that was killed.
    """
    count = kills.read()
    if count is None:
        return
    # Where nobody was killed there is nothing to find in the journals of all.
    for worker in history.live_workers(layout) if count else ():
        before = _count_of(layout, ledger, worker, str(kills.path)) if worker != ledger.id else None
        if before is not None and before < count:
            killed = f"the kernel killed {count - before} processes of this cgroup for memory since it began"
            ledger.note("worker gone", f"worker {worker}: {killed}")
            sys.stderr.write(f"hpc_search: worker {worker} is gone; {killed}" + "\n")
    ledger.note(_MEMORY, json.dumps([str(kills.path), count]))


def _count_of(layout: Layout, ledger: Ledger, worker: str, path: str) -> int | None:
    """Return the count when *worker* began, None where it exited, is alive, or was in another cgroup."""
    opening: lines.Open | None = None
    count: int | None = None
    for record in history.records(layout, worker, frozenset({b"open", b"note", b"exit"})):
        if isinstance(record, lines.Exit):
            return None
        if isinstance(record, lines.Open):
            opening = record
        elif isinstance(record, lines.Note) and record.event == _MEMORY:
            group, number = json.loads(record.text)
            count = number if group == path else None
    if opening is None or opening.boot_id != ledger.me.boot_id:
        return None
    return count if certainly_gone(opening, ledger.me) else None
