"""Nodes that fail again and again for reasons of their own, by the journals: later submissions avoid them.

Only nodes whose name SLURM itself gave (SLURMD_NODENAME) are known here. All events of a node are ordered
by that node's own clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from hpc_search.config.slices import Slice
from hpc_search.layout import Layout
from hpc_search.ledger import history, liveness, mismatches
from hpc_search.ledger.submits import submissions
from hpc_search.records import journal as lines
from hpc_search.worker.breaker import BROKEN, NODE, NODE_FAILED
from hpc_search.worker.verdict import HOST_DIED

#: Workers in a row that fail on a node before it is avoided.
_IN_A_ROW: Final = 2
#: A worker that was lost within so many heartbeats, with nothing done, did not live long.
_SOON: Final = 3
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")
_KINDS: Final = frozenset({b"open", b"note", b"start", b"checkpoint", b"end", b"exit"})
_IMPORT: Final = "the trial's code could not be imported"
_MISMATCH: Final = "not the slice that the profile expects"
_LOST: Final = "a worker was lost soon after its start"


@dataclass(slots=True)
class Life:
    """One worker: where it ran, when (its node's seconds) a trial of it last succeeded, how it failed."""

    worker: str
    node: str = ""
    last: float = 0.0
    succeeded: float = 0.0
    failed: float = 0.0
    why: str = ""
    started: bool = False
    #: The slice that it was to have, where a submission says so, and whether it found it.
    slice: Slice | None = None
    fits: bool = False
    kept: bool = False
    exited: bool = False
    #: Whether its heartbeats say that it was there for a while, or nobody can tell.
    lasted: bool = True

    def take(self, record: lines.AnyRecord) -> None:
        """Take the next record of its journal."""
        self.last = max(self.last, record.t)
        match record:
            case lines.Note(event=event) if event == NODE:
                self.node = record.text
            case lines.Note(event=event) if event == BROKEN:
                self._fails(_IMPORT)
            case lines.Note(event=event) if event == mismatches.SLICE:
                self.fits = True
            case lines.Note(event=event) if event == mismatches.MISMATCH:
                self.fits = False
                self._fails(_MISMATCH)
            case lines.Note(event=event) if event == NODE_FAILED and self.why != _IMPORT:
                self._fails(lines.headline(record.text))
            case lines.Start():
                self.started = True
            case lines.Checkpoint():
                self.kept = True
            case lines.End(state="done"):
                self.succeeded = self.last
            case lines.End(cause="lost") if record.detail == HOST_DIED:
                self._fails(HOST_DIED)
            case lines.Exit():
                self.exited = True

    def _fails(self, why: str) -> None:
        self.failed, self.why = self.last, why

    def lost(self) -> None:
        """Note that others found it dead."""
        if not (self.exited or self.kept or self.succeeded or self.lasted):
            self._fails(_LOST)


@dataclass(slots=True)
class _Node:
    lives: list[Life] = field(default_factory=list)

    def trouble(self) -> list[Life]:
        """Return the workers that failed here since a trial last succeeded, in order of time."""
        since = max(life.succeeded for life in self.lives)
        return sorted((life for life in self.lives if life.failed > since), key=lambda life: life.failed)


def read(layout: Layout) -> dict[str, str]:
    """Return the nodes of the run at *layout* to avoid, each with why."""
    slices = {one.token: one.profile.slice for one in submissions(layout)}
    lives: dict[str, Life] = {}
    dead: set[str] = set()
    for line in history.lines(layout, _KINDS):
        record = lines.parse_line(line.data)
        if record is None:
            continue
        life = lives.setdefault(line.worker, Life(line.worker))
        life.take(record)
        if isinstance(record, lines.Open):
            life.slice = slices.get(record.token)
        if isinstance(record, lines.End) and record.cause == "lost":
            dead.add(record.detail.removeprefix("worker ").removesuffix(" is gone"))
    for worker in dead & lives.keys():
        beat = liveness.read_beat(layout, worker)
        lives[worker].lasted = beat is None or beat.counter > _SOON
        lives[worker].lost()
    return to_avoid(lives.values())


def to_avoid(lives: Iterable[Life]) -> dict[str, str]:
    """Return node -> why, of those where the last two workers that came to an end failed.

    Code that no node can import is no fault of a node, nor is a slice that no node has.
    """
    nodes: dict[str, _Node] = {}
    for life in lives:
        if _NAME.fullmatch(life.node):
            nodes.setdefault(life.node, _Node()).lives.append(life)
    known = [life for node in nodes.values() for life in node.lives]
    importable = any(life.started for life in known)
    there = {life.slice for life in known if life.fits}
    found: dict[str, str] = {}
    for name, node in sorted(nodes.items()):
        trouble = [
            life
            for life in node.trouble()
            if (life.why != _IMPORT or importable) and (life.why != _MISMATCH or life.slice in there)
        ]
        if len(trouble) >= _IN_A_ROW:
            found[name] = trouble[-1].why
    return found


def merged(exclude: str, nodes: Iterable[str]) -> str:
    """Return the value of sbatch's --exclude: the profile's *exclude* and *nodes*."""
    return ",".join(filter(None, [exclude, *sorted(nodes)]))
