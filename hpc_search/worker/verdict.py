"""What an attempt's end means: the record that is written for it. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from hpc_search.records import journal as lines
from hpc_search.records.index import Entry
from hpc_search.records.search import Retry
from hpc_search.runners.messages import SUPERSEDED
from hpc_search.runners.processes import STOP_SIGNALS

#: Seconds between the first and the last process of a step that a signal reaches.
_SIGNAL_SPREAD: Final = 1.0
#: Whole walltimes without a checkpoint after which a trial fails.
FULL_WALLTIMES: Final = 3
#: Attempts without progress are counted in a byte.
_MOST_STALLS: Final = 255
#: Why a worker stops before its job ends.
TIME_LIMIT: Final = "the time limit is near"
PAUSED: Final = "the run is paused"
#: What an end record says of a trial that was lost with the process that starts trials.
HOST_DIED: Final = "the process that trials are forked from died, and the trial with it"
#: What an end record says of an attempt that had a whole walltime and saved nothing.
NO_CHECKPOINT: Final = "a whole walltime without a checkpoint"


@dataclass(frozen=True, slots=True)
class Observed:
    """What the supervisor saw of an attempt."""

    #: The trial's own end message, {} where it sent none.
    message: Mapping[str, Any] = field(default_factory=dict)
    #: Exit status; negative for a signal; None where the process could not be started.
    status: int | None = 0
    #: Why the supervisor stopped the trial, "" where it did not.
    stopping: str = ""
    #: Whether the trial was killed because it made no sign of life.
    stalled: bool = False
    #: Step of its newest checkpoint.
    step: int = 0
    #: Whether it could not start, or died, because the process that forks trials was gone.
    lost: bool = False
    #: Whether it survived SIGKILL: its slice is lost.
    unkillable: bool = False
    #: Whether the kernel killed it, or a process of it, because memory of the host ran out.
    host_memory: bool = False
    #: What a program printed when its memory ran out, "" where it did not.
    out_of_memory: str = ""
    #: What shows that others took its share of the GPU's memory, "" where nothing does.
    foreign: str = ""
    #: What shows that its sources were changed on this node, "" where nothing does.
    mended: str = ""
    #: Whether it reads its accumulation.
    accumulates: bool = False
    #: Whole walltimes that the trial had without a checkpoint, this attempt's included.
    walltimes: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """State, cause and text of the end record."""

    state: lines.EndState
    cause: lines.Cause
    detail: str = ""
    #: Whether memory of the host ran out, which has a budget of its own.
    host_memory: bool = False
    #: Whether the run was paused, which uses up nothing.
    paused: bool = False
    #: Whether it failed because attempt after attempt, this one too, had no newer checkpoint.
    no_progress: bool = False


def judge(seen: Observed, before: Entry, retry: Retry, params: Mapping[str, Any]) -> Verdict:
    """Return the verdict on an attempt; *before* holds the attempts that ended earlier, by cause."""
    message = seen.message
    state = message.get("state", "")
    if state in ("done", "pruned"):
        # A result message with a good checksum is the end, whatever happened to the process then.
        return Verdict(state, "")
    progressed = seen.step > before.step
    if seen.stopping == SUPERSEDED or message.get("detail") == SUPERSEDED:
        # Whoever took the trial over decides what becomes of it.
        return Verdict("pending", "preempted", SUPERSEDED)
    if state == "paused":
        return Verdict("paused", "")
    if (seen.stopping or state == "pending") and not seen.stalled:
        return _stopped(seen, before, retry, progressed=progressed)
    if seen.unkillable:
        return _again("lost", "it survived SIGKILL", before, retry, progressed=progressed)
    if seen.stalled:
        return _hung(before, retry, progressed=progressed)
    if seen.lost and not message:
        return _again("lost", HOST_DIED, before, retry, progressed=progressed)
    if not message and seen.status == -signal.SIGKILL and not seen.host_memory and not seen.out_of_memory:
        # Not by us, and no code of a trial does that: a person, or the kernel where its count is not seen.
        return _again("lost", _death(seen.status), before, retry, progressed=progressed)
    cause = message.get("cause") or ("oom" if seen.out_of_memory else "error")
    detail = str(message.get("detail") or seen.out_of_memory or _death(seen.status))
    if cause == "oom" and seen.foreign:
        return _again("lost", f"{seen.foreign}\n{detail}", before, retry, progressed=progressed)
    if cause == "error" and seen.mended:
        return _again("lost", f"{seen.mended}\n{detail}", before, retry, progressed=progressed)
    if seen.host_memory:
        return _host_memory(detail, seen, before, retry, params)
    if cause == "oom":
        return _out_of_memory(detail, seen, before, retry, params)
    if cause == "error" and before.errors < retry.error:
        return Verdict("pending", "error", detail)
    return Verdict("failed", cast("lines.Cause", cause), detail)


def stop_may_come(status: int | None, message: Mapping[str, Any]) -> float:
    """Return the seconds in which the stop signal that ended a trial may still reach its supervisor.

    SLURM signals the processes of a step one after the other, in any order.
    """
    code = status or 0
    # A shell exits with 128 and the number of the signal that ended its program.
    killed = not message and (-code if code < 0 else code - 128) in (*STOP_SIGNALS, signal.SIGINT)
    worker_killed = "killed by signal" in str(message.get("detail", ""))
    return _SIGNAL_SPREAD if killed or worker_killed else 0.0


def _again(cause: lines.Cause, detail: str, before: Entry, retry: Retry, *, progressed: bool) -> Verdict:
    hopeless = not progressed and before.stalls + 1 >= retry.no_progress
    return Verdict("failed" if hopeless else "pending", cause, detail, no_progress=hopeless)


def another_chance(judged: Verdict, before: Entry, retry: Retry, *, other_nodes: bool) -> Verdict:
    """Return *judged*, or that a trial without progress, all of it on one node, is tried on *other_nodes*."""
    if judged.no_progress and other_nodes and before.stalls + 1 < min(2 * retry.no_progress, _MOST_STALLS):
        return replace(judged, state="pending", no_progress=False)
    return judged


def _stopped(seen: Observed, before: Entry, retry: Retry, *, progressed: bool) -> Verdict:
    words = seen.stopping or str(seen.message.get("detail", ""))
    if seen.stopping == PAUSED:
        return Verdict("pending", "preempted", words, paused=True)
    if seen.walltimes:
        words = f"{words}; {NO_CHECKPOINT}"
    if seen.walltimes >= FULL_WALLTIMES:
        advice = "save more often (save_interval), or give the jobs more time"
        return Verdict("failed", "timeout", f"{words}, {seen.walltimes} in a row: {advice}")
    return _again("preempted", words, before, retry, progressed=progressed)


def _hung(before: Entry, retry: Retry, *, progressed: bool) -> Verdict:
    words = "no sign of life for too long; killed"
    if retry.timeout is not None and before.hangs >= retry.timeout:
        return Verdict("failed", "timeout", words)
    return _again("timeout", words, before, retry, progressed=progressed)


def _host_memory(
    detail: str, seen: Observed, before: Entry, retry: Retry, params: Mapping[str, Any]
) -> Verdict:
    """Try it again as it is, as often as ``memory`` says (a neighbour may have taken it), then smaller."""
    detail = f"memory of the host ran out, and the kernel killed the trial or a process of it\n{detail}"
    if before.kills < retry.memory:
        return Verdict("pending", "oom", detail, host_memory=True)
    judged = _out_of_memory(detail, seen, before, retry, params)
    hint = "\n  next: more `mem` in the profile, or a trial that needs less (workers of its loaders)"
    return replace(judged, host_memory=True, detail=judged.detail + hint * (judged.state == "failed"))


def rung(before: Entry, retry: Retry) -> int:
    """Return how often the batch is halved for the next attempt: each end for lack of memory is one step.

    Kills for host memory count from the first one that was not tried again unchanged.
    """
    if retry.oom is None:
        return 0
    return min(before.ooms + max(0, before.kills - retry.memory), retry.oom.times)


def _out_of_memory(
    detail: str, seen: Observed, before: Entry, retry: Retry, params: Mapping[str, Any]
) -> Verdict:
    rule, halved = retry.oom, rung(before, retry)
    if rule is None or halved >= rule.times:
        return Verdict("failed", "oom", detail)
    size = params.get(rule.halve)
    if not isinstance(size, int) or size >> (halved + 1) < 1:
        return Verdict("failed", "oom", f"{detail}\n{rule.halve} = {size!r} cannot be halved again")
    if rule.ladder == "accumulate" and not (seen.accumulates or seen.message.get("accumulates")):
        text = (
            f"{detail}\nnot tried with a smaller {rule.halve}: the trial never read trial.accumulation, "
            "so the effective batch would change; read it, or set retry.oom.ladder: plain"
        )
        return Verdict("failed", "oom", text)
    return Verdict("pending", "oom", detail)


def effective(params: Mapping[str, Any], before: Entry, retry: Retry) -> tuple[dict[str, Any], int]:
    """Return the parameters that differ after the out-of-memory retries so far, and the accumulation."""
    rule, halved = retry.oom, rung(before, retry)
    if rule is None or not halved:
        return {}, 1
    factor = 1 << halved
    size = params.get(rule.halve)
    if not isinstance(size, int):
        return {}, 1
    accumulation = factor if rule.ladder == "accumulate" else 1
    return {rule.halve: max(1, size // factor)}, accumulation


def _death(status: int | None) -> str:
    if status is None:
        return "the process could not be started"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        hint = "; the kernel kills so when memory runs out" if -status == signal.SIGKILL else ""
        return f"the trial's process was killed by {name}{hint}"
    return f"the trial's process ended with exit status {status} and no result"
