"""final_test_results.json: what the test side gave, and how often anybody looked at it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from hpc_search.collect.times import iso_time
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.ledger import vault
from hpc_search.ledger.vault import Look
from hpc_search.records.plan import Plan
from hpc_search.records.vault import Result, Unit, Value

#: The file of the results.
NAME: Final = "final_test_results.json"


def read_looks(layout: Layout, plan: Plan) -> tuple[list[Look], list[str]]:
    """Return every opening of the test side, and a warning where the records cannot be read."""
    try:
        found = vault.looks(layout)
    except DamagedError as error:
        return [], [f"warning: {error}"]
    if not any(block.refit for block in plan.blocks):
        return found, []
    words = filter(None, (vault.unrecorded(layout, found), vault.unreported(layout, found)))
    return found, [f"warning: {one}; `fsck` says more" for one in words]


def final_results(plan: Plan, looks: list[Look]) -> bytes:
    """Return final_test_results.json: the newest result, and all openings; *looks* are not empty."""
    last = _newest(looks)
    body: dict[str, Any] = {
        "format": "hpc_search.final_test_results",
        "version": 1,
        "name": plan.search.name,
        "search_id": plan.search_id,
        "run_id": plan.run_id,
        "opened": len(looks),
        "openings": [_opening(look) for look in looks],
        "opening": None if last is None else last.number,
        "values": [],
        "units": [],
        "manifests": {},
        "table": "",
        "notes": [],
    }
    if last is not None and last.result is not None:
        body |= {
            "values": last.result.values,
            "units": _units(last.opening.units, last.result),
            "manifests": last.opening.manifests,
            "table": last.opening.table,
            "notes": last.result.notes,
        }
    return msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"


def _newest(looks: list[Look]) -> Look | None:
    return next((look for look in reversed(looks) if look.result is not None), None)


def _opening(look: Look) -> dict[str, Any]:
    by = look.opening.by
    return {
        "number": look.number,
        "when": iso_time(by.when),
        "user": by.user,
        "host": by.host,
        "code": by.code,
        "reason": look.opening.reason,
        "interrupted": look.interrupted,
        "refused": [{"when": iso_time(one.by.when), "why": one.why} for one in look.refused],
        "finished": look.result is not None,
    }


def _units(units: tuple[Unit, ...], result: Result) -> list[dict[str, Any]]:
    """Return what was tested, each with what it gave."""
    gave = {one.trial: one for one in result.units}
    return [
        {**msgspec.structs.asdict(unit), **msgspec.structs.asdict(gave[unit.trial])}
        for unit in units
        if unit.trial in gave
    ]


def words(looks: list[Look]) -> list[str]:
    """Return what the test side gave and how often it was opened, in words; nothing where it is closed."""
    if not looks:
        return []
    last = _newest(looks)
    if last is None or last.result is None:
        opened = vault.by_words(looks[-1].opening.by)
        return [f"the test side was opened {opened}; {nothing_yet(looks[-1])}"]
    rows = [row for value in last.result.values for row in _value(value)]
    first = vault.by_words(looks[0].opening.by)
    if len(looks) == 1:
        count = len(looks[0].refused)
        times = f"{count} time{'s' * (count > 1)}"
        refused = f"; refused {times}, as the data were others, before anything was tested"
        return [*rows, *last.result.notes, f"the test side was opened once: {first}{refused * bool(count)}"]
    why = "; ".join(f"{look.number}: {look.opening.reason or 'no reason'}" for look in looks[1:])
    seen = f"the test side was opened {len(looks)} times, first {first}; then {why}"
    return [*rows, *last.result.notes, f"{seen}. Only what the first look gave was not influenced by it"]


def nothing_yet(look: Look) -> str:
    """Return why nothing came of *look*, and how it goes on."""
    if look.refusal is None:
        return "nothing came of it yet: `test` goes on"
    return f"{vault.refused_words(look.refusal)}. That is no result: put the data back, and `test` goes on"


def _value(one: Value) -> list[str]:
    name = " ".join(filter(None, [one.part, one.metric]))
    spread = "" if one.sd is None else f" +- {one.sd:.6g}"
    over = "one value" if one.n == 1 else f"mean and standard deviation over {one.n}"
    interval = ""
    if one.interval is not None:
        found = one.interval
        interval = f"; 95 % interval {found.low:.4g} to {found.high:.4g} ({found.method} over {found.over})"
    return [f"test: {name} = {one.mean:.6g}{spread} ({over}){interval}", *[one.note] * bool(one.note)]
