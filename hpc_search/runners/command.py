"""A trial that is a program: its argument list, its environment, the metrics it writes."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from hpc_search import durable
from hpc_search.errors import UsageError
from hpc_search.layout import Layout
from hpc_search.runners.child import ended as of_metrics
from hpc_search.runners.child import printable
from hpc_search.trial import MAX_STEP, Spec
from hpc_search.trial.split import joined_manifest, trained_sides

_PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
#: Placeholders that are not parameters.
RESERVED: Final = ("number", "fold", "seed", "attempt", "checkpoint_dir", "threads", "device", "accumulation")
#: In a program's checkpoint directory: the manifest of what it trains on where that is several sides.
_JOINED: Final = "hpc_search-train.csv"
#: A program's report file is read up to this size.
MAX_REPORT_BYTES: Final = 64 << 20


def placeholders(command: Sequence[str]) -> set[str]:
    """Return the names that the argument list uses."""
    return {match[1] for part in command for match in _PLACEHOLDER.finditer(part) if match[1] is not None}


def arguments(command: Sequence[str], spec: Spec, directory: Path) -> list[str]:
    """Return the argument list of a trial; a value stays inside its one argument, whatever it holds.

    Numbers are written so that Python reads them back exactly; lists and mappings as JSON; null as "".
    An argument with a parameter that this point does not have is left out, and so is the option before an
    argument that is only that: of ``--momentum {momentum}`` both.

    Raises:
        UsageError: A placeholder is neither a parameter nor reserved, or a value holds a NUL byte.
    """
    values: dict[str, Any] = {
        "number": spec.number,
        "fold": "" if spec.fold is None else spec.fold,
        "seed": spec.seed,
        "attempt": spec.attempt,
        "checkpoint_dir": str(directory),
        "threads": spec.threads,
        "device": spec.device,
        "accumulation": spec.accumulation,
        **spec.params,
    }

    def fill(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        if match[1] not in values:
            raise UsageError(f"command: no parameter {match[1]!r}", hint=f"there are: {', '.join(values)}")
        return text_of(values[match[1]])

    filled = [_PLACEHOLDER.sub(fill, part) for part in _present(command, spec)]
    if any("\0" in part for part in filled):
        raise UsageError("command: a value holds a NUL byte, which no program can be given")
    return filled


def _present(command: Sequence[str], spec: Spec) -> list[str]:
    """Return the arguments that need no parameter which the point does not have."""
    absent = spec.implied.keys() - spec.params.keys()
    kept: list[str] = []
    for part in command if absent else ():
        if absent.isdisjoint(placeholders([part])):
            kept.append(part)
        elif _PLACEHOLDER.fullmatch(part) and kept and kept[-1].startswith("-") and "=" not in kept[-1]:
            kept.pop()
    return kept if absent else list(command)


def text_of(value: object) -> str:
    """Return the text of a parameter on a command line."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, int | float) else json.dumps(value)


def environment(base: Mapping[str, str], spec: Spec, report: Path, directory: Path) -> dict[str, str]:
    """Return the program's environment: the trial as JSON and where to report.

    ``split`` has the manifests of the sides that it may see, by name: ``train`` and ``val``; ``train`` alone
    where it trains the chosen point again on more, all in one file; ``test`` alone in `hpc-search test`.

    Raises:
        DamagedError: A manifest is missing or differs from the one planned.
    """
    trial = {
        "split": _manifests(spec, directory),
        "refit": spec.refit,
        "testing": spec.testing,
        "number": spec.number,
        "point": spec.point,
        "fold": spec.fold,
        "seed": spec.seed,
        "attempt": spec.attempt,
        "params": spec.params,
        "metric": spec.metric,
        "objectives": [spec.metric, *spec.others],
        "checkpoint_dir": str(directory),
        "run": spec.root,
        "device": spec.device,
        "threads": spec.threads,
        "accumulation": spec.accumulation,
    }
    return {
        **base,
        "HPC_SEARCH_TRIAL": json.dumps(trial),
        "HPC_SEARCH_REPORT": str(report),
        "HPC_SEARCH_CHECKPOINT_DIR": str(directory),
    }


def _manifests(spec: Spec, directory: Path) -> dict[str, str]:
    """Return the manifests of the sides that a program may see, by name."""
    if spec.fold is None:
        return {}
    layout = Layout(Path(spec.root))
    if spec.testing:
        return {"test": str(layout.split_manifest(spec.fold, "test"))}
    if len(trained_sides(spec.refit)) == 1:
        return {side: str(layout.split_manifest(spec.fold, side)) for side in ("train", "val")}
    joined = directory / _JOINED
    durable.replace(joined, joined_manifest(layout, spec.fold, spec.refit).encode())
    return {"train": str(joined)}


def read_report(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Return the complete JSON lines of a report file, and what is wrong with it ("" for nothing)."""
    try:
        content = _content(path)
    except FileNotFoundError:
        return [], ""
    except ValueError as error:
        return [], f"the report {error}"
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(content.split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            return lines, f"line {number} of the report is not JSON: {text[:80]!r}"
        if not isinstance(line, dict):
            return lines, f"line {number} of the report is not a JSON object: {text[:80]!r}"
        lines.append(line)
    return lines, ""


def fresh_file(path: Path) -> None:
    """Make *path* an empty file of its own, whatever an earlier program left there."""
    remove(path)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def remove(path: Path) -> None:
    """Remove what is at *path*."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _content(path: Path) -> bytes:
    """Return the bytes of a file that a program wrote.

    Raises:
        ValueError: It is something else than a file, or too large.
        OSError: It cannot be read.
    """
    # A FIFO would wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path.name} is no longer a file")
        if found.st_size > MAX_REPORT_BYTES:
            raise ValueError(f"{path.name} is larger than {MAX_REPORT_BYTES >> 20} MiB")
        with os.fdopen(os.dup(fd), "rb") as file:
            return file.read()
    finally:
        os.close(fd)


def read_metric_file(path: Path) -> tuple[dict[str, Any], str]:
    """Return the JSON object that a program left at *path*, and what is wrong with it."""
    try:
        content = msgspec.json.decode(_content(path))
    except FileNotFoundError:
        place = "metric_file is in the trial's own directory: {checkpoint_dir}, HPC_SEARCH_CHECKPOINT_DIR"
        return {}, f"the program ended without writing {path} ({place})"
    except (OSError, ValueError, RecursionError) as error:
        return {}, f"{path} is not JSON: {error}"
    return (content, "") if isinstance(content, dict) else ({}, f"{path} is not a JSON object")


def final_metrics(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metrics of a program: of each name, the last value it reported."""
    metrics: dict[str, Any] = {}
    for line in lines:
        metrics.update((name, value) for name, value in line.items() if name != "step")
    return metrics


def reported(line: Mapping[str, Any]) -> tuple[int | None, dict[str, float]]:
    """Return the step of a report line (None where it has none that counts) and its finite metrics."""
    step = line.get("step")
    known = isinstance(step, int) and not isinstance(step, bool) and 0 <= step < MAX_STEP
    metrics = {printable(str(name)): _finite(value) for name, value in line.items() if name != "step"}
    return (step if known else None), {name: value for name, value in metrics.items() if value is not None}


def _finite(value: object) -> float | None:
    # A whole number of any length is JSON; not every one is a float.
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def result(metrics: Mapping[str, Any], problem: str, *objectives: str, needed: bool = True) -> dict[str, Any]:
    """Return the end message of a program that exited with 0 and left *metrics*, *needed* or not."""
    if problem:
        return {"state": "failed", "cause": "error", "detail": problem}
    return of_metrics(metrics, objectives, "the program reported", needed=needed)


def ended(
    report: Path, metric_file: Path | None, objectives: Sequence[str], *, needed: bool = True
) -> dict[str, Any]:
    """Return the end message of a program that exited with 0; its *objectives* are *needed*, or not."""
    lines, problem = read_report(report)
    metrics = final_metrics(lines)
    if metric_file is not None and (needed or metric_file.exists()):
        metrics, problem = read_metric_file(metric_file)
    return result(metrics, problem, *objectives, needed=needed)


def told(report: Path, decision: str) -> dict[str, Any]:
    """Return the end message of a program that was told to end: by its last values, paused or pruned."""
    _, metrics = reported(final_metrics(read_report(report)[0]))
    return {"state": "paused" if decision == "pause" else "pruned", "metrics": metrics}


def working_directory(spec: Spec) -> str | None:
    """Return where the program runs: the directory of the search file, where it exists."""
    return spec.directory if spec.directory and os.path.isdir(spec.directory) else None
