"""Model-based strategies behind our histories beside Optuna's own ask and tell: what they find, and when.

Workers are simulated: each holds one point for a time that its number decides, so that all contenders
see the same order of ends. A function is evaluated when its point ends.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final, NamedTuple, Protocol

from hpc_search.records.plan import StrategySpec
from hpc_search.space import Choice, Int, LogUniform, Space, Uniform
from hpc_search.strategies import make
from hpc_search.strategies.base import Adaptive
from hpc_search.strategies.history import History, Observation
from tools.benchmarks.common import Report, machine, numbers, quantile

Params = dict[str, Any]


class Problem(NamedTuple):
    """A function to make small over a space; ``suggest`` is the same space in Optuna's words."""

    space: Space
    value: Callable[[Params], float]
    suggest: Callable[[Any], Params]
    least: float


class Contender(Protocol):
    """What proposes: ours or Optuna."""

    def ask(self) -> Params:
        """Return the next point."""
        ...

    def tell(self, number: int, value: float) -> None:
        """Take the result of point *number*."""
        ...


class Ours:
    """Our strategy: every proposal from the history of what was asked and told."""

    def __init__(self, kind: str, problem: Problem, points: int, seed: int) -> None:
        self._model = make(StrategySpec(kind, {"points": points, "seed": seed}))
        self._space = problem.space
        self._seen: list[Observation] = []

    def ask(self) -> Params:
        assert isinstance(self._model, Adaptive)
        params = self._model.propose(self._space, History(tuple(self._seen)), len(self._seen), ("min",))
        self._seen.append(Observation(len(self._seen), params, "running"))
        return params

    def tell(self, number: int, value: float) -> None:
        self._seen[number] = self._seen[number]._replace(fate="done", values=(value,))


class Optunas:
    """Optuna's study, in memory, with the same options."""

    def __init__(self, kind: str, problem: Problem, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        samplers = optuna.samplers
        sampler = {
            "tpe": lambda: samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True),
            "cmaes": lambda: samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
            "gp": lambda: samplers.GPSampler(seed=seed, warn_independent_sampling=False),
            "evolution": lambda: samplers.NSGAIISampler(seed=seed, population_size=20),
        }[kind]()
        self._study = optuna.create_study(sampler=sampler)
        self._suggest = problem.suggest
        self._trials: list[Any] = []

    def ask(self) -> Params:
        trial = self._study.ask()
        self._trials.append(trial)
        return self._suggest(trial)

    def tell(self, number: int, value: float) -> None:
        self._study.tell(self._trials[number], value)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kinds", default="tpe,cmaes,gp,evolution", metavar="A,B")
    parser.add_argument("--functions", default=",".join(PROBLEMS), metavar="A,B")
    parser.add_argument("--workers", type=numbers, default=[1, 8], metavar="1,8", help="simulated")
    parser.add_argument("--points", type=int, default=100, help="of each search")
    parser.add_argument("--repeats", type=int, default=11, help="seeds")
    parser.add_argument("--long", type=int, default=1000, help="points after which a proposal is timed")


def run(given: argparse.Namespace, report: Report) -> None:
    import warnings

    warnings.filterwarnings("ignore", module="optuna")
    report.say(f"machine: {machine()}")
    report.say(f"{given.points} points, {given.repeats} seeds: regret at the end, median (quartiles)")
    for kind in given.kinds.split(","):
        for name in given.functions.split(","):
            for workers in given.workers:
                _compare(report, kind, name, workers, given)
    for kind in given.kinds.split(","):
        if kind != "gp":
            _time(report, kind, given.long)


def _compare(report: Report, kind: str, name: str, workers: int, given: argparse.Namespace) -> None:
    problem = PROBLEMS[name]
    found: dict[str, list[float]] = {"ours": [], "optuna": []}
    spent = {"ours": 0.0, "optuna": 0.0}
    for seed in range(given.repeats):
        contenders = {
            "ours": Ours(kind, problem, given.points, seed),
            "optuna": Optunas(kind, problem, seed),
        }
        for who, contender in contenders.items():
            best, seconds = simulate(contender, problem, workers, given.points, seed)
            found[who].append(best - problem.least)
            spent[who] += seconds
    asks = given.points * given.repeats
    texts = [
        f"{who} {_quartiles(values)} in {1000 * spent[who] / asks:.1f} ms" for who, values in found.items()
    ]
    report.say(f"  {kind:9s} {name:10s} W={workers:<3d} {'   '.join(texts)}   {_verdict(found)}")


def simulate(
    contender: Contender, problem: Problem, workers: int, points: int, seed: int
) -> tuple[float, float]:
    """Return (least value found, seconds spent asking) of *workers* that share *points*."""
    durations = random.Random(f"{seed}")
    busy: list[tuple[float, int, Params]] = []
    best, seconds, clock = math.inf, 0.0, 0.0
    for number in range(points):
        if len(busy) == workers:
            clock, ended, params = heapq.heappop(busy)
            value = problem.value(params)
            best = min(best, value)
            contender.tell(ended, value)
        started = time.perf_counter()
        params = contender.ask()
        seconds += time.perf_counter() - started
        heapq.heappush(busy, (clock + durations.lognormvariate(0.0, 0.5), number, params))
    return min([best, *(problem.value(params) for _, _, params in busy)]), seconds


def _quartiles(values: list[float]) -> str:
    low, high = quantile(values, 0.25), quantile(values, 0.75)
    return f"{statistics.median(values):.3g} ({low:.2g}-{high:.2g})"


def _verdict(found: dict[str, list[float]]) -> str:
    """Return the one-sided paired Wilcoxon test of "ours is worse"."""
    from scipy.stats import wilcoxon

    pairs = list(zip(found["ours"], found["optuna"], strict=True))
    if all(ours == peer for ours, peer in pairs):
        return "equal"
    p = float(wilcoxon(found["ours"], found["optuna"], alternative="greater").pvalue)
    return f"p(ours worse) {p:.3f}" + ("  WORSE" if p < 0.05 else "")


def _time(report: Report, kind: str, points: int) -> None:
    """Print the time of a proposal after so many *points*, beside Optuna's ask and suggest."""
    problem = PROBLEMS["training"]
    ours, peer = Ours(kind, problem, 2 * points, 0), Optunas(kind, problem, 0)
    for contender in (ours, peer):
        simulate(contender, problem, 1, points, 0)
    middles = []
    for contender in (ours, peer):
        seconds = []
        for _ in range(9):
            started = time.perf_counter()
            contender.ask()
            seconds.append(time.perf_counter() - started)
        middles.append(1000 * statistics.median(seconds))
    report.figure(f"{kind}: a proposal after {points:,} points", middles[0], 100, "ms", at_least=False)
    report.say(f"        optuna {middles[1]:.1f} ms, ratio {middles[0] / middles[1]:.2f}")


def _branin(params: Params) -> float:
    x, y = params["x"], params["y"]
    curve = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return float(curve**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


def _rosenbrock(params: Params) -> float:
    x = [params[f"x{place}"] for place in range(4)]
    return sum(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in pairwise(x))


def _training(params: Params) -> float:
    """Return a loss as of a network: a best learning rate that depends on optimizer and depth."""
    rate = math.log10(params["rate"]) + (3.0 if params["optimizer"] == "adamw" else 1.5)
    depth = params["layers"] - 5
    decay = math.log10(params["decay"]) + 4
    worse = {"adamw": 0.0, "sgd": 0.15, "lion": 0.3}[params["optimizer"]]
    return (
        (rate + 0.1 * depth) ** 2 + 0.05 * depth**2 + 0.1 * decay**2 + (params["dropout"] - 0.2) ** 2 + worse
    )


PROBLEMS: Final[dict[str, Problem]] = {
    "branin": Problem(
        Space(dimensions={"x": Uniform(-5, 10), "y": Uniform(0, 15)}),
        _branin,
        lambda trial: {"x": trial.suggest_float("x", -5, 10), "y": trial.suggest_float("y", 0, 15)},
        0.397887,
    ),
    "rosenbrock": Problem(
        Space(dimensions={f"x{place}": Uniform(-3, 3) for place in range(4)}),
        _rosenbrock,
        lambda trial: {f"x{place}": trial.suggest_float(f"x{place}", -3, 3) for place in range(4)},
        0.0,
    ),
    "training": Problem(
        Space(
            dimensions={
                "rate": LogUniform(1e-5, 1),
                "layers": Int(1, 12),
                "optimizer": Choice(("adamw", "sgd", "lion")),
                "decay": LogUniform(1e-6, 1e-2),
                "dropout": Uniform(0, 0.5),
            }
        ),
        _training,
        lambda trial: {
            "rate": trial.suggest_float("rate", 1e-5, 1, log=True),
            "layers": trial.suggest_int("layers", 1, 12),
            "optimizer": trial.suggest_categorical("optimizer", ["adamw", "sgd", "lion"]),
            "decay": trial.suggest_float("decay", 1e-6, 1e-2, log=True),
            "dropout": trial.suggest_float("dropout", 0, 0.5),
        },
        0.0,
    ),
}
