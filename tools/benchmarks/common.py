"""What all benches share: the machine, medians, the asked figure beside the found one, whole commands."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which *share* of *values* lie (nearest rank); 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def spread(values: Sequence[float], unit: str = "") -> str:
    """Return "median (min-max, n=5)"; seconds below 0.1 are shown in milliseconds."""
    if not values:
        return "no value"
    scale, unit = (1e3, "ms") if unit == "s" and max(values) < 0.1 else (1.0, unit)
    low, middle, high = (scale * value for value in (min(values), statistics.median(values), max(values)))
    text = f"{number(middle)} ({number(low)}-{number(high)}, n={len(values)})"
    return f"{text} {unit}".rstrip()


def number(value: float) -> str:
    """Return *value* with three significant digits, thousands grouped."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(slots=True)
class Report:
    """Prints lines as they come and remembers which figures were missed."""

    missed: list[str] = field(default_factory=list)

    def say(self, text: str = "") -> None:
        """Print one line now."""
        print(text, flush=True)

    def figure(self, what: str, found: float, asked: float, unit: str, *, at_least: bool) -> None:
        """Print the measured figure beside the asked one, with PASS or FAIL."""
        good = found >= asked if at_least else found < asked
        sign = ">=" if at_least else "<"
        verdict = "PASS" if good else "FAIL"
        self.say(f"  {verdict}  {what}: {number(found)} {unit} (asked: {sign} {number(asked)} {unit})")
        if not good:
            self.missed.append(what)


def machine() -> str:
    """Return one line about this machine: it decides about every figure."""
    model = "unknown CPU"
    memory = 0.0
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal"):
            memory = int(line.split()[1]) / 2**20
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    python = platform.python_version()
    return (
        f"{cores} cores ({model}), {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {python}, load {load:.1f} at the start"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def file_system(path: Path) -> str:
    """Return type and mount point of the file system that holds *path*."""
    best = ("", "unknown")
    real = str(path.resolve())
    for line in _lines("/proc/self/mounts"):
        _, mount, kind, *_ = line.split()
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best[0]):
            best = (mount, kind)
    return f"{best[1]} at {best[0] or '?'}"


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what every bench takes."""
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help="where runs are made (BENCH_DIR; default: the temporary directory)",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a figure is missed")


@contextmanager
def workplace(given: argparse.Namespace, report: Report) -> Iterator[Path]:
    """Give an empty directory on the file system to measure, removed afterwards; print where that is."""
    parent = given.dir or (Path(os.environ["BENCH_DIR"]) if os.environ.get("BENCH_DIR") else None)
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="hpc-search-bench-", dir=parent))
    report.say(f"machine: {machine()}")
    report.say(f"runs in {place.parent}: {file_system(place)}")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def hpc(*arguments: str | Path) -> list[str]:
    """Return the argv of one command of ours."""
    return [sys.executable, "-m", "hpc_search", *map(str, arguments)]


def timed(argv: Sequence[str], expect: int = 0) -> float:
    """Run one whole command and return its seconds, interpreter start included.

    Raises:
        RuntimeError: It ended with another code than *expect*; what it printed is in the message.
    """
    started = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    seconds = time.perf_counter() - started
    if done.returncode != expect:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds


def numbers(text: str) -> list[int]:
    """Return the whole numbers of "1,8,32"."""
    return [int(part.replace("_", "")) for part in text.split(",") if part]


def script(code: str, *arguments: Any) -> list[str]:
    """Return the argv of a fresh interpreter that runs *code*: how peers are measured as whole commands."""
    return [sys.executable, "-c", code, *map(str, arguments)]
