"""The search as resolved: typed, every default filled in."""

from __future__ import annotations

import hashlib
from typing import Any, Final, Literal, dataclass_transform

import msgspec

from hpc_search.space import Space

#: Strategies whose points depend on results, and rules that let a trial wait at a rung.
ADAPTIVE: Final = ("tpe", "cmaes", "gp", "evolution", "nsga2")
PAUSING: Final = ("asha", "hyperband", "successive_halving")
#: Fields of a search, and of what it has, that were no part of the first version's ids.
_LATER: Final = (
    *("objectives", "given", "pruning", "stages", "searches", "stop_on_error", "budget"),
    *("racing", "choose", "test"),
)
_LATER_OF: Final = {
    "metric": ("split", "reduction"),
    "data": ("time", "path", "root", "columns"),
    "folds": ("repeats", "outer", "gap", "shares", "file", "function", "apart"),
}


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Struct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Base of the records: immutable, keyword-only; unknown keys are ignored when read."""


class Metric(Struct, kw_only=True):
    """The one number a search selects by.

    ``reduction`` says how it comes from the samples of the validation side: their ``mean``, so that
    scores of samples say what it is worth, or another way (``none``), such as an area under a curve.
    """

    name: str
    goal: Literal["max", "min"]
    split: Literal["val"] = "val"
    reduction: Literal["mean", "none"] = "mean"


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


class RacingSpec(Struct, kw_only=True):
    """Folds of points that lose clearly are left out, by a sequential test on paired folds.

    ``error``: the probability that a search leaves out the point which would be best over all folds.
    ``folds``: how many folds a point has at least.
    """

    error: float = 0.05
    folds: int = 2


class Choice(Struct, kw_only=True):
    """Which point is chosen: the best one, or the simplest within one standard error of it.

    ``simpler`` are parameters, the most important first, whose lower value is simpler; a name with ``-``
    before it means the higher one.
    """

    rule: Literal["best", "one_standard_error"] = "best"
    simpler: tuple[str, ...] = ()


class RefitSpec(Struct, kw_only=True):
    """The last stage: the chosen point again, on more data, with these seeds; it is never ranked."""

    seeds: tuple[int, ...] = (0,)
    on: Literal["train+val", "train", "everything"] = "train+val"


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
    #: Set for the stage that trains the chosen point; its strategy is ``top`` with one point.
    refit: RefitSpec | None = None


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
    racing: RacingSpec | None = None
    choose: Choice = Choice()
    #: What `test` runs on the test side, None where the search file does not say.
    test: TrialSpec | None = None


class Budget(Struct, kw_only=True):
    """What a search may use up beside its points: hours since it began, hours of devices; 0: no limit."""

    hours: float = 0.0
    gpu_hours: float = 0.0


class DataSpec(Struct, kw_only=True):
    """Where ids, labels and groups come from: a CSV table or ``module:function``.

    ``index`` is the CSV path relative to the search file, or empty when ``function`` is set. ``time`` orders
    the rows for folds over time. ``path`` is the column that names each row's file, below ``root`` (relative
    to the search file); ``columns`` are further ones, by which overlaps of the sides are reported.
    """

    index: str = ""
    function: str = ""
    id: str = "id"
    label: str = ""
    group: str = ""
    time: str = ""
    path: str = ""
    root: str = ""
    columns: tuple[str, ...] = ()


class FoldsSpec(Struct, kw_only=True):
    """How the data are split: the kind, the number of folds, the seed of the shuffle, the test share.

    ``n`` is 0 where only the data tell it (leave_one_group_out, file, splitter). ``outer`` folds around the
    ``n`` inner ones make it nested. ``shares`` are those of train, validation and test for ``hash`` and
    ``shuffle``. ``file`` names a folds.json of rotating folds, ``function`` a splitter of the user's. ``gap``
    rows stay out between train and validation of folds over time. No value of the columns ``apart`` may stand
    on two sides of a fold.
    """

    kind: Literal[
        "kfold",
        "stratified",
        "grouped",
        "stratified_grouped",
        "leave_one_group_out",
        "time",
        "hash",
        "shuffle",
        "file",
        "splitter",
    ]
    n: int = 0
    seed: int = 0
    test_share: float = 0.0
    repeats: int = 1
    outer: int = 0
    gap: int = 0
    shares: tuple[float, float, float] | None = None
    file: str = ""
    function: str = ""
    apart: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many folds there are, 0 where only the data tell."""
        return self.n * self.repeats * max(1, self.outer)


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
    racing: RacingSpec | None = None
    choose: Choice = Choice()
    #: What `test` runs on the test side, None where the search file does not say.
    test: TrialSpec | None = None

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
                racing=self.racing,
                choose=self.choose,
                test=self.test,
            ),
        )


def canonical_json(value: object) -> bytes:
    """Return the one JSON text of *value*: keys sorted, numbers as msgspec writes them."""
    return msgspec.json.encode(msgspec.to_builtins(value), order="deterministic")


def search_id(search: Search) -> str:
    """Return 12 hexadecimal digits that name the content of *search*, as before there were later keys."""
    content = _without_unsaid(search, _LATER)
    for name, later in _LATER_OF.items():
        if (own := getattr(search, name)) is not None:
            content[name] = _without_unsaid(own, later)
    return hashlib.blake2b(canonical_json(content), digest_size=6).hexdigest()


def _without_unsaid(record: Struct, later: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of *record*, without those of *later* that have their defaults."""
    fields = [one for one in msgspec.structs.fields(type(record)) if one.name in later]
    unsaid = {one.name for one in fields if getattr(record, one.name) == one.default}
    content: dict[str, Any] = msgspec.to_builtins(record)
    return {name: value for name, value in content.items() if name not in unsaid}
