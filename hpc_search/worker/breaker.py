"""The circuit breaker: equal failures in a row stop the search, or only the worker of a bad node.

Deciding is pure; `standings` reads the journals, and only a worker that has failed often asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from hpc_search.layout import Layout
from hpc_search.ledger import gone, history, mismatches
from hpc_search.records import journal as lines

#: Event of the note with SLURM's name of the node, which `sbatch --exclude` understands.
NODE: Final = mismatches.NODE
#: Event of the note of a worker that could not import the trial's code.
BROKEN: Final = "broken"
#: Event of the note of a worker that leaves its node to others: it alone fails there.
NODE_FAILED: Final = "node failed"
#: Ends that say nothing of the trial's code.
_BLAMELESS: Final = ("", "preempted", "lost")
#: A point may be too large for the GPU, or diverge: that stops nothing once a trial has succeeded.
_OF_POINTS: Final = ("oom", "nonfinite")
_KINDS: Final = frozenset({b"open", b"note", b"end", b"exit"})
_MASKS: Final = (
    (re.compile(r"0x[0-9a-fA-F]+|\b(?=[a-f]*[0-9])[0-9a-f]{8,}\b"), "#"),
    (re.compile(r"(?<![\w.])~?(?:/[^\s/'\":,;()<>]+)+/?"), "/"),
    (re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"), "#"),
)

Decision = Literal["go on", "leave", "stop"]


def masked(detail: str) -> str:
    """Return what went wrong without what differs from trial to trial: numbers, paths, hexadecimal digits."""
    text = lines.headline(detail)
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    return text


@dataclass(frozen=True, slots=True)
class Streak:
    """Trials that failed one after the other for the same ``reason``: (cause, masked words)."""

    reason: tuple[str, str] = ("", "")
    trials: frozenset[int] = frozenset()

    def after(self, end: lines.End) -> Streak:
        """Return the streak after *end* of the same worker."""
        if end.state in ("done", "pruned"):
            return Streak()
        if end.cause in _BLAMELESS:
            return self
        reason = (end.cause, masked(end.detail))
        known = self.trials if reason == self.reason else frozenset()
        return Streak(reason, known | {end.trial})


@dataclass(frozen=True, slots=True)
class Standing:
    """One worker as its journal shows it."""

    worker: str
    node: str = ""
    streak: Streak = field(default_factory=Streak)
    #: Masked words of its last failed import, "" where there was none.
    broken: str = ""
    succeeded: bool = False
    exited: bool = False

    def after(self, record: lines.AnyRecord) -> Standing:
        """Return what it is after *record*, the next one of its journal."""
        match record:
            case lines.Open():
                return replace(self, node=self.node or record.host)
            case lines.Note(event=event) if event == NODE:
                return replace(self, node=record.text)
            case lines.Note(event=event) if event == BROKEN:
                return replace(self, broken=masked(record.text))
            case lines.End():
                succeeded = self.succeeded or record.state == "done"
                return replace(self, streak=self.streak.after(record), succeeded=succeeded)
            case lines.Exit():
                return replace(self, exited=True)
        return self


def standings(layout: Layout, trials: Callable[[int], bool] = lambda _: True) -> list[Standing]:
    """Return every worker of the run, from all journals; those that submissions found gone have exited.

    Only ends of those *trials* count that it returns true for.
    """
    live = set(history.live_workers(layout)) - gone.reported(layout)
    found: dict[str, Standing] = {}
    for line in history.lines(layout, _KINDS):
        record = lines.parse_line(line.data)
        if record is not None and not (isinstance(record, lines.End) and not trials(record.trial)):
            known = found.get(line.worker) or Standing(line.worker, exited=line.worker not in live)
            found[line.worker] = known.after(record)
    return list(found.values())


def judge(mine: Standing, workers: Iterable[Standing], stop_after: int) -> Decision:
    """Return what follows from the streak of *mine*: one node alone never stops the search of several."""
    workers = [one for one in workers if one.worker != mine.worker]
    if not stop_after or len(mine.streak.trials) < stop_after:
        return "go on"
    if mine.streak.reason[0] in _OF_POINTS and any(one.succeeded for one in (mine, *workers)):
        return "go on"
    return _by_nodes(mine, workers, [one for one in workers if one.streak.reason == mine.streak.reason])


def judge_import(mine: Standing, workers: Iterable[Standing]) -> Decision:
    """Return what follows where *mine* cannot import the trial's code."""
    workers = [one for one in workers if one.worker != mine.worker]
    return _by_nodes(mine, workers, [one for one in workers if one.broken == mine.broken])


def _by_nodes(mine: Standing, workers: Collection[Standing], alike: Collection[Standing]) -> Decision:
    live = {one.node for one in workers if not one.exited} | {mine.node}
    failing = {one.node for one in alike} | {mine.node}
    return "stop" if len(live) < 2 or len(failing) > 1 else "leave"


def words(mine: Standing, workers: Iterable[Standing], end: lines.End) -> str:
    """Return what is published where the streak of *mine*, which *end* closed, stops the search."""
    alike = [one for one in workers if one.streak.reason == mine.streak.reason and one.worker != mine.worker]
    trials = mine.streak.trials.union(*(one.streak.trials for one in alike))
    nodes = sorted({mine.node, *(one.node for one in alike)})
    place = f"node {nodes[0]}" if len(nodes) == 1 else f"nodes {', '.join(nodes)}"
    return (
        f"{len(trials)} trials in a row failed in the same way ({end.cause}: {lines.headline(end.detail)})\n"
        f"  on {place}, the last one trial {end.trial}; the others are left as they are\n"
        f"  next: `hpc-search show RUN {end.trial}` has its log; put the cause right and `submit` again. "
        "Where it is no mistake: stop_after in the search file (0: never)\n"
    )
