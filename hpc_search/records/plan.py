"""The search as resolved and the plan made from it: typed, versioned, encoded as JSON."""

from __future__ import annotations

import hashlib
from typing import Any, Final, Literal, NamedTuple, dataclass_transform

import msgspec

from hpc_search.errors import DamagedError
from hpc_search.space import Space

#: Version of plan.json. A reader refuses a version it does not know.
PLAN_VERSION: Final = 1
#: Strategies whose points depend on results, and rules that let a trial wait at a rung.
ADAPTIVE: Final = ("tpe", "cmaes", "gp", "evolution", "nsga2")
PAUSING: Final = ("asha", "hyperband", "successive_halving")
#: Fields of a search that were no part of the first version's ids.
_LATER: Final = ("objectives", "given", "pruning", "stages", "searches", "stop_on_error", "budget")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Struct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Base of the records: immutable, keyword-only; unknown keys are ignored when read."""


class Metric(Struct, kw_only=True):
    """The one number a search selects by."""

    name: str
    goal: Literal["max", "min"]


class TrialSpec(Struct, kw_only=True):
    """What a trial runs: a callable ``module:function`` or ``file.py:function``, or an argv list.

    Exactly one of ``callable`` and ``command`` is set. ``metric_file`` names a JSON file that a
    command writes, relative to its working directory; empty means the HPC_SEARCH_REPORT file.
    ``files`` are extra files to keep in code.zip, relative to the search file, whatever their size.
    """

    callable: str = ""
    command: tuple[str, ...] = ()
    metric_file: str = ""
    files: tuple[str, ...] = ()


class StrategySpec(msgspec.Struct, frozen=True):
    """A strategy by name with its options, all resolved (``points`` and ``seed`` for random)."""

    kind: str
    options: dict[str, Any] = {}


class PruningSpec(msgspec.Struct, frozen=True):
    """An early-stopping rule by name with its options, all resolved; ``inner`` is what ``patient`` wraps."""

    kind: str
    options: dict[str, Any] = {}
    inner: PruningSpec | None = None

    @property
    def pauses(self) -> bool:
        """Whether a trial may wait at a rung."""
        return self.kind in PAUSING or (self.inner is not None and self.inner.pauses)


class Narrow(Struct, kw_only=True):
    """A stage's bounds come from the best share ``top`` of the points of the stage called ``stage``."""

    stage: str
    top: float = 0.25


class StageSpec(Struct, kw_only=True):
    """One stage of a search: what differs from the search itself.

    ``fixed`` replaces values of the space (such as epochs); ``seeds`` None means the search's.
    """

    name: str
    strategy: StrategySpec
    fixed: dict[str, Any] = {}
    seeds: tuple[int, ...] | None = None
    pruning: PruningSpec | None = None
    narrow: Narrow | None = None


class Part(Struct, kw_only=True):
    """One of several searches of a plan, with everything that can differ; ``name`` is its namespace.

    ``objectives`` are all metrics where there are several; the first one is ``metric``. ``given`` are
    points that come first.
    """

    name: str
    trial: TrialSpec
    metric: Metric
    space: Space
    strategy: StrategySpec
    objectives: tuple[Metric, ...] = ()
    given: tuple[dict[str, Any], ...] = ()
    seeds: tuple[int, ...] = (0,)
    pruning: PruningSpec | None = None
    stages: tuple[StageSpec, ...] = ()


class Budget(Struct, kw_only=True):
    """What a search may use up beside its points: hours since it began, hours of devices; 0: no limit."""

    hours: float = 0.0
    gpu_hours: float = 0.0


class DataSpec(Struct, kw_only=True):
    """Where ids, labels and groups come from: a CSV table or ``module:function``.

    ``index`` is the CSV path relative to the search file, or empty when ``function`` is set.
    """

    index: str = ""
    function: str = ""
    id: str = "id"
    label: str = ""
    group: str = ""


class FoldsSpec(Struct, kw_only=True):
    """How the data are split: the kind, the number of folds, the seed of the shuffle, the test share."""

    kind: Literal["kfold", "stratified", "grouped"]
    n: int
    seed: int = 0
    test_share: float = 0.0


class OomRetry(Struct, kw_only=True):
    """The out-of-memory ladder: the parameter to halve, how often, and whether accumulation doubles.

    A command that exits with one of ``codes``, or with any code but 0 after printing what one of the
    regular expressions ``text`` finds (in its last 64 KiB), ran out of memory.
    """

    halve: str = "batch_size"
    times: int = 3
    ladder: Literal["accumulate", "plain"] = "accumulate"
    text: tuple[str, ...] = (
        "[Oo]ut of memory",
        "OutOfMemoryError",
        "[Cc](?:annot|an't|ould not) allocate memory",
        "std::bad_alloc",
        r"(?m)^MemoryError\b",
        "RESOURCE_EXHAUSTED",
        "ResourceExhaustedError",
        "CUBLAS_STATUS_ALLOC_FAILED",
    )
    codes: tuple[int, ...] = ()


class Retry(Struct, kw_only=True):
    """How often a trial is tried again, by cause; ``nonfinite`` and ``noop`` never are.

    ``timeout`` counts trials that hung; None leaves them to ``no_progress`` alone. ``memory`` counts
    kills for host memory that are tried again unchanged, before the ladder of ``oom`` begins.
    """

    error: int = 0
    oom: OomRetry | None = None
    memory: int = 1
    timeout: int | None = None
    #: Infrastructure failures in a row without a newer checkpoint (design 4, Progress).
    no_progress: int = 5


class Search(Struct, kw_only=True):
    """A search file, checked and with every default filled in. Times are in seconds."""

    name: str
    trial: TrialSpec
    metric: Metric
    space: Space
    strategy: StrategySpec
    seeds: tuple[int, ...] = (0,)
    folds: FoldsSpec | None = None
    data: DataSpec | None = None
    threads: int = 1
    retry: Retry = Retry()
    #: Equal failures of different trials in a row that stop the search; 0: never.
    stop_after: int = 10
    max_trials: int = 100_000
    expect_points: int | None = None
    heartbeat: float = 60.0
    lease: float = 900.0
    save_interval: float = 300.0
    #: Saves due by time are written beside the training, from a copy of the state.
    save_in_background: bool = False
    stall: float = 0.0
    log_bytes: int = 1 << 20
    keep_checkpoints: bool = False
    #: Whether tasks run the sources as planned, or what is there when they start.
    snapshot: Literal["sources", "none"] = "sources"
    description: str = ""
    #: All metrics where there are several; the first one is ``metric``.
    objectives: tuple[Metric, ...] = ()
    #: Points that come first, in this order, before those of the strategy.
    given: tuple[dict[str, Any], ...] = ()
    pruning: PruningSpec | None = None
    stages: tuple[StageSpec, ...] = ()
    #: Several searches of one plan; empty where there is only this one.
    searches: tuple[Part, ...] = ()
    #: Whether all searches stop where one of them fails.
    stop_on_error: bool = False
    budget: Budget = Budget()

    @property
    def parts(self) -> tuple[Part, ...]:
        """The searches of the plan; the only one of a plan without several has the name ""."""
        return self.searches or (
            Part(
                name="",
                trial=self.trial,
                metric=self.metric,
                space=self.space,
                strategy=self.strategy,
                objectives=self.objectives,
                given=self.given,
                seeds=self.seeds,
                pruning=self.pruning,
                stages=self.stages,
            ),
        )


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

    @property
    def trials(self) -> int:
        """Number of trials of this block."""
        return self.points * max(1, len(self.folds)) * len(self.seeds)


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
    versions: dict[str, str] = {}
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
        """Whether what can be claimed changes as it goes on: claims by names are of one trial each then."""
        return len(self.search.parts) > 1 or any(
            block.needs is not None
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


def canonical_json(value: object) -> bytes:
    """Return the one JSON text of *value*: keys sorted, numbers as msgspec writes them."""
    return msgspec.json.encode(msgspec.to_builtins(value), order="deterministic")


def search_id(search: Search) -> str:
    """Return 12 hexadecimal digits that name the content of *search*, as before there were later keys."""
    fields = [one for one in msgspec.structs.fields(Search) if one.name in _LATER]
    unsaid = {one.name for one in fields if getattr(search, one.name) == one.default}
    content = {name: value for name, value in msgspec.to_builtins(search).items() if name not in unsaid}
    return hashlib.blake2b(canonical_json(content), digest_size=6).hexdigest()


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
