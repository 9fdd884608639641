"""The object that a training function gets: parameters, split, checkpoints, reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from hpc_search import checkpoint
from hpc_search.errors import UsageError
from hpc_search.layout import Layout
from hpc_search.trial.params import Params, unread
from hpc_search.trial.spec import Spec, trial_seed
from hpc_search.trial.split import Split, read_split

__all__ = ["MAX_STEP", "NonFiniteError", "Pruned", "Spec", "Stopped", "Trial", "trial_seed"]

#: Steps are below this.
MAX_STEP: Final = checkpoint.MAX_STEP
#: Reports of earlier attempts that are made again at a restore.
_TOLD_AGAIN: Final = 1000


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

    def verdict(self) -> str:
        """Wait for what becomes of the trial after its last report: continue, pause or prune."""


@dataclass(slots=True)
class _Progress:
    saved: bool = False
    #: The last rung with a verdict.
    rung: int = -1
    #: What the trial was told to end by, whatever it makes of it.
    told: type[BaseException] | None = None
    #: Reports that the restored state has.
    before: int = 0
    stop_reports: int = 0
    samples: dict[str, Any] | None = None
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
        refit: "" in the search; "train+val", "train" or "everything" where the chosen point is trained again
            on that: no metric has to be returned then, and the state of the last `save` is kept.
        testing: Whether this is `hpc-search test`, which alone opens ``split.test``.
    """

    def __init__(self, spec: Spec, channel: Channel, clock: Callable[[], float] = time.monotonic) -> None:
        """Make the trial of *spec*, talking over *channel*."""
        self._spec = spec
        self._channel = channel
        self._layout = Layout(Path(spec.root))
        self._progress = _Progress()
        self._split: Split | None = None
        self.params = Params(spec.params, spec.implied.keys() - spec.params.keys())
        self.number = spec.number
        self.point = spec.point
        self.fold = spec.fold
        self.seed = spec.seed
        self.attempt = spec.attempt
        self.device = spec.device
        self.threads = spec.threads
        self.refit = spec.refit
        self.testing = spec.testing
        self.history: list[tuple[int, dict[str, float]]] = []
        self.restored: dict[str, Any] = {}
        #: Whether the trial waits at a rung from its next save on.
        self.paused = False
        #: Whether the trial asked for its accumulation: only then may a smaller batch take its place.
        self.accumulates = False
        self._slots = checkpoint.Slots(self._layout, spec.run_id, spec.number, spec.attempt, spec.worker)
        self._saves = checkpoint.Saves(
            self._slots,
            channel.send,
            clock,
            spec.save_interval,
            background=spec.save_in_background,
            keep=spec.keep_checkpoints or bool(spec.refit),
        )

    @property
    def accumulation(self) -> int:
        """Micro-batches a step."""
        if not self.accumulates:
            self.accumulates = True
            # Told at once: whoever is killed for its memory says nothing afterwards.
            self._channel.send("accumulates")
        return self._spec.accumulation

    @property
    def directory(self) -> Path:
        """A directory that persists over the trial's attempts, made when first asked for.

        Raises:
            DamagedError: One of its names is a link to somewhere else.
        """
        path = self._layout.trial_files(self.number, self._spec.rung)
        checkpoint.refuse_links(self._layout.checkpoints, *reversed(path.parents[:2]), path)
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    @property
    def split(self) -> Split:
        """The train and validation ids of this trial's fold, checked against the plan.

        Of a trial that trains the chosen point again on more than the training side, ``train`` is all that.

        Raises:
            UsageError: The search has no folds.
            DamagedError: A manifest was changed after the plan.
        """
        if self._split is None:
            if self.fold is None:
                raise UsageError("trial.split: the search has no folds", hint="add `data` and `folds` to it")
            self._split = read_split(self._layout, self.fold, self.refit, testing=self.testing)
        return self._split

    def report(self, step: int, /, **metrics: float) -> None:
        """Record *metrics* at *step*; repeated steps are recorded once.

        Where the search ends trials early, a report that completes a rung waits for the verdict: the trial
        goes on, or it is paused at its next `save`, or it ends.

        Raises:
            NonFiniteError: An objective is not finite.
            UsageError: The report completes a rung and has no selection metric.
            Stopped: The worker has to stop, or the trial is paused, and the trial does not save.
            Pruned: The search gives the trial up.
        """
        if self.paused:
            # It did not save since: whoever promotes it starts it anew.
            self._stop()
        step = checkpoint.step_of("trial.report", step)
        values = {name: _number(name, value) for name, value in metrics.items()}
        for name in (self._spec.metric, *self._spec.others):
            if not math.isfinite(values.get(name, 0.0)):
                raise NonFiniteError(f"{name} is {values[name]} at step {step}")
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if self.history and step <= self.history[-1][0]:
            self.history = [entry for entry in self.history if entry[0] != step]
        self.history.append((step, finite))
        rung = self._rung(step, finite)
        asks = {"rung": rung} if rung >= 0 else {}
        self._channel.send("report", step=step, metrics=finite, **asks)
        if asks:
            self._obey(rung)
        if self._channel.stop_requested():
            # A save normally follows the report; only a trial that has none stops here.
            self._progress.stop_reports += 1
            if not self._progress.saved or self._progress.stop_reports > 1:
                self._stop()

    def _rung(self, step: int, metrics: Mapping[str, float]) -> int:
        """Return the rung that a report completes, -1 for none."""
        schedule, metric = self._spec.schedule, self._spec.metric
        rung = schedule.rung(step)
        if rung <= self._progress.rung:
            return -1
        if metric in metrics:
            return rung
        if not schedule.rungs:
            return -1
        message = f"trial.report: the search compares trials at step {step}, and this report has no {metric}"
        raise UsageError(
            message,
            hint=f"trial.report({step}, {metric}=...), or rungs where it has it (min_steps, first_step)",
        )

    def _obey(self, rung: int) -> None:
        decision = self._channel.verdict()
        self._progress.rung = rung
        if decision == "prune":
            self._progress.told = Pruned
            raise Pruned
        self.paused = decision == "pause"

    def obey(self) -> None:
        """Raise again what the trial was told to end by, and caught (called however the function ended).

        Raises:
            Stopped: It had to stop, or was paused.
            Pruned: It was given up.
        """
        if self._progress.told is not None:
            raise self._progress.told

    @property
    def idle(self) -> bool:
        """Whether it resumed, and has reported nothing since."""
        return 0 < self._progress.before == len(self.history)

    def restore(self, /, **objects: Any) -> int:
        """Put back the state of the newest valid checkpoint; return its step, 0 where there is none.

        Modules, optimizers, schedules, generators and anything with ``state_dict`` are restored in
        place, and so are dicts, lists, arrays and tensors; all random generators come back too.

        Raises:
            Stopped: The trial was killed before it could say that it waits at a rung.
            Pruned: The search gave the trial up.
            UsageError: This is `hpc-search test`, and nothing was saved.
        """
        self._saves.collect()
        loaded = self._slots.newest(checkpoint.check)
        if self.testing and loaded is None:
            words = f"trial.restore: trial {self.number} never saved, so there is nothing to test"
            raise UsageError(words, hint="call trial.save as it trains, then plan a new run")
        if loaded is not None and loaded.state.get("rung", 0) != self._spec.rung and not self.testing:
            # Steps of another batch size are other samples: it begins anew.
            loaded = None
        self._channel.send(
            "restored",
            step=loaded.step if loaded else 0,
            skipped=list(self._slots.skipped),
            differs=checkpoint.differences(loaded) if loaded else [],
        )
        if loaded is None:
            return 0
        self._put_back(objects, loaded)
        return loaded.step

    def _put_back(self, objects: Mapping[str, Any], loaded: checkpoint.Loaded) -> None:
        state = loaded.state
        checkpoint.settings.restore(state.get("settings", {}))
        saved = state["objects"]
        if self.testing:
            # What tests needs the model, not what trained it.
            saved = {name: value for name, value in saved.items() if name in objects}
        self.restored = checkpoint.put_back(objects, saved)
        self._progress.used.update(state["read"])
        self.history = [(step, dict(metrics)) for step, metrics in loaded.history]
        self._progress.before = len(self.history)
        # What a worker was told last before it died may be in no journal; told twice is told once.
        for step, metrics in self.history[-_TOLD_AGAIN:]:
            self._channel.send("report", step=step, metrics=metrics)
        if state.get("samples") and not self.testing:
            self._send_samples(state["samples"])
        checkpoint.restore(state["rng"])
        self._saves.step = loaded.step
        self._hear_again()

    def _hear_again(self) -> None:
        """Hear what was decided at the last rung before the restored state: to wait there, for one."""
        rung_of = self._spec.schedule.rung
        judged = [(rung_of(step), -step, told) for step, told in self.history if self._spec.metric in told]
        rung, step, metrics = max(judged, key=lambda one: one[:2], default=(-1, 0, {}))
        if rung < 0:
            return
        self._channel.send("report", step=-step, metrics=metrics, rung=rung)
        self._obey(rung)
        if self.paused:
            self._stop()

    def save(self, step: int, /, **objects: Any) -> None:
        """Save the state as of *step* where a save is due: by time, or because the trial has to stop.

        A search with ``save_in_background: true`` writes what is due by time beside the training, of a copy.
        One that keeps checkpoints keeps the state of the last call: each call then costs a copy of it.

        Raises:
            Stopped: The worker has to stop, or the trial is paused at a rung; the state is saved.
            UsageError: This is `hpc-search test`.
        """
        if self.testing:
            raise UsageError(
                "trial.save: `hpc-search test` looks at what was trained, and changes nothing of it"
            )
        step = checkpoint.step_of("trial.save", step)
        self._progress.saved = True
        stop = self._channel.stop_requested() or ("paused" if self.paused else "")
        self._saves.save_if_due(step, stop, lambda: self._content(objects))
        if stop:
            self._stop()

    def finish(self) -> None:
        """Save the state of the last `save` where the search keeps it (called after the function returns)."""
        self._saves.finish()

    def settle(self) -> None:
        """Wait for a save in the background (called however the function ended)."""
        with suppress(Stopped):
            self._saves.settle()

    def _content(self, objects: Mapping[str, Any]) -> tuple[dict[str, Any], object]:
        state = checkpoint.of_trial(
            objects,
            read=self.params.read | self._progress.used,
            samples=self._progress.samples,
            rung=self._spec.rung,
        )
        return state, [[at, metrics] for at, metrics in self.history]

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
        names = [item.item() if hasattr(item, "item") else item for item in ids]
        if not all(isinstance(name, str | int) for name in names):
            raise UsageError("report_samples: an id is neither a text nor a whole number")
        self._send_samples({"ids": names, "scores": values})

    def _send_samples(self, samples: dict[str, Any]) -> None:
        self._progress.samples = samples
        self._channel.send("samples", **samples)

    def alive(self) -> None:
        """Say that the trial makes progress where it neither reports nor saves for long.

        Raises:
            Stopped: The worker has to stop and the trial never saved.
        """
        self._channel.send("alive")
        if self._channel.stop_requested() and not self._progress.saved:
            self._stop()

    def _stop(self) -> NoReturn:
        self._progress.told = Stopped
        self._channel.send("stopping")
        raise Stopped

    def used(self, *names: str) -> None:
        """Say that the hyperparameters *names* are used where they are not read by name.

        A group stands for all that it has; one that this point does not have may be named too.
        """
        meant = {name: self.params.meant(name) for name in names}
        if unknown := [name for name, found in meant.items() if not found]:
            raise UsageError(f"trial.used: no hyperparameter {', '.join(map(repr, unknown))}")
        self._progress.used.update(name for found in meant.values() for name in found)

    @property
    def unread(self) -> list[str]:
        """Names that the search varies and the trial never read."""
        return unread(self._spec.sampled, self.params.read | self._progress.used, self._spec.implied)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"trial.report: {name} is {value!r}, not a number") from None
