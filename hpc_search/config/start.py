"""Reads where a search's points come from: its space, its strategy, and the points that come first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from hpc_search.config.catalog import Chosen, read_catalog
from hpc_search.config.parameters import read_space
from hpc_search.config.points import Elsewhere, read_points
from hpc_search.config.reader import Cursor
from hpc_search.config.strategy import read_strategy


class Asked(NamedTuple):
    """What `plan` brings along: what is chosen on the command line, and how to read other searches."""

    chosen: Chosen = Chosen()
    elsewhere: Elsewhere | None = None
    #: Stages that are left out, and searches of several that are kept (none: all).
    skip_stages: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


NOTHING: Final = Asked()


def read_start(section: Mapping[str, Cursor], cursor: Cursor, asked: Asked) -> dict[str, Any]:
    """Return ``space``, ``strategy`` and ``given``; None for what is wrong."""
    strategy = read_strategy(section["strategy"]) if "strategy" in section else None
    base = Path(cursor.book.file).parent
    if strategy is not None and strategy.kind == "catalog":
        space, strategy = read_catalog(section, strategy, base, asked.chosen) or (None, None)
        return {"space": space, "strategy": strategy, "given": ()}
    space = read_space(section, cursor.book)
    if "strategy" in section:
        _no_catalog(section, asked)
    given: tuple[dict[str, Any], ...] = ()
    if "points" in section and space is not None:
        given = read_points(section["points"], space, base, asked.elsewhere)
    if strategy is not None and strategy.kind == "points" and "points" not in section:
        expected = "points: [{learning_rate: 1e-3}, ...]"
        section["strategy"].add("the strategy points runs only the points given; none are", expected=expected)
        strategy = None
    return {"space": space, "strategy": strategy, "given": given}


def _no_catalog(section: Mapping[str, Cursor], asked: Asked) -> None:
    expected = "strategy: {catalog: {mode: quick}}"
    if "catalog" in section:
        section["catalog"].add("is not used by this strategy", expected=expected, hint="remove one of them")
    elif asked.chosen:
        message = "--mode and --experiments choose from a catalog; this search has none"
        section["strategy"].add(message, expected=expected)
