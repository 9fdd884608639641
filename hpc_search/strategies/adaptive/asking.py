"""From a strategy's name and its history to a function that answers with places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hpc_search.strategies.adaptive.axes import Axis, Number, Place
from hpc_search.strategies.adaptive.memory import Known
from hpc_search.strategies.adaptive.worth import Loss, losses

#: (number of the point, seed, places that were answered before and cannot be taken) -> place.
Ask = Callable[[int, int, Sequence[Place]], Place]
#: Optuna's sampler of a seed.
Make = Callable[[int], Any]


def question(
    kind: str,
    axes: Sequence[Axis],
    known: Sequence[Known],
    goals: tuple[str, ...],
    population: int,
    startup: int,
) -> Ask:
    """Return what answers for the strategy *kind* after the observations *known*."""
    if kind == "cmaes":
        return _cmaes(axes, known, goals, population, startup)
    if kind in ("evolution", "nsga2"):
        return _evolution(axes, known, goals, population)
    from hpc_search.strategies.adaptive import models

    if kind == "gp":
        return _answering(models.gp, axes, models.trials_for_gp(known, axes, goals), goals)
    return _tpe(models.tpe, axes, known, goals)


def _tpe(make: Make, axes: Sequence[Axis], known: Sequence[Known], goals: tuple[str, ...]) -> Ask:
    from hpc_search.strategies.adaptive import models

    trials = models.trials_for_tpe(known, models.distributions_of(axes), goals)
    return _answering(make, axes, trials, goals)


def _answering(make: Make, axes: Sequence[Axis], trials: Sequence[Any], goals: tuple[str, ...]) -> Ask:
    from hpc_search.strategies.adaptive import models

    distributions = models.distributions_of(axes)

    def ask(index: int, seed: int, refused: Sequence[Place]) -> Place:
        # What was refused counts as running: the model keeps away from it.
        liars = [models.made_up(place, axes, count) for count, place in enumerate(refused)]
        return models.ask(models.quietly(make, seed), distributions, [*trials, *liars], index, goals)

    return ask


def _cmaes(
    axes: Sequence[Axis], known: Sequence[Known], goals: tuple[str, ...], population: int, startup: int
) -> Ask:
    from hpc_search.strategies.adaptive import cmaes, models

    # By name, as Optuna has them: it draws one after the other.
    numbers = sorted((axis for axis in axes if isinstance(axis, Number)), key=lambda one: one.name)
    population = population or cmaes.population_of(numbers)
    # The first points are no sample of any of its distributions.
    ended = _ended([seen for seen in known if seen.observation.point >= startup], goals)
    # It cannot choose among categories: TPE does, from all parameters.
    choose = _tpe(models.tpe_for_categories, axes, known, goals) if len(numbers) < len(axes) else None

    def ask(index: int, seed: int, refused: Sequence[Place]) -> Place:
        chosen = choose(index, seed, refused) if choose else {}
        return {**chosen, **cmaes.ask(numbers, ended, population, seed)}

    return ask


def _evolution(axes: Sequence[Axis], known: Sequence[Known], goals: tuple[str, ...], population: int) -> Ask:
    from hpc_search.strategies.adaptive import evolution

    ended = _ended(known, goals)

    def ask(index: int, seed: int, refused: Sequence[Place]) -> Place:  # noqa: ARG001 - a child is its seed's
        return evolution.child(axes, ended, population, seed)

    return ask


def _ended(known: Sequence[Known], goals: tuple[str, ...]) -> list[tuple[Place, Loss]]:
    worth = losses([seen.observation for seen in known], goals)
    return [(seen.place, loss) for seen, loss in zip(known, worth, strict=True) if loss is not None]
