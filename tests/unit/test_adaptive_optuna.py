"""Behind our history stand Optuna's own methods: the same seeds give the same points, to the last bit."""

from __future__ import annotations

import heapq
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hpc_search.space import Choice, Int, LogInt, LogUniform, Space, Uniform
from hpc_search.strategies.adaptive import sub_seed
from hpc_search.strategies.history import History, Observation
from tests.adaptive_spaces import Params, spread, strategy

optuna = pytest.importorskip("optuna")
Params_of = Callable[[Any], Params]

#: Mixed, without conditions: what Optuna's samplers can all do, but for cmaes' categories.
NUMBERS = Space(
    dimensions={
        "rate": LogUniform(1e-5, 1.0),
        "x": Uniform(-5.0, 10.0),
        "layers": Int(1, 12, 1),
        "tokens": LogInt(1, 1000),
    }
)
MIXED = Space(dimensions={**NUMBERS.dimensions, "kind": Choice((0, 1, 2))})
#: A search over many integers takes a Gaussian process seconds.
SMALL = Space(dimensions={"rate": LogUniform(1e-5, 1.0), "kind": Choice((0, 1, 2))})


def suggested(trial: Any, space: Space) -> Params:
    found: Params = {}
    for name, dimension in space.dimensions.items():
        match dimension:
            case LogUniform(low=low, high=high):
                found[name] = trial.suggest_float(name, low, high, log=True)
            case Uniform(low=low, high=high):
                found[name] = trial.suggest_float(name, low, high)
            case Int(low=low, high=high):
                found[name] = trial.suggest_int(name, low, high)
            case LogInt(low=low, high=high):
                found[name] = trial.suggest_int(name, low, high, log=True)
            case Choice(values=values):
                found[name] = trial.suggest_categorical(name, list(values))
    return found


class Peer:
    """Optuna's study through its public door; before each question its sampler gets our seed."""

    def __init__(self, space: Space, sampler: Callable[[int], Any], directions: list[str]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._sampler = sampler
        self._study = optuna.create_study(directions=directions)
        self._trials: list[Any] = []

    def take(self, params: Params) -> None:
        """Run a point that is given."""
        self._study.enqueue_trial(params)
        self.ask(0)

    def ask(self, seed: int) -> Params:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study.sampler = self._sampler(seed)
            trial = self._study.ask()
            self._trials.append(trial)
            return suggested(trial, self._space)

    def tell(self, number: int, values: list[float]) -> None:
        self._study.tell(self._trials[number], values)


def compared(
    kind: str, peer: Peer, space: Space, points: int, workers: int, directions: list[str], **options: int
) -> Iterator[tuple[int, Params, Params]]:
    """Yield (number, ours, Optuna's) of every point that a model proposes."""
    ours = strategy(kind, points, 5, **options)
    goals = tuple("max" if one == "maximize" else "min" for one in directions)
    seen: list[Observation] = []
    clock, durations = 0.0, random.Random(2)
    busy: list[tuple[float, int]] = []
    for index in range(points):
        if len(busy) == workers:
            clock, ended = heapq.heappop(busy)
            values = [spread(seen[ended].params) * (1 - 2 * place) for place in range(len(goals))]
            seen[ended] = seen[ended]._replace(fate="done", values=tuple(values))
            peer.tell(ended, values)
        params = ours.propose(space, History(tuple(seen)), index, goals)
        done = sum(one.fate == "done" for one in seen)
        if index < options["startup"] or (kind != "cmaes" and done < options["startup"]):
            peer.take(params)
        else:
            yield index, params, peer.ask(sub_seed(5, index, 0))
        seen.append(Observation(index, params, "running"))
        heapq.heappush(busy, (clock + durations.lognormvariate(0.0, 0.5), index))


def equal(found: Iterator[tuple[int, Params, Params]]) -> int:
    count = 0
    for index, ours, theirs in found:
        assert ours == theirs, index
        count += 1
    return count


@pytest.mark.parametrize("workers", [1, 6])
def test_tpe_is_optunas_with_one_worker_and_with_several(workers: int) -> None:
    peer = Peer(MIXED, _tpe, ["minimize"])
    assert equal(compared("tpe", peer, MIXED, 60, workers, ["minimize"], startup=8)) >= 60 - 8 - workers


def test_tpe_of_several_goals_is_optunas() -> None:
    directions = ["minimize", "maximize"]
    peer = Peer(MIXED, _tpe, directions)
    assert equal(compared("tpe", peer, MIXED, 40, 1, directions, startup=8)) == 32


def _tpe(seed: int) -> Any:
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=1, multivariate=True, group=True, constant_liar=True
    )


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_cmaes_is_optunas_with_one_worker(goal: str) -> None:
    """Optuna adds the number of the trial to 16 bits from its generator; it gets our 32 bits there."""
    sampler = optuna.samplers.CmaEsSampler(n_startup_trials=1, warn_independent_sampling=False)

    class Drawn:
        """What Optuna asks for a seed."""

        seed = number = 0

        @property
        def rng(self) -> Drawn:
            return self

        def randint(self, low: int, _: int) -> int:
            return low if low == 0 else self.seed - self.number

    sampler._cma_rng = drawn = Drawn()

    def seeded(seed: int) -> Any:
        drawn.seed, drawn.number = seed, len(peer._trials)
        return sampler

    peer = Peer(NUMBERS, seeded, [goal])
    assert equal(compared("cmaes", peer, NUMBERS, 80, 1, [goal], startup=1)) == 79


@pytest.mark.torch
@pytest.mark.parametrize("workers", [1, 2])
def test_gp_is_optunas(workers: int) -> None:
    pytest.importorskip("torch")

    def gp(seed: int) -> Any:
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=1)

    peer = Peer(SMALL, gp, ["minimize"])
    assert equal(compared("gp", peer, SMALL, 5 + workers, workers, ["minimize"], startup=4)) == 2
