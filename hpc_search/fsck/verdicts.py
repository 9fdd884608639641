"""Decisions at rungs and between folds: each follows from what it says that it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hpc_search.fsck.findings import Case, Finding
from hpc_search.records import journal as codec
from hpc_search.records.plan import Block, Plan
from hpc_search.strategies import pruning, racing


def check_verdicts(plan: Plan, verdicts: Iterable[tuple[str, codec.Verdict]]) -> Iterator[Case]:
    """Yield the decisions, each with the RUN-relative path of its journal, that do not replay."""
    for path, verdict in verdicts:
        if wrong := _wrong(plan, verdict):
            where = f"rung {verdict.rung}" if verdict.race is None else "between folds"
            what = f"trial {verdict.trial}, {where}: the decision {verdict.decision!r} {wrong}"
            finding = Finding(path=path, what=what, trials=(verdict.trial,))
            yield Case(finding, evidence=f"verdict/{path}/{verdict.n}")


def _wrong(plan: Plan, verdict: codec.Verdict) -> str:
    """Return what is wrong with a decision, "" where it follows from its record."""
    if not 0 <= verdict.trial < plan.trials:
        return "is on a trial that the plan does not have"
    block = plan.block_at(verdict.trial)
    if verdict.race is not None:
        return _wrong_race(plan, block, verdict, verdict.race)
    if block.pruning is None:
        return "is on a trial that nothing ends early"
    try:
        found = pruning.replay(block.pruning, verdict, plan.part(block).metric.goal)
    except ValueError as error:
        return f"says nothing that it could be made from ({error})"
    return "" if found == verdict.decision else f"does not follow from its values: {found!r} does"


def _wrong_race(plan: Plan, block: Block, verdict: codec.Verdict, race: codec.Race) -> str:
    if block.racing is None:
        return "is on a trial whose point is in no race"
    if verdict.decision != "prune" or verdict.rule != racing.RACE:
        return "is none of a race"
    rule = block.racing
    if (race.error, race.least, race.all_folds) != (rule.error, rule.folds, len(block.folds)):
        return "was made by another rule than the plan's"
    if not set(race.folds) <= set(block.folds):
        return "compares folds that the plan does not have"
    return racing.wrong(race, plan.part(block).metric.goal)
