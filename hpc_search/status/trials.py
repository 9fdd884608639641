"""Running trials, failures and nodes, from what the journals and the workers' signs say."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from hpc_search.layout import Layout
from hpc_search.ledger.mismatches import ELSEWHERE, MISMATCH, Missing, Tally, Visit
from hpc_search.records.index import Entry
from hpc_search.status.hours import Group, Row
from hpc_search.status.index import cause_of
from hpc_search.status.model import Failure, Node, Running
from hpc_search.status.workers import LiveWorker, Signs

#: A trial is slow after so many medians and so many seconds; so many are shown.
_SLOW: Final = (3.0, 60.0)
_SHOWN: Final = 8
#: As in `worker.pace`: silence after which a trial is hung, in seconds or medians.
_STALL: Final = (1800.0, 5.0)


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of each worker: its journal, its signs, the file server's time (None: not known)."""

    rows: Mapping[str, Row]
    signs: Mapping[str, Signs]
    server: float | None

    @property
    def _now(self) -> float:
        if self.server is not None:
            return self.server
        return max((max(signs) for signs in self.signs.values()), default=0.0)

    def seen(self, worker: str) -> float:
        """Return when *worker* was last seen alive, on its own clock."""
        row, signs = self.rows.get(worker), self.signs.get(worker)
        if row is None or signs is None:
            return row.last if row is not None else 0.0
        return row.last + max(0.0, signs.beat - signs.journal)

    def quiet(self, worker: str) -> float:
        """Return the seconds since the journal of *worker* grew."""
        signs = self.signs.get(worker)
        return max(0.0, self._now - signs.journal) if signs is not None else 0.0


def running(workers: Iterable[LiveWorker], sight: Sight) -> list[Running]:
    """Return the trials that run, by the journals of live workers."""
    found = []
    for worker in workers:
        row = sight.rows.get(worker.id)
        if worker.state == "live" and row is not None and row.tail is not None:
            quiet = sight.quiet(worker.id)
            seconds = max(0.0, row.last - row.tail.started) + quiet
            node = row.node or worker.node
            tail = row.tail
            found.append(
                Running(tail.trial, tail.attempt, node, round(seconds, 1), round(quiet, 1), stall=False)
            )
    return found


def slow(
    workers: Iterable[LiveWorker],
    sight: Sight,
    median_of: Callable[[int], float | None],
    stall: float | None,
) -> tuple[Running, ...]:
    """Return the running trials that are long beside others like them, or near the *stall*; those first."""
    found = []
    for one in running(workers, sight):
        median = median_of(one.trial)
        limit = stall or max(_STALL[0], _STALL[1] * (median or 0.0))
        long = max(_SLOW[0] * median, _SLOW[1]) if median is not None else float("inf")
        stuck = one.quiet > limit / 2
        if stuck or one.seconds > long:
            found.append(Running(one.trial, one.attempt, one.node, one.seconds, one.quiet, stall=stuck))
    found.sort(key=lambda one: (not one.stall, -one.seconds))
    return tuple(found[:_SHOWN])


def nodes(workers: Iterable[LiveWorker], sight: Sight) -> tuple[Node, ...]:
    """Return every node that has a worker, or where an attempt ended without a result."""
    live, silent = Counter[str](), Counter[str]()
    for worker in workers:
        row = sight.rows.get(worker.id)
        node = (row.node if row is not None else "") or worker.node
        (live if worker.state == "live" else silent)[node] += 1
    bad: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in sight.rows.values():
        if row.causes:
            bad[row.node].update(row.causes)
    names = sorted({*live, *silent, *bad}, key=lambda node: (-sum(bad[node].values()), node))
    return tuple(Node(node, live[node], silent[node], dict(sorted(bad[node].items()))) for node in names)


def failures(layout: Layout, failed: Mapping[int, Entry], rows: Mapping[str, Row]) -> tuple[Failure, ...]:
    """Return the failed trials by cause and headline (numbers in it do not count), most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], tuple[int, str, Group | None]] = {}
    for number, entry in sorted(failed.items()):
        worker = f"{entry.owner:016x}"
        row, cause = rows.get(worker), cause_of(entry)
        place = row.failures.get(number, -1) if row is not None else -1
        group = row.groups[place] if row is not None and place >= 0 else None
        key = group.key if group is not None and group.cause == cause else (cause, "")
        counts[key] += 1
        shown = group if key[1] else None
        # The first trial of a group is the one whose log is known.
        if key not in examples or (shown is not None and shown.trial < examples[key][0]):
            examples[key] = (shown.trial if shown is not None else number, worker, shown)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(_failure(layout, key[0], count, *examples[key]) for key, count in ordered)


def _failure(layout: Layout, cause: str, count: int, trial: int, worker: str, group: Group | None) -> Failure:
    if group is None:
        return Failure(cause, "", count, trial)
    path = layout.log(worker)
    log = str(path.relative_to(layout.root)) if path.exists() else ""
    return Failure(cause, group.headline, count, trial, group.node, log, group.log)


def mismatched(rows: Mapping[str, Row]) -> Missing:
    """Return the workers that left because their slice was not the expected one."""
    visits = {
        worker: Visit(
            worker,
            row.token,
            row.seat,
            row.restart,
            row.opened,
            row.node,
            row.texts.get(MISMATCH, ""),
            again=ELSEWHERE in row.events,
        )
        for worker, row in rows.items()
    }
    return Tally(visits).missing()


def events(rows: Mapping[str, Row]) -> dict[str, int]:
    """Return how often workers noted what."""
    found: Counter[str] = Counter()
    for row in rows.values():
        found.update(row.events)
    return dict(sorted(found.items()))
