"""What runs in a trial's process: seeds, the user's function, the result, the end."""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import random
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Final

from hpc_search.checkpoint import Superseded
from hpc_search.runners import processes
from hpc_search.runners.messages import GONE, SUPERSEDED, SocketChannel
from hpc_search.slices import limits
from hpc_search.trial import NonFiniteError, Pruned, Spec, Stopped, Trial, trial_seed

#: Characters of a traceback kept in the end record; the log has all of it.
_DETAIL: Final = 4000
_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run(spec: Spec, sock: socket.socket, log: int) -> None:
    """Run the trial of *spec*, tell the supervisor its end over *sock*, and leave the process."""
    channel = SocketChannel(sock)
    status = 0
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        processes.trial_signals()
        processes.prefer_as_oom_victim()
        _prepare(spec)
        function = load(spec.callable, spec.code)
        end = outcome(replace(spec, device=usable_device(spec.device)), channel, function)
        # Raises in a process that the user's function forked and that came back from it, too.
        channel.send("end", **end)
    except BaseException:  # noqa: BLE001 - the border around the user's code: nothing may pass it silently
        traceback.print_exc()
        status = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(BaseException):
                stream.flush()
        os._exit(status)


def _prepare(spec: Spec) -> None:
    if spec.directory and os.path.isdir(spec.directory):
        os.chdir(spec.directory)
    processes.set_threads(spec.threads)
    seed = trial_seed(spec.search_id, spec.number, spec.seed)
    seed_generators(seed)
    limits.hold_torch(usable_device(spec.device))
    sys.meta_path.insert(0, SeedAtImport(seed, spec.device))


def usable_device(device: str) -> str:
    """Return *device*, or "cpu" where it is "cuda" and this torch cannot use it."""
    torch: Any = sys.modules.get("torch")
    return "cpu" if device == "cuda" and torch is not None and not torch.cuda.is_available() else device


def seed_generators(seed: int, only: str = "") -> None:
    """Seed Python's, NumPy's and torch's global generators, of those that are loaded; or *only* one's."""
    if not only:
        random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None and only in ("", "numpy"):
        numpy.random.seed(seed % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None and only in ("", "torch"):
        torch.manual_seed(seed % 2**63)


class SeedAtImport:
    """Seeds the generators of a library that is first imported in the trial."""

    _LIBRARIES: Final = ("numpy", "torch")

    def __init__(self, seed: int, device: str) -> None:
        """Seed with *seed*; hold torch to its share of *device*."""
        self._seed = seed
        self._device = device
        self._left = [name for name in self._LIBRARIES if name not in sys.modules]

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the spec that the other finders give, seeding after the module was executed."""
        del path, target
        if name not in self._left:
            return None
        self._left.remove(name)
        spec = importlib.util.find_spec(name)
        loader: Any = spec.loader if spec is not None else None
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                del loader.exec_module
                execute(module)
                seed_generators(self._seed, only=name)
                if name == "torch":
                    limits.hold_torch(usable_device(self._device))

            loader.exec_module = exec_module
        return spec


class KeptFirst:
    """Finds what is in kept sources before the finders that editable installations put first."""

    def __init__(self, roots: Sequence[str]) -> None:
        """Find what is in the directories *roots*; what has parts elsewhere, too, is left to the others."""
        self._roots = list(roots)
        self._heads: set[str] = set()
        for root in self._roots:
            with suppress(OSError):
                self._heads.update(filter(None, map(_whole_module, os.scandir(root))))

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of *name* in the kept sources, None where it is not there."""
        if name.partition(".")[0] not in self._heads:
            return None
        return PathFinder.find_spec(name, self._roots if path is None else path, target)


def _whole_module(entry: os.DirEntry[str]) -> str:
    """Return the name of the module or package that *entry* is, "" for none and for a namespace."""
    if entry.is_dir():
        return entry.name if os.path.exists(os.path.join(entry.path, "__init__.py")) else ""
    return entry.name.partition(".")[0] if entry.name.endswith((".py", ".so")) else ""


def keep_first(roots: Sequence[str]) -> None:
    """Import from the directories *roots* before anything else."""
    new = [root for root in roots if root not in sys.path]
    if new:
        sys.path[:0] = new
        sys.meta_path.insert(0, KeptFirst(roots))


def load(reference: str, roots: Sequence[str]) -> Callable[[Trial], object]:
    """Return the user's function, from the directories *roots* first."""
    keep_first(roots)
    source, _, name = reference.rpartition(":")
    if source.endswith(".py"):
        source = source.removesuffix(".py").removeprefix("./").replace("/", ".")
    function: Callable[[Trial], object] = getattr(importlib.import_module(source), name)
    return function


#: What is said of a trial whose loop had nothing left to do when it resumed.
_NO_STEP_LEFT: Final = (
    "it resumed after its last step, and had no step left that gives the value\n"
    "  next: save the metrics with the rest: metrics = {}, trial.restore(..., metrics=metrics), "
    "trial.save(..., metrics=metrics), return metrics"
)


def outcome(spec: Spec, channel: SocketChannel, function: Callable[[Trial], object]) -> dict[str, Any]:
    """Call *function* and return the content of the end message."""
    trial = Trial(spec, channel)
    try:
        try:
            returned = function(trial)
        finally:
            # Whatever a trial returns or raises that caught what it was told: its training is not whole.
            trial.obey()
        # Raises where nobody is left to take the result: then the last state is not saved either.
        channel.stop_requested()
        trial.finish()
        return _result(spec, trial, returned)
    except Superseded:
        return {"state": "pending", "cause": "preempted", "detail": SUPERSEDED}
    except Stopped:
        if trial.paused and channel.reason != GONE:
            return {"state": "paused", "detail": ""}
        return {"state": "pending", "cause": "preempted", "detail": channel.reason}
    except Pruned:
        return {"state": "pruned", "cause": "", "detail": "", "metrics": _last(trial)}
    except NonFiniteError as error:
        return _failure("nonfinite", str(error))
    except SystemExit as error:
        sys.stderr.write(trace(error))
        return _failure("error", f"the trial called sys.exit({error.code!r})")
    except BaseException as error:  # noqa: BLE001 - the border around the user's code
        sys.stderr.write(printable(trace(error)))
        cause = "oom" if is_out_of_memory(error) else "error"
        hint = _NO_STEP_LEFT if isinstance(error, UnboundLocalError) and trial.idle else ""
        return {**_failure(cause, trace(error) + hint), "accumulates": trial.accumulates}
    finally:
        trial.settle()


def trace(error: BaseException) -> str:
    """Return the traceback of *error* from the first frame of the user's code on."""
    first = error.__traceback__
    while first is not None and _not_users(first.tb_frame.f_code.co_filename):
        first = first.tb_next
    if first is None and not isinstance(error, ImportError | SyntaxError):
        first = error.__traceback__
    return "".join(traceback.format_exception(type(error), error, first))


def _not_users(file: str) -> bool:
    return file.startswith((f"{_PACKAGE}/runners/", "<frozen importlib")) or file == importlib.__file__


def _last(trial: Trial) -> dict[str, float]:
    return trial.history[-1][1] if trial.history else {}


def _failure(cause: str, detail: str) -> dict[str, Any]:
    return {"state": "failed", "cause": cause, "detail": printable(detail[-_DETAIL:])}


def printable(text: str) -> str:
    """Return *text* without what has no place in UTF-8: a message of any exception must arrive."""
    return text.encode(errors="backslashreplace").decode()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether *error* says that memory ran out, on the GPU or the host."""
    torch = sys.modules.get("torch")
    kinds: tuple[type[BaseException], ...] = (MemoryError,)
    if torch is not None:
        kinds = (MemoryError, torch.OutOfMemoryError)
    text = str(error)
    return isinstance(error, kinds) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )


def _result(spec: Spec, trial: Trial, returned: object) -> dict[str, Any]:
    objectives = (spec.metric, *spec.others)
    end = ended(returned, objectives, "the trial returned", needed=not spec.refit)
    if end["state"] == "done" and trial.unread:
        names = ", ".join(map(repr, trial.unread))
        detail = (
            f"the search varies {names}, but the trial never read it: every value gives the same result. "
            f"Read it as trial.params[...], or call trial.used({names}) where it is used otherwise."
        )
        return _failure("noop", detail)
    return {"cause": "", "detail": "", **end}


def ended(returned: object, objectives: Sequence[str], said: str, *, needed: bool = True) -> dict[str, Any]:
    """Return the end message of a trial that *returned* its metrics; *said* begins what is told of a bad one.

    All *objectives* must be there where they are *needed*, and finite; the first one selects. Of other
    metrics what is finite is kept.
    """
    metrics, problem = read_metrics(returned, *objectives, needed=needed)
    if problem:
        return _failure("error", problem)
    there = [name for name in objectives if name in metrics]
    wrong = [f"{name} = {metrics[name]}" for name in there if not math.isfinite(metrics[name])]
    if wrong:
        return _failure("nonfinite", f"{said} {' and '.join(wrong)}")
    finite = {name: number for name, number in metrics.items() if math.isfinite(number)}
    return {"state": "done", "metrics": finite, "value": metrics.get(objectives[0])}


def read_metrics(returned: object, *objectives: str, needed: bool = True) -> tuple[dict[str, float], str]:
    """Return the metrics that a trial returned, and what is wrong with them ("" where nothing is)."""
    if returned is None and not needed:
        return {}, ""
    wanted = f"metric{'s' if len(objectives) > 1 else ''} {' and '.join(map(repr, objectives))}"
    if len(objectives) == 1 and isinstance(returned, int | float) and not isinstance(returned, bool):
        returned = {objectives[0]: returned}
    if not isinstance(returned, Mapping):
        kind = "nothing" if returned is None else f"a {type(returned).__name__}"
        return {}, f"the trial returned {kind}; expected a dict with the {wanted}"
    metrics: dict[str, float] = {}
    for name, value in returned.items():
        number = _float(value)
        if number is None:
            return {}, f"the trial returned {name} = {printable(repr(value)[:200])}, which is not a number"
        metrics[printable(str(name))] = number
    missing = [name for name in objectives if name not in metrics]
    if missing and needed:
        names = ", ".join(map(repr, metrics)) or "no metric at all"
        what = f"metric{'s' if len(missing) > 1 else ''} {' and '.join(map(repr, missing))}"
        return {}, f"the trial did not return the {what}; it returned {names}"
    return metrics, ""


def _float(value: Any) -> float | None:
    if isinstance(value, str | bytes):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
