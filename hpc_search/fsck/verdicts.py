"""Decisions at rungs: each follows from what it says that it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hpc_search.fsck.findings import Case, Finding
from hpc_search.records import journal as codec
from hpc_search.records.plan import Plan
from hpc_search.strategies import pruning


def check_verdicts(plan: Plan, verdicts: Iterable[tuple[str, codec.Verdict]]) -> Iterator[Case]:
    """Yield the decisions, each with the RUN-relative path of its journal, that do not replay."""
    for path, verdict in verdicts:
        if wrong := _wrong(plan, verdict):
            what = f"trial {verdict.trial}, rung {verdict.rung}: the decision {verdict.decision!r} {wrong}"
            finding = Finding(path=path, what=what, trials=(verdict.trial,))
            yield Case(finding, evidence=f"verdict/{path}/{verdict.n}")


def _wrong(plan: Plan, verdict: codec.Verdict) -> str:
    """Return what is wrong with a decision, "" where it follows from its record."""
    if not 0 <= verdict.trial < plan.trials:
        return "is on a trial that the plan does not have"
    block = plan.block_at(verdict.trial)
    if block.pruning is None:
        return "is on a trial that nothing ends early"
    try:
        found = pruning.replay(block.pruning, verdict, plan.part(block).metric.goal)
    except ValueError as error:
        return f"says nothing that it could be made from ({error})"
    return "" if found == verdict.decision else f"does not follow from its values: {found!r} does"
