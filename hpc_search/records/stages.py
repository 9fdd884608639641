"""ledger/stages/NNN.json and ledger/stopped/NN.json: what became of blocks and of searches of a plan."""

from __future__ import annotations

from typing import Literal

import msgspec

from hpc_search.records.search import Struct
from hpc_search.space import Space


class Opened(Struct, kw_only=True):
    """The block at position ``block`` may be claimed, in ``space``.

    ``space`` is the whole space of the block as it was derived from the results ``of`` the block before
    (trial -> checksum of its end record; the sealed set). ``given`` are points that come first, such as
    the best ones of the stage before. ``why`` says in words what was derived.
    """

    format: str = "hpc_search.stage"
    version: int = 1
    block: int
    state: Literal["open"] = "open"
    space: Space
    given: tuple[dict[str, object], ...] = ()
    of: dict[int, str] = msgspec.field(default_factory=dict)
    why: str = ""
    #: Number of the point that a refit trains again, None for other stages.
    point: int | None = None


def point_words(point: int, searched: int | None) -> str:
    """Return which point it is: in a refit its own number, and that of the *searched* one it is again."""
    return f"point {point}" if searched is None else f"point {point} (point {searched} again)"


class StoppedPart(Struct, kw_only=True):
    """Nothing more of the search at position ``part`` of the plan's is claimed; ``why`` says it in words."""

    format: str = "hpc_search.stopped"
    version: int = 1
    part: int
    why: str
