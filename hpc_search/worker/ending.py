"""The end of an attempt: what was observed, the verdict, and the end record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from hpc_search.ledger import Claimed
from hpc_search.ledger.samples import append_scores
from hpc_search.records import journal as lines
from hpc_search.records.search import OomRetry
from hpc_search.runners.messages import SUPERSEDED
from hpc_search.strategies.pruning import in_words
from hpc_search.worker import breaker, estimate, memory, verdict
from hpc_search.worker.context import AttemptContext
from hpc_search.worker.intake import Intake

_TAKEN_AWAY: Final = (
    "the directory of the trial's checkpoints is gone, and no other attempt has the trial: "
    "does its code remove it?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What the attempt itself knows of its end."""

    status: int | None
    stopping: str
    stalled: bool
    lost: bool
    unkillable: bool
    #: Processes of the cgroup that the kernel had killed for memory when it began; None where unknown.
    kills: int | None
    started: float
    seconds: float
    log_start: int
    effective: dict[str, Any] = field(default_factory=dict)
    accumulation: int = 1


def observed(context: AttemptContext, claimed: Claimed, intake: Intake, ended: Ended) -> verdict.Observed:
    """Return the evidence on an attempt."""
    search = context.plan.search
    message = intake.message
    if message.get("detail") == SUPERSEDED and context.ledger.owns(claimed.trial.number, claimed.attempt):
        message = {"state": "failed", "cause": "error", "detail": _TAKEN_AWAY}
    detail = str(message.get("detail", ""))
    failed = message.get("state", "failed") == "failed"
    is_command = bool(context.plan.part_of(claimed.trial.number).trial.command)
    program = ""
    if is_command and not message:
        rule = search.retry.oom or OomRetry()
        program = memory.program_ran_out(ended.status, context.log.tail, rule)
    out_of_memory = message.get("cause") == "oom" or bool(program)
    return verdict.Observed(
        message=message,
        status=ended.status,
        stopping=ended.stopping,
        stalled=ended.stalled,
        step=intake.step,
        lost=ended.lost,
        unkillable=ended.unkillable,
        host_memory=failed and memory.host_ran_out(ended.kills, context.kills.read(), ended.status, detail),
        out_of_memory=program,
        foreign=context.foreign(detail or program) if out_of_memory and failed else "",
        mended=context.mended() if failed and not (ended.stopping or ended.stalled) else "",
        # A program that is not told its accumulation was refused with the search file.
        accumulates=intake.accumulates or is_command,
        walltimes=_walltimes(context, claimed, intake, ended),
    )


def _walltimes(context: AttemptContext, claimed: Claimed, intake: Intake, ended: Ended) -> int:
    """Return how many whole walltimes in a row the trial had without a checkpoint, this one included."""
    saved = intake.step > claimed.before.step
    if saved or ended.stopping != verdict.TIME_LIMIT:
        return 0
    if not estimate.whole_walltime(ended.seconds, context.limit, first=context.whole):
        return 0
    if not claimed.before.stalls:
        return 1
    journals = estimate.Journals(context.layout, context.ledger.id)
    return 1 + journals.walltimes_without_checkpoint(claimed.trial.number)


def _only_here(context: AttemptContext, number: int) -> bool:
    """Return whether only this node ever tried the trial, though workers of others live."""
    journals = estimate.Journals(context.layout, context.ledger.id)
    if journals.nodes_that_tried(number) - {context.node}:
        return False
    return any(one.node != context.node and not one.exited for one in breaker.standings(context.layout))


def end_record(context: AttemptContext, claimed: Claimed, intake: Intake, ended: Ended) -> lines.End:
    """Return the end record of an attempt; samples of a trial that is done are written first."""
    trial = claimed.trial
    seen = observed(context, claimed, intake, ended)
    retry = context.plan.search.retry
    judged = verdict.judge(seen, claimed.before, retry, trial.params)
    if judged.no_progress:
        others = _only_here(context, trial.number)
        judged = verdict.another_chance(judged, claimed.before, retry, other_nodes=others)
    judged = _by_reports(context, intake, judged)
    done = judged.state == "done"
    return lines.End(
        trial=trial.number,
        attempt=claimed.attempt,
        state=judged.state,
        cause=judged.cause,
        host_memory=judged.host_memory,
        paused=judged.paused,
        detail=judged.detail,
        params=trial.params,
        point=trial.point,
        fold=trial.fold,
        seed=trial.seed,
        block=trial.block,
        value=intake.message.get("value") if done else None,
        metrics=intake.message.get("metrics", {}) if judged.state in ("done", "pruned") else {},
        rung=intake.verdict.rung if judged.state == "paused" and intake.verdict is not None else 0,
        effective=ended.effective,
        accumulation=ended.accumulation,
        step=intake.step,
        seconds=round(ended.seconds, 4),
        started=round(ended.started, 3),
        node=context.node,
        device=context.device,
        log=(ended.log_start, context.log.size()),
        samples=_keep_samples(context, claimed, intake) if done else None,
    )


def _by_reports(context: AttemptContext, intake: Intake, judged: verdict.Verdict) -> verdict.Verdict:
    """Return *judged*, with what the referee said of the trial, or that it never heard of it."""
    referee, told = context.referee, intake.verdict
    if referee is None or judged.state not in ("done", "pruned"):
        return judged
    if told is not None and told.decision == "prune":
        # Also one that caught it and returned something.
        return verdict.Verdict("pruned", "", in_words(told, referee.metric(intake.number)))
    compared = judged.state == "done" and not context.plan.block_at(intake.number).refit
    missing = referee.unreported(intake.number) if compared else ""
    return verdict.Verdict("failed", "error", missing) if missing else judged


def _keep_samples(
    context: AttemptContext, claimed: Claimed, intake: Intake
) -> tuple[int, int, int, str] | None:
    if intake.samples is None:
        return None
    worker, number = context.ledger.id, claimed.trial.number
    return append_scores(context.layout, worker, number, claimed.attempt, *intake.samples)
