"""What an attempt's end means: the record that is written for it. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from hpc_search.records import journal as lines
from hpc_search.records.index import Entry
from hpc_search.records.plan import Retry
from hpc_search.runners.messages import SUPERSEDED
from hpc_search.runners.processes import STOP_SIGNALS

#: Seconds between the first and the last process of a step that a signal reaches.
_SIGNAL_SPREAD: Final = 1.0


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """State, cause and text of the end record."""

    state: lines.EndState
    cause: lines.Cause
    detail: str = ""


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
    if (seen.stopping or state == "pending") and not seen.stalled:
        words = seen.stopping or str(message.get("detail", ""))
        return _again("preempted", words, before, retry, progressed=progressed)
    if seen.stalled:
        return _again("timeout", "no sign of life for too long; killed", before, retry, progressed=progressed)
    if seen.lost and not message:
        words = "the process that trials are forked from died, and the trial with it"
        return _again("lost", words, before, retry, progressed=progressed)
    cause = message.get("cause") or "error"
    detail = str(message.get("detail") or _death(seen.status))
    if cause == "oom":
        return _out_of_memory(detail, message, before, retry, params)
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
    return Verdict("failed" if hopeless else "pending", cause, detail)


def _out_of_memory(
    detail: str, message: Mapping[str, Any], before: Entry, retry: Retry, params: Mapping[str, Any]
) -> Verdict:
    rule = retry.oom
    if rule is None or before.ooms >= rule.times:
        return Verdict("failed", "oom", detail)
    size = params.get(rule.halve)
    if not isinstance(size, int) or size >> (before.ooms + 1) < 1:
        return Verdict("failed", "oom", f"{detail}\n{rule.halve} = {size!r} cannot be halved again")
    if rule.ladder == "accumulate" and not message.get("accumulates"):
        text = (
            f"{detail}\nnot tried with a smaller {rule.halve}: the trial never read trial.accumulation, "
            "so the effective batch would change; read it, or set retry.oom.ladder: plain"
        )
        return Verdict("failed", "oom", text)
    return Verdict("pending", "oom", detail)


def effective(params: Mapping[str, Any], before: Entry, retry: Retry) -> tuple[dict[str, Any], int]:
    """Return the parameters that differ after the out-of-memory retries so far, and the accumulation."""
    rule = retry.oom
    if rule is None or not before.ooms:
        return {}, 1
    factor = 1 << min(before.ooms, rule.times)
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
