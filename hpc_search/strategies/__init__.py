"""Strategies: pure functions that choose the points of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc_search.records.search import StrategySpec
from hpc_search.strategies.base import Strategy
from hpc_search.strategies.catalog import Catalog
from hpc_search.strategies.grid import Grid
from hpc_search.strategies.options import KNOWN, resolved
from hpc_search.strategies.random import Random

__all__ = ["KNOWN", "Strategy", "make"]


def make(spec: StrategySpec, given: Sequence[Mapping[str, Any]] = ()) -> Strategy:
    """Return the strategy of *spec*; the points *given* come first and count, and none of them twice.

    Raises:
        UsageError: The name is not known, or an option is unknown, missing or wrong.
    """
    options = resolved(spec)
    own = None if spec.kind == "points" else _own(spec.kind, options)
    if own is not None and not given:
        return own
    from hpc_search.strategies.given import Given

    return Given(tuple(given), own)


def _own(kind: str, options: dict[str, Any]) -> Strategy:
    if kind == "grid":
        return Grid()
    if kind == "catalog":
        return Catalog(tuple(options["names"]))
    if kind == "random":
        return Random(options["points"], options["seed"])
    # Most commands need none of these: each is loaded where it is used.
    if kind == "top":
        from hpc_search.strategies.top import Top

        return Top(options["points"])
    if kind in ("sobol", "halton"):
        from hpc_search.strategies.quasirandom import Quasirandom

        return Quasirandom(kind, options["points"], options["seed"])
    from hpc_search.strategies.adaptive import make_adaptive

    return make_adaptive(kind, options)
