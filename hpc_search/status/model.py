"""What a status holds: plain values, and JSON."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from hpc_search.space import amount
from hpc_search.status.hours import Sums
from hpc_search.status.workers import LiveWorker

State = Literal[
    "finished", "stopped", "paused", "running", "starting", "waiting", "silent", "unknown", "idle", "new"
]


#: The limits of a budget in words.
_LIMITS: Final = {"hours": "hours since the first trial started", "gpu_hours": "GPU-hours"}


class Best(msgspec.Struct, frozen=True):
    """The done trial with the best value so far."""

    trial: int
    point: int
    value: float


class BestPoint(msgspec.Struct, frozen=True):
    """The complete point with the best mean so far, over its ``n`` trials."""

    point: int
    mean: float
    n: int


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of one search ("" where there is only one), and the best of it so far.

    ``state``: waiting (for the stage before it), open (its trials may run), finished, or stopped (its
    search has).
    """

    search: str
    stage: str
    state: Literal["waiting", "open", "finished", "stopped"]
    trials: int
    finished: int
    done: int
    failed: int
    pruned: int
    left_out: int
    metric: str
    best: Best | None
    best_point: BestPoint | None


class Fold(msgspec.Struct, frozen=True, kw_only=True):
    """How the trials of one fold stand, those of all searches and stages together."""

    fold: int
    trials: int
    running: int
    done: int
    failed: int
    pruned: int
    left_out: int

    @property
    def finished(self) -> int:
        """How many trials are final."""
        return self.done + self.failed + self.pruned


class Eta(msgspec.Struct, frozen=True):
    """Seconds until everything is final, as a range; ``high`` is None where few ends say little."""

    low: float
    high: float | None


class Failure(msgspec.Struct, frozen=True):
    """``count`` failed trials with one cause and headline ("" where it was not read).

    ``trial`` is one of them; its output is bytes ``log_bytes`` of the file ``log`` in RUN ("" where the
    worker's files were archived: `show RUN TRIAL --log` prints it all the same).
    """

    cause: str
    detail: str
    count: int
    trial: int
    node: str = ""
    log: str = ""
    log_bytes: tuple[int, int] = (0, 0)


class Running(msgspec.Struct, frozen=True):
    """A running trial: for ``seconds`` now, ``quiet`` of them without a report or a checkpoint.

    ``stall``: quiet for more than half of the time after which a trial counts as hung and is stopped.
    """

    trial: int
    attempt: int
    node: str
    seconds: float
    quiet: float
    stall: bool


class Node(msgspec.Struct, frozen=True):
    """One node: its live and silent workers, and the attempts that ended there without a result, by cause."""

    node: str
    live: int
    silent: int
    failures: dict[str, int]


class Slots(msgspec.Struct, frozen=True):
    """Workers of one profile: how many shall be live, are, start, wait in the queue, and are missing."""

    profile: str
    wanted: int
    live: int
    starting: int
    waiting: int
    missing: int


class Waiting(msgspec.Struct, frozen=True):
    """Tasks that SLURM lets wait for one reason; ``starts_in``: seconds, None where SLURM does not say."""

    reason: str
    tasks: int
    meaning: str
    next: str
    starts_in: float | None = None
    jobs: tuple[str, ...] = ()


class QueueView(msgspec.Struct, frozen=True):
    """What SLURM said ``age`` seconds ago (None: never); ``answers``: whether it answered when last asked."""

    age: float | None
    answers: bool
    running: int
    ending: int
    waiting: tuple[Waiting, ...]
    unasked: int = 0


class Hours(msgspec.Struct, frozen=True):
    """Hours in ``unit`` (GPU, slice or core); the words are those of `status.hours`.

    ``wasted`` is the sum of the six after it. ``left`` is what the rest will take, None where too little is
    known.
    """

    unit: Literal["GPU", "slice", "core"]
    spent: float
    busy: float
    running: float
    wasted: float
    failed: float
    interrupted: float
    lost: float
    superseded: float
    idle: float
    left: Eta | None = None

    @classmethod
    def of(cls, unit: Literal["GPU", "slice", "core"], seconds: Sums, left: Eta | None) -> Hours:
        """Return *seconds* as hours, *left* being hours already."""
        hours = seconds.scaled(1 / 3600)
        fields = {name: round(getattr(hours, name), 6) for name in hours.__struct_fields__}
        return cls(unit=unit, wasted=round(hours.wasted, 6), left=left, **fields)


class Use(msgspec.Struct, frozen=True):
    """``used`` of ``limit`` hours; ``cpu``: workers without a GPU are in it, as one device each."""

    kind: Literal["hours", "gpu_hours"]
    used: float
    limit: float
    cpu: bool = False

    @property
    def text(self) -> str:
        """Return it in words."""
        cpu = " (a worker without a GPU counts as one)" if self.cpu else ""
        return f"{amount(self.used)} of {amount(self.limit, 6)} {_LIMITS[self.kind]}{cpu}"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Counts, rate, best, workers and failures of a run; what `status --json` prints.

    ``state`` in one word: finished, stopped, paused, running, starting (SLURM runs tasks, no worker is seen
    yet), waiting (in SLURM's queue), silent (workers, none with a heartbeat), unknown (SLURM never
    answered), idle (nothing runs), new (nothing was started). ``source`` is "index", or "journals" where
    the index cannot be read. ``left_out`` counts those of the ``pruned`` trials that never began, for their
    points had lost a race; so it does in stages and folds. ``waiting`` counts trials of stages that wait
    for others, ``closed`` those that nobody runs because their search has stopped; none of them is
    ``pending``. ``unknown`` counts records of the index that do not verify. ``busy_seconds`` is the time
    inside attempts that ended, all workers together. ``median_seconds`` is that of a done trial. ``events``
    counts what workers noted, ``mismatches`` by node those that left because their slice was not the
    expected one. ``notes`` say in words what is unusual, such as why nothing runs; ``next`` is the command
    to type.
    """

    name: str
    run_id: str
    state: State
    metric: str
    goal: str
    trials: int
    pending: int
    claimed: int
    running: int
    paused: int
    done: int
    failed: int
    pruned: int
    left_out: int
    waiting: int
    closed: int
    unknown: int
    causes: dict[str, int]
    best: Best | None
    best_point: BestPoint | None
    rate_per_min: float | None
    eta_seconds: Eta | None
    busy_seconds: float
    median_seconds: float | None
    hours: tuple[Hours, ...]
    slots: tuple[Slots, ...]
    workers: tuple[LiveWorker, ...]
    nodes: tuple[Node, ...]
    slow: tuple[Running, ...]
    failures: tuple[Failure, ...]
    queue: QueueView | None
    stopped: str | None
    events: dict[str, int]
    mismatches: dict[str, int]
    source: str
    notes: tuple[str, ...] = ()
    next: str = ""
    #: Stages of which nobody knows how long a trial takes: ``eta_seconds`` is a lower bound, without them.
    eta_without: tuple[str, ...] = ()
    #: All objectives where there are several; ``metric``, by which the best are chosen, is the first.
    objectives: tuple[str, ...] = ()
    #: What is used of the hours that the search may use up.
    budget: tuple[Use, ...] = ()
    stages: tuple[Stage, ...] = ()
    folds: tuple[Fold, ...] = ()

    @property
    def finished(self) -> int:
        """How many trials are final."""
        return self.done + self.failed + self.pruned

    @property
    def left(self) -> int:
        """How many trials are not final, and will be: those of searches that stopped are not."""
        return self.trials - self.finished - self.closed

    def text(self, width: int = 80, *, lines: int | None = None, run: str = "RUN") -> str:
        """Return the status for a terminal of *width* columns, at most *lines*, without a last newline.

        *run* is what the user types for the run.
        """
        from hpc_search.status.text import screen

        return "\n".join(line.text for line in screen(self, width, lines, run))

    def json(self) -> str:
        """Return the status as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()
