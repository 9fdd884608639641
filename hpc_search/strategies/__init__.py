"""Strategies: pure functions that choose the points of a search."""

from __future__ import annotations

import difflib
from typing import Any, Final

from hpc_search.errors import UsageError
from hpc_search.records.plan import StrategySpec
from hpc_search.strategies.base import Strategy
from hpc_search.strategies.grid import Grid
from hpc_search.strategies.random import Random
from hpc_search.strategies.top import Top

__all__ = ["KNOWN", "Strategy", "make"]

#: The names that a search file may use, each with its options and whether they are required.
KNOWN: Final[dict[str, dict[str, bool]]] = {
    "grid": {},
    "random": {"points": True, "seed": False},
    "top": {"points": True, "stage": True},
}


def make(spec: StrategySpec) -> Strategy:
    """Return the strategy of *spec*.

    Raises:
        UsageError: The name is not known, or an option is unknown, missing or no integer in range.
    """
    _check_options(spec)
    if spec.kind == "grid":
        return Grid()
    if spec.kind == "top":
        return Top(_integer(spec, "points", least=1))
    return Random(_integer(spec, "points", least=1), _integer(spec, "seed"))


def _check_options(spec: StrategySpec) -> None:
    if spec.kind not in KNOWN:
        near = difflib.get_close_matches(spec.kind, KNOWN, n=1)
        hint = f"did you mean {near[0]}?" if near else "use one of the known names"
        message = f"unknown strategy {spec.kind!r}; known strategies: {', '.join(KNOWN)}"
        raise UsageError(message, hint=hint)
    known = KNOWN[spec.kind]
    unknown = [name for name in spec.options if name not in known]
    missing = [name for name, required in known.items() if required and name not in spec.options]
    if unknown or missing:
        message = f"strategy {spec.kind}: unknown options {unknown}, missing options {missing}"
        raise UsageError(message, hint=f"its options are: {', '.join(known) or 'none'}")


def _integer(spec: StrategySpec, option: str, *, least: int | None = None) -> int:
    value: Any = spec.options.get(option, 0)
    if isinstance(value, bool) or not isinstance(value, int):
        message = f"strategy {spec.kind}: {option} is {value!r}; expected an integer"
        raise UsageError(message, hint=f"write {{{spec.kind}: {{points: 200, seed: 0}}}}")
    if least is not None and value < least:
        message = f"strategy {spec.kind}: {option} is {value}; expected at least {least}"
        raise UsageError(message, hint=f"raise {option}")
    return value
