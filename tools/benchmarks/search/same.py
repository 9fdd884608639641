"""One worker through our ledger beside Optuna's own study: the same seeds, the same points, to the last bit.

Optuna's samplers draw from generators that go on from question to question. Before each question the study
gets a new sampler with our seed for that number; the one of CMA-ES, which keeps its distribution, is kept,
and its generator answers with our seed. The first points, which are random, are given to the study
(`enqueue_trial`), and so are the categories of CMA-ES, which Optuna draws at random and we take from TPE.
CMA-ES and a Gaussian process over a space with conditions have no equal in Optuna, which draws conditional
parameters at random there.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any, Final

from hpc_search.space import Choice
from hpc_search.steering.proposer import Proposer
from hpc_search.strategies.adaptive import sub_seed
from hpc_search.strategies.options import KNOWN
from tools.benchmarks.common import Report
from tools.benchmarks.search import ledgers
from tools.benchmarks.search.contenders import sampler
from tools.benchmarks.search.functions import PROBLEMS, Params, Problem

_SEED: Final = 5
#: Points of each search, by strategy.
_POINTS: Final = {"tpe": 60, "cmaes": 60, "gp": 18}


def measure(given: argparse.Namespace, report: Report, place: Path) -> None:
    """Print how many proposals are equal, for each strategy and function."""
    report.say("one worker, through the ledger: proposals that are Optuna's own to the last bit")
    different = []
    for kind in (kind for kind in given.kinds if kind in _POINTS):
        for name in given.functions:
            problem = PROBLEMS[name]
            if kind != "tpe" and problem.active:
                report.say(
                    f"  {kind:9s} {name:10s} Optuna draws what is conditional at random: nothing to compare"
                )
                continue
            asked, equal = compare(kind, problem, place / f"{kind}-{name}")
            what = "numbers" if kind == "cmaes" and _categories(problem) else "points"
            report.say(f"  {kind:9s} {name:10s} {equal} of {asked} {what} equal")
            if equal < asked or not asked:
                different.append(f"{kind} {name}")
    report.figure("not Optuna's own proposals", len(different), 1, "rows", at_least=False)


def compare(kind: str, problem: Problem, place: Path) -> tuple[int, int]:
    """Return (proposals of the model, how many of them were Optuna's)."""
    points = _POINTS[kind]
    layout, plan = ledgers.made(place, problem, kind, points, _SEED)
    peer = _Peer(kind, problem)
    asked = equal = 0
    with ledgers.joined(layout, plan, Proposer(layout, plan)) as ledger:
        for index in range(points):
            (claimed,) = ledger.claim()
            params = claimed.trial.params
            if index < KNOWN[kind]["startup"].default:
                peer.take(params)
            else:
                asked += 1
                equal += peer.ask(sub_seed(_SEED, index, 0), params) == params
            value = problem.value(params)
            ledgers.finish(ledger, claimed, value)
            peer.tell(value)
    return asked, equal


def _categories(problem: Problem) -> list[str]:
    return [name for name, one in problem.space.dimensions.items() if isinstance(one, Choice)]


class _Peer:
    """Optuna's study through its public door."""

    def __init__(self, kind: str, problem: Problem) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study()
        self._kind = kind
        self._problem = problem
        self._trial: Any = None
        self._told = _told()
        if kind == "cmaes":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._cmaes = sampler(kind, 0, n_startup_trials=1, independent_sampler=self._told)
            self._drawn = _Drawn()
            vars(self._cmaes)["_cma_rng"] = self._drawn

    def take(self, params: Params) -> None:
        """Run a point that is given."""
        self._study.enqueue_trial(params)
        self.ask(0, params)

    def ask(self, seed: int, ours: Params) -> Params:
        """Return the point that follows from *seed*; of *ours* CMA-ES gets the categories."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study.sampler = self._sampler(seed, ours)
            self._trial = self._study.ask()
            return self._problem.suggest(self._trial)

    def _sampler(self, seed: int, ours: Params) -> Any:
        if self._kind != "cmaes":
            return sampler(self._kind, seed, n_startup_trials=1)
        self._told.ours = ours
        self._drawn.seed, self._drawn.number = seed, len(self._study.get_trials(deepcopy=False))
        return self._cmaes

    def tell(self, value: float) -> None:
        self._study.tell(self._trial, value)


class _Drawn:
    """The generator of Optuna's CMA-ES, which adds the number of the trial to what is drawn."""

    seed = number = 0

    @property
    def rng(self) -> _Drawn:
        return self

    def randint(self, low: int, _: int) -> int:
        return low if low == 0 else self.seed - self.number


def _told() -> Any:
    """Return an Optuna sampler that answers what it was told."""
    from optuna.samplers import RandomSampler

    class Told(RandomSampler):
        ours: Params

        def sample_independent(self, _study: Any, _trial: Any, name: str, _distribution: Any) -> Any:
            return self.ours[name]

    return Told()
