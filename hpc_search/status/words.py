"""The state of a run in one word, what is unusual in sentences, and the command to type next."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import Final

import msgspec

from hpc_search.layout import Layout
from hpc_search.ledger import paused, used_up
from hpc_search.ledger.mismatches import Missing
from hpc_search.ledger.submits import Answer, Intent
from hpc_search.site import starts
from hpc_search.status.model import QueueView, Slots, State
from hpc_search.status.workers import LiveWorker

_START: Final = "hpc-search submit RUN"
#: How a search goes on whose budget is used up.
LARGER: Final = "A larger `budget` in the search file and `plan CONFIG --run RUN --amend` let it go on"
#: A command that a next step begins with.
_COMMAND: Final = re.compile(r"`((?:submit|cancel|resume) RUN[^`]*|scontrol release [^`]*)`")


def stop_mark(layout: Layout) -> str | None:
    """Return why workers claim nothing more, None where they do."""
    try:
        return layout.stop.read_text(errors="replace").strip()
    except OSError:
        return None


def state(
    layout: Layout,
    left: int,
    workers: Sequence[LiveWorker],
    view: QueueView | None,
    seats: Sequence[Slots],
    *,
    begun: bool,
) -> State:
    """Return what the run does now."""
    if not left:
        return "finished"
    if layout.paused.exists():
        # Also where it was stopped before: nothing can be submitted.
        return "paused"
    if layout.stop.exists():
        return "stopped"
    if any(worker.state == "live" for worker in workers):
        return "running"
    if any(one.starting for one in seats):
        return "starting"
    if view is not None and (view.waiting or (view.unasked and view.age is not None)):
        return "waiting"
    if any(worker.state == "silent" for worker in workers):
        return "silent"
    if view is not None and view.age is None and not view.answers:
        return "unknown"
    return "idle" if begun else "new"


def notes(
    layout: Layout,
    now: State,
    view: QueueView | None,
    seats: Sequence[Slots],
    known: Sequence[Intent],
    *,
    failed: bool,
) -> tuple[str, ...]:
    """Return what is unusual, in sentences."""
    found = [*_why(layout, now, failed=failed), *_slurm(view)]
    if now in ("running", "starting", "waiting"):
        found += [_missing(one) for one in seats if one.missing]
    if now in ("starting", "idle") and known:
        found += starts.troubles(layout, (), token=known[-1].token)
    found += _refusal(known) if now != "finished" else []
    return tuple(found)


def searches(stopped: Sequence[str], *, finished: bool) -> list[str]:
    """Return which searches of several stopped; where nothing else is left, how they go on."""
    found = [text.partition("\n")[0] for text in stopped]
    if found and finished:
        found.append("`retry RUN` lets what failed run again, `submit RUN` lets a search that stopped go on")
    return found


def _stopped(layout: Layout) -> str:
    words = stop_mark(layout)
    if words is None:
        return ""
    first, _, rest = words.partition("\n")
    return f"stopped: {first or 'no reason given'}" + (" (all of it: ledger/stop)" if rest else "")


def _retried_first(layout: Layout, *, failed: bool) -> bool:
    """Return whether what stopped the run comes again until the trials that *failed* are retried."""
    return failed and "`retry RUN`" in (stop_mark(layout) or "")


def _why(layout: Layout, now: State, *, failed: bool) -> list[str]:
    match now:
        case "stopped" if used_up(layout):
            return [f"{used_up(layout)}; what runs goes on to its end. {LARGER}"]
        case "stopped":
            again = "`submit RUN` (with corrected code: `--resnapshot`) clears that and starts workers"
            if _retried_first(layout, failed=failed):
                again = f"`retry RUN` lets what failed run again, then {again}"
            return [f"{_stopped(layout)}; {again}"]
        case "paused":
            return [f"{paused(layout)}; `resume RUN` goes on", *filter(None, [_stopped(layout)])]
        case "idle":
            return ["nothing runs: no live worker; `submit RUN` starts workers for what is left"]
        case "new":
            return ["nothing was started yet: `submit RUN` starts workers"]
        case "silent":
            why = "no worker beats any more: killed, or their nodes or the file system stand still"
            return [f"{why}; `submit RUN` starts workers where they are gone"]
        case "starting":
            return ["tasks run, but no worker is seen yet: they start, or fail early: see RUN/submitit"]
        case _:
            return []


def _slurm(view: QueueView | None) -> list[str]:
    if view is not None and view.unasked and view.answers:
        asked = "" if view.age is None else f", {age(view.age)} ago"
        return [f"submitted since SLURM was last asked{asked}; it is asked again within a minute"]
    if view is None or view.answers:
        return []
    if view.age is None:
        return ["SLURM does not answer, so what waits or starts there is not known"]
    return [f"SLURM does not answer; what is said of its queue is as of {age(view.age)} ago"]


def _missing(one: Slots) -> str:
    workers = "1 worker is" if one.missing == 1 else f"{one.missing} workers are"
    name = f" of profile {one.profile}" if one.profile else ""
    starting = f", {one.starting} starting" if one.starting else ""
    return f"{workers} missing{name}: {one.wanted} wanted, {one.live} live{starting}, {one.waiting} waiting"


def mismatches(found: Missing, now: State, replaced: Container[str]) -> list[str]:
    """Return how many workers are missing because of their slices, where, and the words of one.

    Those of the submissions *replaced* are not missing.
    """
    found = msgspec.structs.replace(
        found,
        gave_up=tuple(one for one in found.gave_up if one.token not in replaced),
        coming_back=tuple(one for one in found.coming_back if one.token not in replaced),
    )
    if not found.workers or now == "finished":
        return []
    nodes = ", ".join(f"{node} ({count})" for node, count in found.by_node.items())
    who = "1 worker is" if found.workers == 1 else f"{found.workers} workers are"
    back = f"; {len(found.coming_back)} will be tried elsewhere" if found.coming_back else ""
    example = next(iter((*found.gave_up, *found.coming_back))).words.partition("\n")[0]
    fix = "; if no node has it, correct `slice` in the profile" if found.gave_up else ""
    return [f"{who} missing: slice mismatch on {nodes}{back}: {example}{fix}"]


def _refusal(known: Sequence[Intent]) -> list[str]:
    last = next((one for one in reversed(known) if one.tasks), None)
    if isinstance(last, Answer) and last.outcome in ("refused", "not sent"):
        verb = "was refused" if last.outcome == "refused" else "was not sent"
        return [f"the last submission, {last.token}, {verb}: {last.words}"]
    return []


def age(seconds: float) -> str:
    """Return *seconds* in one unit."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def next_step(
    layout: Layout, now: State, view: QueueView | None, seats: Sequence[Slots], *, failed: bool
) -> str:
    """Return the command to type; "" where there is nothing to do but wait."""
    match now:
        case "stopped" if used_up(layout):
            return "hpc-search collect RUN"
        case "stopped" if _retried_first(layout, failed=failed):
            return "hpc-search retry RUN"
        case "finished":
            return "hpc-search collect RUN"
        case "running" | "starting":
            return _START if any(one.missing for one in seats) else "hpc-search status RUN --watch"
        case "waiting":
            stuck = [
                one for one in (view.waiting if view is not None else ()) if not one.next.startswith("wait")
            ]
            command = _COMMAND.match(stuck[0].next) if stuck else None
            ours = command is not None and not command[1].startswith("scontrol")
            return f"{'hpc-search ' if ours else ''}{command[1]}" if command is not None else ""
        case "unknown":
            return ""
        case "paused":
            return "hpc-search resume RUN"
        case _:
            return _START
