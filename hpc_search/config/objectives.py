"""Reads what a search selects by, `metric` or `objectives`, and its `budget`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from hpc_search.config.nodes import Scalar
from hpc_search.config.problems import shown
from hpc_search.config.reader import Cursor, each, fields
from hpc_search.records.search import Budget, Metric

_NAME: Final = re.compile(r"[^\W\d][\w./@:%+-]{0,99}")
_NAME_WORDS: Final = "a name of letters, digits and . / @ : % + - _ that begins with a letter"
_ONE: Final = "{name: val_acc, goal: max}"
_SEVERAL: Final = f"objectives: [{_ONE}, {{name: latency, goal: min}}]"
#: Sides that no search may select by, and why.
_NOT_SELECTED: Final = {
    "test": "a search that selects by its test side has no test left: `test RUN` looks at it, once",
    "train": "a score on what was trained on says nothing of other samples",
}
_BUDGET: Final = "a budget such as {hours: 24, gpu_hours: 100}"
#: Hours of a century: what is longer is a slip.
_MOST_HOURS: Final = 1e6


def read_objectives(
    section: Mapping[str, Cursor], parent: Cursor, *, required: bool = True
) -> dict[str, Any]:
    """Return the keys ``metric`` and ``objectives`` of a `Search` or `Part`, from those of *section*.

    ``metric`` is the first objective, None where it is wrong; ``objectives`` are () where there is only
    one. Without *required* nothing is returned where *section* has neither.
    """
    if "metric" in section and "objectives" in section:
        message = "both metric and objectives are given"
        section["objectives"].add(message, hint="the first of the objectives is the metric: remove `metric`")
        return {"metric": None, "objectives": ()}
    if "metric" in section:
        return {"metric": read_metric(section["metric"]), "objectives": ()}
    if "objectives" in section:
        found = _several(section["objectives"])
        return {"metric": found[0] if found else None, "objectives": found if len(found) > 1 else ()}
    if not required:
        return {}
    path = f"{parent.path}.metric" if parent.path else "metric"
    parent.book.add(parent.line, path, "the key 'metric' is missing", expected=f"metric: {_ONE}")
    return {"metric": None, "objectives": ()}


def _several(cursor: Cursor) -> tuple[Metric, ...]:
    found = tuple(each(cursor.items(f"a list such as {_SEVERAL}") or (), read_metric))
    seen: dict[str, int] = {}
    for place, metric in enumerate(found):
        if seen.setdefault(metric.name, place) != place:
            cursor.add(
                f"the objective {shown(metric.name)} is there twice",
                found=f"at positions {seen[metric.name]} and {place}",
                hint="remove one of them",
            )
    return found


def read_metric(cursor: Cursor) -> Metric | None:
    """Return a metric from ``{name: val_acc, goal: max}``."""
    before = len(cursor.book)
    section = cursor.keys(("name", "goal", "split", "reduction"), what=f"a metric such as {_ONE}")
    if section is None:
        return None
    for key in ("name", "goal"):
        if key not in section:
            cursor.add(f"the key {key!r} is missing", expected=f"such as {_ONE}")
    given = fields(
        section,
        {
            "name": lambda c: c.matching(_NAME, _NAME_WORDS),
            "goal": _goal,
            "split": _split,
            "reduction": lambda c: c.one_of(("mean", "none")),
        },
    )
    return Metric(**given) if len(cursor.book) == before else None


def _split(cursor: Cursor) -> str | None:
    """Return ``val``; the others with the reason why no search selects by them."""
    value = cursor.node.value if isinstance(cursor.node, Scalar) else None
    if value in _NOT_SELECTED:
        cursor.add(_NOT_SELECTED[str(value)], expected="val")
        return None
    return cursor.one_of(("val",))


def _goal(cursor: Cursor) -> str | None:
    value = cursor.node.value if isinstance(cursor.node, Scalar) else None
    if isinstance(value, str) and value not in ("max", "min") and value.lower()[:3] in ("max", "min"):
        cursor.add("is not a goal", expected="max or min", hint=f"write {value.lower()[:3]}")
        return None
    return cursor.one_of(("max", "min"))


def dump_objectives(metric: Metric, objectives: tuple[Metric, ...]) -> dict[str, Any]:
    """Return the keys that `read_objectives` reads back."""
    several = [*map(_metric, objectives)]
    return {"objectives": several} if several else {"metric": _metric(metric)}


def _metric(metric: Metric) -> dict[str, str]:
    return {"name": metric.name, "goal": metric.goal, "split": metric.split, "reduction": metric.reduction}


def read_budget(cursor: Cursor) -> Budget | None:
    """Return a budget from ``{hours: 24, gpu_hours: 100}``; what is not given has no limit."""
    section = cursor.keys(("hours", "gpu_hours"), what=_BUDGET)
    if section is None:
        return None
    if not section:
        cursor.add("has no limit in it", expected=_BUDGET, hint="remove it, or say one")
    return Budget(**fields(section, {"hours": _hours, "gpu_hours": _hours}))


def _hours(cursor: Cursor) -> float | None:
    hours = cursor.number("hours, a number above 0")
    if hours is not None and not 0 < hours <= _MOST_HOURS:
        cursor.add("is out of range", expected=f"hours above 0, at most {_MOST_HOURS:,.0f}")
        return None
    return hours


def dump_budget(budget: Budget) -> dict[str, Any]:
    """Return the key that `read_budget` reads back; nothing where there is no limit."""
    limits = {key: getattr(budget, key) for key in ("hours", "gpu_hours") if getattr(budget, key)}
    return {"budget": limits} if limits else {}
