"""Decisions on trials in words."""

from __future__ import annotations

from hpc_search.records.journal import Verdict
from hpc_search.records.search import PruningSpec
from hpc_search.strategies import racing
from hpc_search.strategies.pruning.judging import POINT, count, name
from hpc_search.strategies.pruning.schedule import core, pauses, schedule

_DONE = {"continue": "goes on", "pause": "waits", "prune": "is pruned", "promote": "is promoted"}


def in_words(verdict: Verdict, metric: str) -> str:
    """Return what was decided and from what, on one line."""
    if verdict.race is not None:
        return f"{verdict.rule}: {racing.in_words(verdict.race)}"
    head = f"{verdict.rule} at step {verdict.step} (rung {verdict.rung}): {_DONE[verdict.decision]}"
    if verdict.rule == POINT:
        return f"step {verdict.step}: is pruned; its point was pruned in trial {verdict.seen}"
    own = f"{metric} {verdict.value:.6g}" if verdict.value is not None else "no value"
    seen = count(verdict.seen)
    others = ", ".join(f"{value:.6g} of trial {number}" for number, value in sorted(verdict.peers.items()))
    limit = f", against {others}" if others else ""
    patience = ""
    if verdict.patience is not None:
        before, since = verdict.patience
        patience = f"; best before the last reports {before:.6g}, of them {since:.6g}"
    return f"{head}: {own}{limit}; {seen} other trials there{patience}"


def rule_in_words(spec: PruningSpec) -> str:
    """Return the rule and when it looks, on one line."""
    options, found = core(spec).options, schedule(spec)
    if pauses(spec):
        steps = ", ".join(map(str, found.rungs))
        when = f"after {steps} of {options['max_steps']} steps one of {options['eta']} goes on"
    else:
        every = "report" if found.interval == 1 else f"{found.interval} steps"
        kept = "" if core(spec).kind == "median" else f"the best {options['keep']:g} percent go on; "
        when = f"{kept}every {every} after {found.warmup} steps, once {options['startup']} trials are done"
    waits = f", where {spec.options['patience']} reports brought nothing better" if spec.inner else ""
    first = "1: reports count from 1" if found.first_step else "0: reports count from 0"
    return f"{name(spec)}: {when}{waits} (first_step {first})"
