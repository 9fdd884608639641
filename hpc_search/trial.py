"""The object that a training function gets: parameters, split, checkpoints, reports."""

from __future__ import annotations

import hashlib
import math
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from hpc_search import checkpoint, splits
from hpc_search.errors import DamagedError, UsageError
from hpc_search.layout import Layout

#: Steps are below this: the index holds them in 32 bits.
MAX_STEP: Final = 2**32


class Stopped(BaseException):
    """The worker has to stop; the trial goes on later from its last checkpoint. Do not catch it."""


class Pruned(BaseException):
    """The search gave this trial up; it ends here. Do not catch it."""


class NonFiniteError(Exception):
    """The selection metric is not a finite number."""


class Channel(Protocol):
    """The trial's line to its supervisor."""

    def send(self, kind: str, **content: Any) -> None:
        """Send one message."""

    def stop_requested(self) -> str:
        """Return why the trial has to stop, "" while it has not."""


class Params(dict[str, Any]):
    """The hyperparameters; counts which ones were read by name.

    Reads by ``params[name]`` and ``params.get(name)`` count; iteration and ``**params`` do not (the
    search would otherwise never notice a parameter without effect).
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Hold *values*."""
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            known = ", ".join(self)
            raise KeyError(f"no hyperparameter {name!r}; the search has: {known}")
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value, *default* where the search does not have it."""
        return self[name] if name in self else default  # noqa: SIM401 - it would call itself


@dataclass(frozen=True, slots=True)
class Split:
    """The ids of one fold's parts. The test share is not here."""

    train: tuple[str | int, ...]
    val: tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Everything a trial's process has to know; plain values, so that it can be sent to it."""

    root: str
    run_id: str
    search_id: str
    worker: str
    number: int
    point: int
    fold: int | None
    seed: int
    params: dict[str, Any]
    attempt: int
    metric: str
    callable: str = ""
    #: Names with more than one value in the search: each must be read.
    sampled: tuple[str, ...] = ()
    accumulation: int = 1
    device: str = "cpu"
    threads: int = 1
    save_interval: float = 300.0
    keep_checkpoints: bool = False
    code: str = ""
    directory: str = ""
    modules: tuple[str, ...] = ()


@dataclass(slots=True)
class _Progress:
    last_save: float
    saved: Mapping[str, Any] | None = None
    saved_step: int = -1
    durable_step: int = -1
    stop_reports: int = 0
    used: set[str] = field(default_factory=set)


class Trial:
    """One trial while it runs.

    Attributes:
        params: The hyperparameters of the trial.
        number: Number of the trial in the run.
        point: Number of its point; trials of one point differ by fold and seed.
        fold: Fold, from 0; None where the search splits nothing.
        seed: The seed; Python's, NumPy's and torch's generators are seeded from it before the function.
        attempt: 1 for the first try.
        accumulation: Micro-batches a step; more than 1 after an out-of-memory retry.
        directory: A directory for files of the trial's own; it persists over attempts.
        device: "cpu" or "cuda".
        threads: Threads the trial may use.
        history: Reports so far as (step, metrics), earlier attempts' included.
        restored: Plain numbers, texts and tuples of the checkpoint by name: they cannot change in place.
    """

    def __init__(self, spec: Spec, channel: Channel, clock: Callable[[], float] = time.monotonic) -> None:
        """Make the trial of *spec*, talking over *channel*."""
        self._spec = spec
        self._channel = channel
        self._clock = clock
        self._layout = Layout(Path(spec.root))
        self._progress = _Progress(last_save=clock())
        self._split: Split | None = None
        self.params = Params(spec.params)
        self.number = spec.number
        self.point = spec.point
        self.fold = spec.fold
        self.seed = spec.seed
        self.attempt = spec.attempt
        self.device = spec.device
        self.threads = spec.threads
        self.history: list[tuple[int, dict[str, float]]] = []
        self.restored: dict[str, Any] = {}
        #: Whether the trial asked for its accumulation: only then may a smaller batch take its place.
        self.accumulates = False
        self._slots = checkpoint.Slots(self._layout, spec.run_id, spec.number, spec.attempt, spec.worker)

    @property
    def accumulation(self) -> int:
        """Micro-batches a step."""
        self.accumulates = True
        return self._spec.accumulation

    @property
    def directory(self) -> Path:
        """A directory that persists over the trial's attempts, made when first asked for."""
        path = self._layout.trial_files(self.number)
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    @property
    def split(self) -> Split:
        """The train and validation ids of this trial's fold, checked against the plan.

        Raises:
            UsageError: The search has no folds.
            DamagedError: A manifest was changed after the plan.
        """
        if self._split is None:
            if self.fold is None:
                raise UsageError("trial.split: the search has no folds", hint="add `data` and `folds` to it")
            self._split = read_split(self._layout, self.fold)
        return self._split

    def report(self, step: int, /, **metrics: float) -> None:
        """Record *metrics* at *step*; repeated steps are recorded once.

        Raises:
            NonFiniteError: The selection metric is not finite.
            Stopped: The worker has to stop and the trial does not save.
        """
        step = _step("report", step)
        values = {name: _number(name, value) for name, value in metrics.items()}
        if not math.isfinite(values.get(self._spec.metric, 0.0)):
            raise NonFiniteError(f"{self._spec.metric} is {values[self._spec.metric]} at step {step}")
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self.history = [entry for entry in self.history if entry[0] != step]
        self.history.append((step, finite))
        self._channel.send("report", step=step, metrics=finite)
        if self._channel.stop_requested():
            # A save normally follows the report; only a trial that has none stops here.
            self._progress.stop_reports += 1
            if self._progress.saved is None or self._progress.stop_reports > 1:
                raise Stopped

    def restore(self, **objects: Any) -> int:
        """Put back the state of the newest valid checkpoint; return its step, 0 where there is none.

        Modules, optimizers, schedules, generators and anything with ``state_dict`` are restored in
        place, and so are dicts, lists, arrays and tensors; all random generators come back too.
        """
        loaded = self._slots.newest()
        self._channel.send("restored", step=loaded.step if loaded else 0, skipped=list(self._slots.skipped))
        if loaded is None:
            return 0
        state: Any = loaded.state
        self.restored = checkpoint.put_back(objects, state["objects"])
        self._progress.used.update(state["read"])
        self.history = [(step, dict(metrics)) for step, metrics in loaded.history]
        checkpoint.restore(state["rng"])
        self._progress.durable_step = loaded.step
        return loaded.step

    def save(self, step: int, /, **objects: Any) -> None:
        """Save the state as of *step* where a save is due: by time, or because the worker has to stop.

        Raises:
            Stopped: The worker has to stop; the state is saved.
        """
        step = _step("save", step)
        progress = self._progress
        progress.saved, progress.saved_step = objects, step
        stop = self._channel.stop_requested()
        if stop or self._clock() - progress.last_save >= self._spec.save_interval:
            self._write(step, objects)
        if stop:
            raise Stopped

    def finish(self) -> None:
        """Save the last state where the search keeps checkpoints (called after the function returns)."""
        progress = self._progress
        if self._spec.keep_checkpoints and progress.saved and progress.durable_step != progress.saved_step:
            self._write(progress.saved_step, progress.saved)

    def _write(self, step: int, objects: Mapping[str, Any]) -> None:
        state = {
            "objects": checkpoint.state_of(objects),
            "rng": checkpoint.capture(),
            # An attempt that resumes at the last step reads nothing again.
            "read": sorted(self.params.read | self._progress.used),
        }
        try:
            saved = self._slots.save(step, state, [[at, metrics] for at, metrics in self.history])
        except OSError as error:
            # The older slot is intact, and a full disk may have room at the next save.
            self._progress.last_save = self._clock()
            self._channel.send("unsaved", step=step, detail=error.strerror or str(error))
            return
        self._progress.last_save = self._clock()
        self._progress.durable_step = step
        self._channel.send("saved", step=step, slot=saved.slot, bytes=saved.bytes, seconds=saved.seconds)

    def report_samples(self, ids: Sequence[str | int], scores: Sequence[float]) -> None:
        """Give the selection metric of each sample, for statistics over samples; the last call counts.

        Raises:
            UsageError: The lengths differ or a score is not finite.
        """
        values = [float(score) for score in scores]
        if len(values) != len(ids):
            raise UsageError(f"report_samples: {len(ids)} ids and {len(values)} scores")
        if not all(map(math.isfinite, values)):
            raise UsageError("report_samples: a score is not finite")
        names = [_plain(item) for item in ids]
        if not all(isinstance(name, str | int) for name in names):
            raise UsageError("report_samples: an id is neither a text nor a whole number")
        self._channel.send("samples", ids=names, scores=values)

    def alive(self) -> None:
        """Say that the trial makes progress where it neither reports nor saves for long.

        Raises:
            Stopped: The worker has to stop and the trial never saved.
        """
        self._channel.send("alive")
        if self._channel.stop_requested() and self._progress.saved is None:
            raise Stopped

    def used(self, *names: str) -> None:
        """Say that the hyperparameters *names* are used where they are not read by name."""
        unknown = [name for name in names if name not in self.params]
        if unknown:
            raise UsageError(f"trial.used: no hyperparameter {', '.join(map(repr, unknown))}")
        self._progress.used.update(names)

    @property
    def unread(self) -> list[str]:
        """Names that the search varies and the trial never read."""
        known = self.params.read | self._progress.used
        return [name for name in self._spec.sampled if name not in known]


def _step(call: str, value: Any) -> int:
    try:
        step = operator.index(value)
    except TypeError:
        raise UsageError(f"trial.{call}: the step is {value!r}, not a whole number") from None
    if not 0 <= step < MAX_STEP:
        raise UsageError(f"trial.{call}: the step is {step}, not from 0 to {MAX_STEP - 1}")
    return step


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"trial.report: {name} is {value!r}, not a number") from None


def _plain(item: Any) -> Any:
    return item.item() if hasattr(item, "item") else item


class _Manifest(msgspec.Struct, frozen=True):
    digest: str
    rows: int


class _SplitsIndex(msgspec.Struct, frozen=True):
    ids: splits.IdKind
    files: dict[str, _Manifest]


def read_split(layout: Layout, fold: int) -> Split:
    """Return the ids of *fold* from the manifests.

    Raises:
        DamagedError: A manifest is missing or differs from the one planned.
    """
    index = msgspec.json.decode(layout.splits_index.read_bytes(), type=_SplitsIndex)
    parts = [_read_part(layout, layout.split_manifest(fold, part), index) for part in ("train", "val")]
    return Split(train=parts[0], val=parts[1])


def _read_part(layout: Layout, path: Path, index: _SplitsIndex) -> tuple[str | int, ...]:
    name = path.relative_to(layout.root).as_posix()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path} cannot be read ({error.strerror})") from error
    if hashlib.blake2b(content, digest_size=16).hexdigest() != index.files[name].digest:
        message = f"{path} was changed after the plan"
        raise DamagedError(
            message, hint="restore it, or plan a new run; results of changed splits mean nothing"
        )
    return tuple(splits.parse_manifest(content.decode(), index.ids, str(path)))


#: Bytes of entropy a generator is seeded with.
_SEED_BYTES: Final = 8


def trial_seed(search_id: str, number: int, seed: int) -> int:
    """Return the 64-bit number that the trial's generators are seeded with.

    It depends on the search, the trial's number and its seed, so that two runs of one search give the
    same numbers.
    """
    text = f"{search_id}/{number}/{seed}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=_SEED_BYTES).digest(), "little")
