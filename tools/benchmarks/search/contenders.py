"""Our strategies and Optuna's own study, each proposing one point after the other."""

from __future__ import annotations

import heapq
import math
import random
import time
from typing import Any, Final, NamedTuple, Protocol

from hpc_search.records.search import StrategySpec
from hpc_search.strategies import make
from hpc_search.strategies.base import Adaptive
from hpc_search.strategies.history import History, Observation
from hpc_search.strategies.options import KNOWN
from hpc_search.strategies.random import Random
from tools.benchmarks.search.functions import Params, Problem

#: What evolution is compared with: NSGA-II of the same population.
_POPULATION: Final = 20


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

    def add(self, params: Params, value: float) -> None:
        """Take a point that is done."""
        self._seen.append(Observation(len(self._seen), params, "done", (value,)))

    def tell(self, number: int, value: float) -> None:
        self._seen[number] = self._seen[number]._replace(fate="done", values=(value,))


class Optunas:
    """Optuna's study with the same options, by default in memory.

    What it would draw at random before its model has enough to go by are the random points of *start*, where
    that is given: both begin alike, so that pairs of the same seed compare the models.
    """

    def __init__(
        self, kind: str, problem: Problem, seed: int, storage: Any = None, start: Random | None = None
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(sampler=sampler(kind, seed), storage=storage)
        self._suggest = problem.suggest
        self._space = problem.space
        self._start = start
        self._asked_first = kind == "cmaes"
        self._needed = _POPULATION if kind == "evolution" else KNOWN[kind]["startup"].default
        self._ended = 0
        self._trials: list[Any] = []

    def ask(self) -> Params:
        known = len(self._trials) if self._asked_first else self._ended
        if self._start is not None and known < self._needed:
            self._study.enqueue_trial(self._start.point(self._space, len(self._trials)))
        trial = self._study.ask()
        self._trials.append(trial)
        return self._suggest(trial)

    def add(self, params: Params, value: float) -> None:
        """Take a point that is done."""
        from optuna.trial import FixedTrial, create_trial

        given = FixedTrial(params)
        self._suggest(given)
        done = create_trial(params=given.params, distributions=given.distributions, value=value)
        self._study.add_trial(done)

    def tell(self, number: int, value: float) -> None:
        self._ended += 1
        self._study.tell(self._trials[number], value)


def sampler(kind: str, seed: int, **more: Any) -> Any:
    """Return Optuna's sampler that is like our strategy *kind*; *more* are options of it."""
    from optuna import samplers

    match kind:
        case "tpe":
            return samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True, **more)
        case "cmaes":
            return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False, **more)
        case "gp":
            return samplers.GPSampler(seed=seed, warn_independent_sampling=False, **more)
    return samplers.NSGAIISampler(seed=seed, population_size=_POPULATION, **more)


class Found(NamedTuple):
    """How a search ended: its least value, and the seconds that were spent asking."""

    value: float
    seconds: float


def simulate(contender: Contender, problem: Problem, workers: int, points: int, seed: int) -> Found:
    """Return what *workers* find that share *points*.

    Each holds one point for a time that its number decides, so that all contenders see the same order of
    ends. A function is evaluated when its point ends.
    """
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
    return Found(min([best, *(problem.value(params) for _, _, params in busy)]), seconds)
