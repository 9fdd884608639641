"""The state of a run for those who only read, whichever way its trials are claimed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from hpc_search.layout import Layout
from hpc_search.ledger import marks, mode, rebuild
from hpc_search.ledger.gates import Gates
from hpc_search.ledger.index import read_entry, read_index
from hpc_search.records.index import Entry, Header
from hpc_search.records.plan import Plan

#: How the words begin, in ledger/stop and in exit records, where nothing is left of the search's budget.
USED_UP: Final = "budget used up"


def read_state(layout: Layout, trials: int) -> tuple[Header, list[Entry]]:
    """Return header and entries: by the index, or by the journals where the run does not use it.

    Raises:
        IndexDamagedError: The index is used and does not verify.
    """
    if mode.exclusive(layout):
        return rebuild.entries(layout, trials)
    header, entries = read_index(layout)
    # Of trials that an amendment added the index has no records yet; of those of a newer plan it may.
    return header, [*entries[:trials], *(Entry() for _ in range(trials - len(entries)))]


def read_trial(layout: Layout, trials: int, number: int) -> Entry | None:
    """Return the entry of one trial, None where it cannot be read."""
    if not mode.exclusive(layout):
        return read_entry(layout, number)
    return rebuild.entries(layout, trials)[1][number]


def paused(layout: Layout) -> str:
    """Return who paused the run, when and why, in one line; "" where it is not paused."""
    try:
        return layout.paused.read_text(errors="replace").partition("\n")[0] or "paused"
    except OSError:
        return ""


def used_up(layout: Layout) -> str:
    """Return what was found used up of the search's budget when it stopped, "" where it did not for that."""
    try:
        words = layout.stop.read_text(errors="replace").partition("\n")[0]
    except OSError:
        return ""
    return words if words.startswith(USED_UP) else ""


def finals(layout: Layout) -> int:
    """Return how many trials are final.

    Raises:
        IndexDamagedError: The index is used and does not verify.
    """
    return marks.finals(layout) if mode.exclusive(layout) else read_index(layout)[0].finals


def left(layout: Layout, plan: Plan, folds: Sequence[int] = ()) -> int:
    """Return how many trials workers of now could end: without those whose blocks wait.

    With *folds* those of other folds are left out, too. Those of searches that stopped by themselves are
    among them: `submit` lets these go on.

    Raises:
        IndexDamagedError: The index is used and does not verify.
    """
    gates = Gates(layout, plan, folds)
    if not (closed := gates.kept_back):
        return plan.trials - finals(layout)
    entries = read_state(layout, plan.trials)[1]
    return sum(not entry.final for entry in entries) - open_in(entries, closed)


def open_in(entries: Iterable[Entry | None], parts: Iterable[range]) -> int:
    """Return how many of the trials in *parts* are not final by their *entries*."""
    known = [entry is not None and entry.final for entry in entries]
    return sum(known[part.start : part.stop].count(False) for part in parts)


def is_final(layout: Layout, number: int) -> bool:
    """Return whether trial *number* is known to be final."""
    if mode.exclusive(layout):
        return marks.has_result(layout, number)
    entry = read_entry(layout, number)
    return entry is not None and entry.final
