"""Optuna's samplers as functions: from trials and a seed to the next place.

A sampler gets a study that has exactly the trials of a history and is thrown away afterwards, with its
random numbers and whatever it wanted to remember; so a proposal is a function of its arguments alone.

What a trial is to Optuna: done COMPLETE, running RUNNING (the constant liar of TPE and the fantasies of
GP keep away from it), pruned PRUNED with its curve. A failed one is no FAIL, which samplers leave out and
so propose its neighbours for ever: it counts as bad, to TPE as pruned before its first report, to GP as the
worst value there is. GP leaves pruned trials out; to it their value is the last one that they reported.
"""

from __future__ import annotations

import datetime as dt
import sys
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpc_search.strategies.adaptive.axes import Axis, Category, Number, Place
from hpc_search.strategies.adaptive.memory import Known
from hpc_search.strategies.adaptive.worth import losses

#: Optuna wants times; none of its samplers looks at them.
_WHEN: Final = dt.datetime(2000, 1, 1)  # noqa: DTZ001 - as Optuna's own, which have no zone
#: Above every number of a point: trials that are only made up come last.
_MADE_UP: Final = 1 << 40

Sampler = Callable[[int], BaseSampler]


class _Shelf(InMemoryStorage):
    """The trials of one history; what a sampler wants to keep in it is dropped."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._shelf = trials

    def get_all_trials(
        self,
        study_id: int,  # noqa: ARG002 - there is one
        deepcopy: bool = True,  # noqa: ARG002 - nobody changes them
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        return [trial for trial in self._shelf if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        pass


def tpe(seed: int, startup: int = 1) -> BaseSampler:
    """Return a multivariate TPE that takes apart what conditions keep apart, with constant liars."""
    return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=True, constant_liar=True)


def tpe_for_categories(seed: int) -> BaseSampler:
    """Return a TPE that is random for its first 10 points, where another method makes those."""
    return tpe(seed, startup=10)


def gp(seed: int) -> BaseSampler:
    """Return a Gaussian process with (log) expected improvement."""
    # Here, not when it first samples: by then its threads are to be held.
    import torch  # noqa: F401

    return GPSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False)


def distributions_of(axes: Iterable[Axis]) -> dict[str, BaseDistribution]:
    """Return the distributions of *axes* by name."""
    return {axis.name: _distribution(axis) for axis in axes}


def trials_for_tpe(
    known: Iterable[Known], distributions: Mapping[str, BaseDistribution], goals: tuple[str, ...]
) -> list[FrozenTrial]:
    """Return the trials of a history as TPE wants them."""
    found: list[FrozenTrial] = []
    for seen in known:
        if seen.trial is None:
            seen.trial = _trial_for_tpe(seen, distributions, goals)
        found.append(seen.trial)
    return found


def trials_for_gp(known: Sequence[Known], axes: Iterable[Axis], goals: tuple[str, ...]) -> list[FrozenTrial]:
    """Return the trials of a history as GP wants them: with a value for every axis.

    An absent parameter stands in the middle of its range: the same everywhere, so it says nothing.
    """
    spread = {axis.name: axis.middle for axis in axes}
    distributions = distributions_of(axes)
    worth = losses([seen.observation for seen in known], goals)
    sign = -1.0 if goals[0] == "max" else 1.0
    found = []
    for seen, loss in zip(known, worth, strict=True):
        place = {**spread, **seen.place}
        number = seen.observation.point
        if seen.observation.fate == "running":
            found.append(_frozen(number, TrialState.RUNNING, place, distributions))
        elif loss is not None:
            values = (sign * loss[0],)
            found.append(_frozen(number, TrialState.COMPLETE, place, distributions, values))
    return found


def made_up(place: Place, axes: Iterable[Axis], count: int) -> FrozenTrial:
    """Return a running trial at *place*, so that the next answer keeps away from it."""
    return _frozen(_MADE_UP + count, TrialState.RUNNING, place, distributions_of(axes))


def ask(
    sampler: BaseSampler,
    distributions: Mapping[str, BaseDistribution],
    trials: Sequence[FrozenTrial],
    index: int,
    goals: tuple[str, ...],
) -> Place:
    """Return the place that *sampler* proposes as trial *index* after *trials*."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    shelf = _Shelf(trials)
    directions = [StudyDirection.MAXIMIZE if goal == "max" else StudyDirection.MINIMIZE for goal in goals]
    shelf.create_new_study(directions, "history")
    study = Study("history", shelf, sampler)
    trial = _frozen(index, TrialState.RUNNING, {}, {})
    together = sampler.infer_relative_search_space(study, trial)
    with _one_thread():
        place: Place = dict(sampler.sample_relative(study, trial, together))
    for name, distribution in distributions.items():
        if name not in place:
            place[name] = sampler.sample_independent(study, trial, name, distribution)
    return place


@contextmanager
def _one_thread() -> Iterator[None]:
    """Hold torch to one thread.

    The matrices of a Gaussian process are small: its threads mostly wait for each other, most of all where
    several workers propose on one machine (4 times as long on 2 idle cores, 8 times beside 2 others).
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def quietly(make: Sampler, seed: int) -> BaseSampler:
    """Return the sampler of *seed*, without a word about options that Optuna calls experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return make(seed)


def _trial_for_tpe(
    seen: Known, distributions: Mapping[str, BaseDistribution], goals: tuple[str, ...]
) -> FrozenTrial:
    point, _, fate, values, curve = seen.observation
    active = {name: distributions[name] for name in seen.place}
    if fate == "running":
        return _frozen(point, TrialState.RUNNING, seen.place, active)
    if fate == "done":
        return _frozen(point, TrialState.COMPLETE, seen.place, active, values)
    # Optuna has no pruning for several objectives: there a pruned one counts as failed.
    reports = dict(curve) if fate == "pruned" and len(goals) == 1 else {}
    return _frozen(point, TrialState.PRUNED, seen.place, active, intermediate=reports)


def _distribution(axis: Axis) -> BaseDistribution:
    match axis:
        case Category(values=values):
            return CategoricalDistribution(range(len(values)))
        case Number(integer=True, low=low, high=high, log=log, step=step):
            return IntDistribution(int(low), int(high), log=log, step=int(step))
        case Number(low=low, high=high, log=log, step=step):
            return FloatDistribution(low, high, log=log, step=step or None)


def _frozen(
    number: int,
    state: TrialState,
    place: Place,
    distributions: dict[str, BaseDistribution],
    values: Sequence[float] | None = None,
    intermediate: dict[int, float] | None = None,
) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=state,
        value=None,
        values=values,
        datetime_start=_WHEN,
        datetime_complete=_WHEN if state.is_finished() else None,
        params=place,
        distributions=distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values=intermediate or {},
        trial_id=number,
    )
