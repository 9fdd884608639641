"""The plan made from a search: typed, versioned, encoded as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

import msgspec

from hpc_search.errors import DamagedError
from hpc_search.records.search import (
    ADAPTIVE,
    Metric,
    Narrow,
    Part,
    PruningSpec,
    RacingSpec,
    Search,
    StrategySpec,
    Struct,
)
from hpc_search.space import Space

#: Version of plan.json. A reader refuses a version it does not know.
PLAN_VERSION: Final = 1


class Block(Struct, kw_only=True):
    """A run of trial numbers that share a space and a strategy.

    Within a block, number = first + (fold x points + point) x seeds + seed (fold-major). Points of
    the run are numbered on from ``first_point``. ``folds`` is empty where nothing is split. ``space``
    of a block that ``narrow`` changes is its parent until the block is opened (`records.stages`).
    """

    first: int
    first_point: int
    points: int
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    space: Space
    strategy: StrategySpec
    stage: int = 0
    digest: str = ""
    #: Name of the search it belongs to (`Part`), and of its stage; "" where there is only one.
    part: str = ""
    stage_name: str = ""
    #: Position in the plan's blocks of the one that has to close before this one opens.
    needs: int | None = None
    narrow: Narrow | None = None
    pruning: PruningSpec | None = None
    given: tuple[dict[str, Any], ...] = ()
    #: Place of its first point among those of the strategy: an amendment goes on where a block ended.
    start: int = 0
    #: Spaces whose points, all of them in earlier blocks, are left out (a grid that was amended).
    without: tuple[Space, ...] = ()
    racing: RacingSpec | None = None
    #: What its trials train on where it trains the chosen point again: such a block is never ranked. Its
    #: ``folds`` are those whose train and validation sides are joined, and on whose test side `test` looks.
    refit: Literal["", "train+val", "train", "everything"] = ""
    #: The outer fold whose folds choose its point, None where all folds do.
    outer: int | None = None

    @property
    def trials(self) -> int:
        """Number of trials of this block."""
        return self.points * max(1, len(self.folds)) * len(self.seeds)


def count_points(blocks: Iterable[Block]) -> int:
    """Return how many points *blocks* have: an amendment by seeds has those of an earlier block again."""
    return sum({block.first_point: block.points for block in blocks}.values())


class PlannedTrial(NamedTuple):
    """A trial as the plan has it: its number, point, fold, seed and full parameters."""

    number: int
    point: int
    fold: int | None
    seed: int
    params: dict[str, Any]
    #: Digest of the block that the number belongs to.
    block: str = ""
    #: False where its stage waits, or nobody has proposed the point: ``params`` is empty then.
    known: bool = True
    #: Name of the stage whose end its own waits for; "" where it waits for none.
    waits_for: str = ""

    @property
    def unknown(self) -> str:
        """Why its parameters are not known, "" where they are."""
        if self.known:
            return ""
        return f"waits for stage {self.waits_for}" if self.waits_for else "not proposed yet"


class Plan(Struct, kw_only=True):
    """plan.json: what a run is. Never changed; an amendment adds plan.002.json, a whole plan.

    All plans of a run have the ids of the first one, and its trials under the same numbers.
    """

    format: str = "hpc_search.plan"
    version: int = PLAN_VERSION
    search_id: str
    run_id: str
    created: float
    search: Search
    blocks: tuple[Block, ...]
    points: int
    trials: int
    #: How trials are claimed: by the locked index, or by exclusively created names (`mounts`).
    claiming: Literal["lock", "exclusive"] = "lock"
    code_digest: str = ""
    splits_digest: str = ""
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    #: 1 for plan.json, 2 for plan.002.json, ...
    number: int = 1
    #: First numbers of the trials that amendments added, ascending.
    added: tuple[int, ...] = ()

    @property
    def first_trials(self) -> int:
        """How many trials the first plan had."""
        return self.added[0] if self.added else self.trials

    @property
    def metric(self) -> Metric:
        """The metric that the search selects by."""
        return self.search.metric

    def objectives_of(self, block: Block) -> tuple[Metric, ...]:
        """Return the metrics that a trial of *block* has to return, the one that selects first."""
        part = self.part(block)
        return part.objectives or (part.metric,)

    @property
    def flexible(self) -> bool:
        """Whether what a worker may claim changes as it goes on, or some work on some folds alone.

        Claims by names are of one trial each then.
        """
        return len(self.search.parts) > 1 or any(
            block.needs is not None
            or len(block.folds) > 1
            or block.strategy.kind in ADAPTIVE
            or (block.pruning is not None and block.pruning.pauses)
            for block in self.blocks
        )

    def part(self, block: Block) -> Part:
        """Return the search that *block* belongs to."""
        return next(part for part in self.search.parts if part.name == block.part)

    def part_of(self, number: int) -> Part:
        """Return the search that trial *number* belongs to."""
        return self.part(self.block_at(number))

    def block_at(self, number: int) -> Block:
        """Return the block of trial *number*, 0 <= number < trials."""
        return next(block for block in self.blocks if block.first <= number < block.first + block.trials)


def encode_plan(plan: Plan) -> bytes:
    """Return plan.json, readable, ending in a line with the digest of what stands before it."""
    body = msgspec.json.format(msgspec.json.encode(plan), indent=1)
    return body + b"\n" + hashlib.blake2b(body, digest_size=16).hexdigest().encode() + b"\n"


def parse_plan(data: bytes, where: str) -> Plan:
    """Return the plan in *data*.

    Raises:
        DamagedError: The digest does not match, or the version is unknown; *where* is named.
    """
    body, _, digest = data.rstrip(b"\n").rpartition(b"\n")
    if hashlib.blake2b(body, digest_size=16).hexdigest().encode() != digest:
        message = f"{where} does not verify: its content does not match its digest"
        raise DamagedError(
            message, hint="`hpc-search fsck RUN --repair` puts it back; nothing that ended is lost"
        )
    head = msgspec.json.decode(body, type=_Head)
    if head.format != "hpc_search.plan" or head.version != PLAN_VERSION:
        found = f"{where} has format {head.format!r} version {head.version}"
        message = f"{found}; this hpc_search reads version {PLAN_VERSION}"
        raise DamagedError(message, hint="use the hpc_search version that made the run")
    return msgspec.json.decode(body, type=Plan)


class _Head(Struct, kw_only=True):
    format: str
    version: int
