"""`bench plan`: the whole command for 54,675 and 10^6 points and 1,000 of 10^18, beside plain lists."""

from __future__ import annotations

import argparse
import shutil
import statistics
from pathlib import Path
from typing import Final, NamedTuple

from tools.benchmarks import common, synthetic
from tools.benchmarks.common import Report

_ITERTOOLS: Final = """
import itertools, json, sys
space = json.loads(sys.argv[1])
points = [dict(zip(space, values)) for values in itertools.product(*space.values())]
with open(sys.argv[2], "w") as file:
    json.dump(points, file)
"""
_SKLEARN: Final = """
import json, sys
from sklearn.model_selection import ParameterGrid
points = list(ParameterGrid(json.loads(sys.argv[1])))
with open(sys.argv[2], "w") as file:
    json.dump(points, file)
"""
_SAMPLER: Final = """
import json, sys
from sklearn.model_selection import ParameterSampler
points = list(ParameterSampler(json.loads(sys.argv[1]), 1000, random_state=0))
with open(sys.argv[2], "w") as file:
    json.dump(points, file)
"""
_FIGURE: Final = 0.6


class Case(NamedTuple):
    """A search to plan, and the programs that list the same points."""

    name: str
    space: dict[str, list[float]]
    strategy: str
    peers: dict[str, str]


def _decimal(dimensions: int) -> dict[str, list[float]]:
    return {f"p{number:02d}": [value / 10 for value in range(10)] for number in range(dimensions)}


def _dna() -> dict[str, list[float]]:
    lines = [line.split(":") for line in synthetic.DNA_SPACE.splitlines()]
    return {name.strip(): [float(part) for part in text.strip(" []").split(",")] for name, text in lines}


def _cases() -> list[Case]:
    grids = {"itertools + json": _ITERTOOLS, "scikit-learn ParameterGrid + json": _SKLEARN}
    sampler = {"scikit-learn ParameterSampler + json": _SAMPLER}
    return [
        Case("grid of 54,675 points", _dna(), "grid", grids),
        Case("grid of 1,000,000 points", _decimal(6), "grid", grids),
        Case("random 1,000 of 10^18", _decimal(18), "{random: {points: 1000, seed: 0}}", sampler),
    ]


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-rounds", type=int, default=2)
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)


def run(given: argparse.Namespace, report: Report) -> None:
    """Measure and print."""
    with common.workplace(given, report) as place:
        for case in _cases():
            _case(case, place, given, report)


def _case(case: Case, place: Path, given: argparse.Namespace, report: Report) -> None:
    space = "".join(f"  {name}: {values}\n" for name, values in case.space.items())
    path = synthetic.write_search(place, synthetic.search_text(space, case.strategy))
    ours: list[float] = []
    peers: dict[str, list[float]] = {name: [] for name in case.peers}
    for number in range(given.rounds):
        ours.append(common.timed(common.hpc("plan", path, "--run", place / "run")))
        shutil.rmtree(place / "run")
        for name, code in case.peers.items() if given.peers and number < given.peer_rounds else ():
            peers[name].append(_peer(code, case, place))
    report.say(f"plan, whole command, {case.name}")
    report.say(f"  hpc_search {common.spread(ours, 's')}")
    for name, found in peers.items():
        if found:
            ratio = statistics.median(found) / statistics.median(ours)
            report.say(f"  {name} {common.spread(found, 's')}: {common.number(ratio)} x ours")
    report.figure(f"plan of {case.name}", statistics.median(ours), _FIGURE, "s", at_least=False)


def _peer(code: str, case: Case, place: Path) -> float:
    import json

    return common.timed(common.script(code, json.dumps(case.space), place / "points.json"))
