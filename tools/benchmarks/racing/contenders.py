"""Our race and Optuna's pruners on a simulated cross-validation with asynchronous workers."""

from __future__ import annotations

import heapq
import statistics
import warnings
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from hpc_search.strategies.racing import Race, Rules
from tools.benchmarks.racing.studies import Study

#: Ours with this error; none runs every fold of every point.
ERROR: Final = 0.05


class Outcome(NamedTuple):
    """What was chosen (None: nothing), how many fold-trainings it took, which points were left out."""

    chosen: int | None
    trained: int
    out: frozenset[int]
    #: The trials that were left out, in the order of the decisions.
    decisions: tuple[int, ...] = ()


def none(study: Study, _workers: int) -> Outcome:
    """Run all folds of all points."""
    return Outcome(study.best, study.values.size, frozenset())


def ours(study: Study, workers: int) -> Outcome:
    """Run trials by number, fold-major, each by the next free worker, unless its point is out by then."""
    points, folds = study.values.shape
    race = Race(Rules("max", folds, points, ERROR))
    known: list[dict[int, float]] = [{} for _ in range(points)]
    busy: list[tuple[float, int]] = []
    out: dict[int, None] = {}
    dropped: list[int] = []
    clock = 0.0

    def end() -> None:
        nonlocal clock
        clock, number = heapq.heappop(busy)
        fold, point = divmod(number, points)
        known[point][fold] = float(study.values[point, fold])
        race.put(point, known[point], able=point not in out)

    for number in range(points * folds):
        fold, point = divmod(number, points)
        if len(busy) == workers:
            end()
        if point not in out and race.loss(point) is not None:
            out[point] = None
            race.put(point, known[point], able=False)
        if point in out:
            dropped.append(number)
        else:
            heapq.heappush(busy, (clock + float(study.seconds[point, fold]), number))
    while busy:
        end()
    means = {point: statistics.fmean(own.values()) for point, own in enumerate(known) if len(own) == folds}
    chosen = max(means, key=lambda point: (means[point], -point), default=None)
    return Outcome(chosen, sum(map(len, known)), frozenset(out), tuple(dropped))


def optunas(make: Callable[[], Any], *, fold_values: bool) -> Callable[[Study, int], Outcome]:
    """Return how a study with the pruner of *make* goes: each worker runs a point fold by fold.

    What is reported is the mean over the folds so far; with *fold_values* that of the fold, as
    WilcoxonPruner is to be used: a pruned trial then counts with its mean so far.
    """

    def run(study: Study, workers: int) -> Outcome:
        import optuna
        from optuna.trial import TrialState

        points, folds = study.values.shape
        known = optuna.create_study(direction="maximize", pruner=make())
        busy: list[tuple[float, int, int]] = []
        trials: dict[int, Any] = {}
        out: set[int] = set()
        begun = trained = 0
        clock = 0.0
        while begun < points or busy:
            while begun < points and len(busy) < workers:
                trials[begun] = known.ask()
                heapq.heappush(busy, (clock + float(study.seconds[begun, 0]), begun, 0))
                begun += 1
            clock, point, fold = heapq.heappop(busy)
            trained += 1
            trial, so_far = trials[point], float(study.values[point, : fold + 1].mean())
            trial.report(float(study.values[point, fold]) if fold_values else so_far, fold)
            if fold + 1 == folds:
                known.tell(trial, so_far)
            elif trial.should_prune():
                out.add(point)
                known.tell(trial, so_far if fold_values else None, None if fold_values else TrialState.PRUNED)
            else:
                heapq.heappush(busy, (clock + float(study.seconds[point, fold + 1]), point, fold + 1))
        ended = {one.number: one.value or 0.0 for one in known.trials if one.state == TrialState.COMPLETE}
        chosen = max(ended, key=lambda number: (ended[number], -number), default=None)
        return Outcome(chosen, trained, frozenset(out))

    return run


_PRUNERS: Final = {"MedianPruner": False, "SuccessiveHalvingPruner": False, "WilcoxonPruner": True}
#: Who is compared; those that are no peer of ours.
OURS: Final = ("no racing", "ours")
NAMES: Final = (*OURS, *_PRUNERS)


def make(name: str) -> Callable[[Study, int], Outcome]:
    """Return how a study goes with the contender *name*."""
    if name in OURS:
        return ours if name == "ours" else none
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optunas(getattr(optuna.pruners, name), fold_values=_PRUNERS[name])
