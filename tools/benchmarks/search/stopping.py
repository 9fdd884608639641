"""asha and hyperband beside Optuna's pruners on a table of learning curves: epochs for the same result."""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
from typing import Any, Final, NamedTuple, Protocol

from hpc_search.records.search import PruningSpec
from hpc_search.steering.brackets import Bracket
from hpc_search.strategies import pruning
from hpc_search.strategies.pruning import Member
from tools.benchmarks.common import Report, quantile
from tools.benchmarks.search import curves, testing

_ETA: Final = 3
#: Trials of one search: configurations of the table, drawn without repetition.
_TRIALS: Final = 128
_PEERS: Final = {"asha": "SuccessiveHalvingPruner", "hyperband": "HyperbandPruner"}


class Task(NamedTuple):
    """A trial that goes on after so many epochs."""

    number: int
    done: int


class Rule(Protocol):
    """What decides which trial runs, and how far."""

    def take(self) -> Task | None:
        """Return what a free worker does next; None where there is nothing now."""
        ...

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Take the value of a trial after its *epoch*; return whether it goes on at once."""
        ...


class Ours:
    """Our rules as `steering.referee` applies them: judged at rungs, promoted before new trials start."""

    def __init__(self, kind: str, trials: int, epochs: int) -> None:
        options = {"min_steps": 1, "max_steps": epochs, "eta": _ETA, "first_step": 0}
        self._spec = PruningSpec(kind, options)
        places = [pruning.bracket_of(self._spec, number) for number in range(trials)]
        self._brackets = {
            place: Bracket(
                self._spec, "min", "loss", places.count(place), pruning.schedule(self._spec, place)
            )
            for place in sorted(set(places))
        }
        self._places = places
        self._epochs = epochs
        self._next = 0

    def take(self) -> Task | None:
        for bracket in self._brackets.values():
            if not bracket.changed:
                continue
            if found := bracket.promotions():
                number, rung, _ = found[0]
                bracket.members[number] = bracket.members[number]._replace(fate="running")
                return Task(number, bracket.schedule.rungs[rung])
            for number in bracket.paused if bracket.settled else []:
                bracket.members[number] = bracket.members[number]._replace(fate="pruned")
            bracket.changed = False
        if self._next == len(self._places):
            return None
        self._next += 1
        return Task(self._next - 1, 0)

    def report(self, number: int, epoch: int, value: float) -> bool:
        bracket = self._brackets[self._places[number]]
        bracket.changed = True
        member = bracket.members.get(number, Member(number, "running", ()))
        if epoch == self._epochs:
            bracket.members[number] = member._replace(fate="done")
            return False
        if epoch not in bracket.schedule.rungs:
            return True
        rung = bracket.schedule.rung(epoch - 1)
        others, behind = bracket.others(number, rung, epoch - 1)
        judged = pruning.judge(self._spec, "min", number, [value], others, behind)
        fate = "running" if judged.decision == "continue" else "paused"
        bracket.members[number] = Member(number, fate, (*member.values, value))  # type: ignore[arg-type]
        return fate == "running"


class Optunas:
    """Optuna's pruner: asked after every epoch but the last; what it stops never goes on."""

    def __init__(self, kind: str, trials: int, epochs: int, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        pruners = optuna.pruners
        pruner: Any = {
            "asha": lambda: pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=_ETA),
            "hyperband": lambda: pruners.HyperbandPruner(1, epochs, reduction_factor=_ETA),
        }[kind]()
        # The brackets of its Hyperband follow from the name of the study.
        self._study = optuna.create_study(pruner=pruner, study_name=f"curves-{seed}")
        self._running: dict[int, Any] = {}
        self._left, self._epochs = trials, epochs

    def take(self) -> Task | None:
        if not self._left:
            return None
        self._left -= 1
        trial = self._study.ask()
        self._running[trial.number] = trial
        return Task(trial.number, 0)

    def report(self, number: int, epoch: int, value: float) -> bool:
        from optuna.trial import TrialState

        trial = self._running[number]
        trial.report(value, epoch)
        if epoch == self._epochs:
            self._study.tell(trial, value)
            return False
        if trial.should_prune():
            self._study.tell(trial, state=TrialState.PRUNED)
            return False
        return True


class Course(NamedTuple):
    """A search: (epochs used, best value of a whole training) at each improvement, and all epochs used."""

    better: list[tuple[int, float]]
    epochs: int

    @property
    def best(self) -> float:
        return self.better[-1][1] if self.better else math.inf

    def until(self, value: float) -> int:
        """Return the epochs used when the best value was first at most *value*."""
        return next(epochs for epochs, found in self.better if found <= value)


def run(rule: Rule, table: curves.Table, chosen: list[int], workers: int, seed: int) -> Course:
    """Return what *workers* make of the *chosen* rows of *table*."""
    rng = random.Random(f"{seed}")
    # How long an epoch takes is the trial's own.
    pace = [rng.lognormvariate(0.0, 0.5) for _ in chosen]
    last = table.shape[1]
    busy: list[tuple[float, int, int]] = []
    better: list[tuple[int, float]] = []
    used, clock, free = 0, 0.0, workers
    while True:
        while free and (task := rule.take()) is not None:
            heapq.heappush(busy, (clock + pace[task.number], task.number, task.done + 1))
            free -= 1
        if not busy:
            return Course(better, used)
        clock, number, epoch = heapq.heappop(busy)
        used += 1
        value = float(table[chosen[number], epoch - 1])
        if epoch == last and (not better or value < better[-1][1]):
            better.append((used, value))
        if rule.report(number, epoch, value):
            heapq.heappush(busy, (clock + pace[number], number, epoch + 1))
        else:
            free += 1


class Race(NamedTuple):
    """Both with the same seed, and the best value there was."""

    ours: Course
    theirs: Course
    least: float

    @property
    def same(self) -> tuple[int, int]:
        """The epochs of both until the result that both reached."""
        target = max(self.ours.best, self.theirs.best)
        return self.ours.until(target), self.theirs.until(target)


def measure(given: argparse.Namespace, report: Report) -> None:
    """Print epochs and regrets of each rule with each number of workers."""
    table, words = curves.cached(given.curves)
    report.say(f"learning curves: {table.shape[0]} trainings x {table.shape[1]} epochs, {words}")
    report.say(
        f"{_TRIALS} of them a search, {given.repeats} seeds, median (quartiles); p: ours is worse, Wilcoxon"
    )
    races = {
        (kind, workers): [race(kind, table, workers, seed) for seed in range(given.repeats)]
        for kind in _PEERS
        for workers in (1, 16)
    }
    for (kind, workers), found in races.items():
        _show(report, f"{kind} W={workers}", _PEERS[kind], found)
    _judge(report, races)


def race(kind: str, table: curves.Table, workers: int, seed: int) -> Race:
    """Return how both do with the same configurations in the same order."""
    chosen = random.Random(seed).sample(range(len(table)), min(_TRIALS, len(table)))
    rules: tuple[Rule, Rule] = (
        Ours(kind, len(chosen), table.shape[1]),
        Optunas(kind, len(chosen), table.shape[1], seed),
    )
    ours, theirs = (run(rule, table, chosen, workers, seed) for rule in rules)
    return Race(ours, theirs, float(table[chosen, -1].min()))


def _show(report: Report, name: str, peer: str, races: list[Race]) -> None:
    report.say(f"  {name}, beside {peer}")
    for words, (ours, theirs) in _columns(races).items():
        report.say(
            f"    {words:28s} ours {testing.quartiles(ours):24s} optuna {testing.quartiles(theirs):24s} "
            f"p {testing.worse(ours, theirs):.3f}"
        )


def _columns(races: list[Race]) -> dict[str, tuple[list[float], list[float]]]:
    return {
        "epochs until the same result": (
            [one.same[0] for one in races],
            [one.same[1] for one in races],
        ),
        "epochs in all": ([one.ours.epochs for one in races], [one.theirs.epochs for one in races]),
        "regret at the end": (
            [one.ours.best - one.least for one in races],
            [one.theirs.best - one.least for one in races],
        ),
    }


def _judge(report: Report, races: dict[tuple[str, int], list[Race]]) -> None:
    tests = {
        f"{kind} W={workers}, {words}": both
        for (kind, workers), found in races.items()
        for words, both in _columns(found).items()
    }
    values = testing.holm([testing.worse(*both) for both in tests.values()])
    worse = [name for name, value in zip(tests, values, strict=True) if value < testing.ALPHA]
    more = [
        name
        for name, (ours, theirs) in tests.items()
        if "epochs" in name and statistics.median(ours) > statistics.median(theirs)
    ]
    beyond = [
        name
        for name, (ours, theirs) in tests.items()
        if "regret" in name and statistics.median(ours) > quantile(theirs, 0.75)
    ]
    for words, found in (
        ("more epochs than Optuna's, medians", more),
        ("median regret above Optuna's upper quartile", beyond),
        (f"worse than Optuna's (Wilcoxon, Holm over {len(tests)} tests, alpha {testing.ALPHA})", worse),
    ):
        named = f" ({', '.join(found)})" if found else ""
        report.figure(f"early stopping: {words}{named}", len(found), 1, "rows", at_least=False)
