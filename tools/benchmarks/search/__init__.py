"""`bench search`: what strategies and early stopping find and cost, beside Optuna in the same run."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tools.benchmarks import common
from tools.benchmarks.common import Report
from tools.benchmarks.search import functions, proposals, regrets, reporting, same, stopping

_Measure = Callable[[argparse.Namespace, Report, Path], None]
_PARTS: Final[dict[str, _Measure]] = {
    "same": same.measure,
    "stopping": lambda given, report, _: stopping.measure(given, report),
    "proposals": proposals.measure,
    "reporting": reporting.measure,
    "regrets": lambda given, report, _: regrets.measure(given, report),
}
_KINDS: Final = ("tpe", "cmaes", "gp", "evolution")
#: What takes the place of the defaults with --quick.
_QUICK: Final = {"repeats": 5, "points": 60, "few": 32, "trials": 120}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--parts", type=_names, default=list(_PARTS), metavar=",".join(_PARTS))
    parser.add_argument("--kinds", type=_names, default=list(_KINDS), metavar=",".join(_KINDS))
    parser.add_argument(
        "--functions", type=_names, default=list(functions.PROBLEMS), metavar=",".join(functions.PROBLEMS)
    )
    parser.add_argument("--workers", type=common.numbers, default=[16], metavar="1,16", help="simulated")
    parser.add_argument("--repeats", type=int, default=24, help="seeds")
    parser.add_argument("--points", type=int, default=120, help="of each search")
    parser.add_argument("--few", type=int, default=40, help="of each search by a Gaussian process")
    parser.add_argument("--trials", type=int, default=1200, help="of `reporting`, and before `proposals`")
    parser.add_argument("--rounds", type=int, default=1, help="of `reporting`")
    parser.add_argument("--processes", type=int, default=2, help="that share `regrets`")
    parser.add_argument("--curves", type=Path, metavar="DIR", help="where the table of curves is kept")
    parser.add_argument("--quick", action="store_true", help=f"minutes: {_QUICK}")


def run(given: argparse.Namespace, report: Report) -> None:
    """Measure and print, part by part."""
    if given.quick:
        vars(given).update(_QUICK)
    unknown = set(given.parts) - set(_PARTS)
    if unknown:
        raise RuntimeError(f"there is no part {', '.join(sorted(unknown))}; parts: {', '.join(_PARTS)}")
    warnings.filterwarnings("ignore", module="optuna")
    regrets.alone(torch="gp" in given.kinds)
    with common.workplace(given, report) as place:
        for part in given.parts:
            started = time.perf_counter()
            report.say(f"-- {part}")
            _PARTS[part](given, report, place / part)
            report.say(f"   ({part}: {time.perf_counter() - started:.0f} s)")


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
