"""Strategies whose points depend on the results so far: tpe, cmaes, gp, evolution, nsga2.

A proposal is a function of (space, history, number, goals) and the strategy's own options: whoever
computes it, wherever and after whatever else, gets the same one. Optuna, cmaes and torch are imported
when the first proposal needs them.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, NoReturn

from hpc_search.errors import UsageError
from hpc_search.space import Space, canonical
from hpc_search.strategies.adaptive.axes import Number, Place, axes_of, point_at
from hpc_search.strategies.adaptive.memory import Known, Memory
from hpc_search.strategies.history import History
from hpc_search.strategies.random import Random


class Kind(NamedTuple):
    """What is particular to one of the strategies."""

    #: Distributions that have to be installed, as (module, name of the extra).
    needs: tuple[tuple[str, str], ...] = ()
    #: Whether it can have several objectives.
    several: bool = False


_OPTUNA: Final = ("optuna", "optuna")
#: The strategies of this package; their options stand in `strategies.options`.
KINDS: Final[dict[str, Kind]] = {
    "tpe": Kind((_OPTUNA,), several=True),
    "cmaes": Kind((_OPTUNA, ("cmaes", "optuna"))),
    "gp": Kind((_OPTUNA, ("torch", "torch"))),
    "evolution": Kind(),
    "nsga2": Kind(several=True),
}
#: Answers that are excluded or known already, after which a random point is taken.
TRIES: Final = 8


@dataclass(frozen=True, slots=True)
class Model:
    """``points`` different points of the space, each proposed by the method ``name`` when it is claimed.

    Random ones come first: the first ``startup`` ones of cmaes; of the others, until ``startup`` (for
    evolution and nsga2: ``population``) points have ended.
    """

    name: str
    points: int
    seed: int = 0
    startup: int = 10
    population: int = 0
    adaptive: bool = True
    _memory: Memory = field(default_factory=Memory, init=False, repr=False, compare=False)
    _random: Random = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare what comes before the model, and in its place."""
        object.__setattr__(self, "_random", Random(self.points, self.seed))

    def count(self, space: Space) -> int:
        """Return the number of points asked for.

        Raises:
            UsageError: *space* has fewer points, no number where the method needs one, or a library
                is missing.
        """
        _refuse(refusals(self.name, 1, space))
        return self._random.count(space)

    def point(self, space: Space, index: int) -> NoReturn:  # noqa: ARG002 - as the others have it
        """Never return: a point is proposed.

        Raises:
            LookupError: Always.
        """
        raise LookupError(f"point {index} of strategy {self.name} is proposed when it is claimed")

    def propose(self, space: Space, history: History, index: int, goals: tuple[str, ...]) -> dict[str, Any]:
        """Return point number *index*: a full one of *space*, none of those in *history*.

        Raises:
            UsageError: A library is missing, or the method cannot have several goals.
        """
        _refuse(refusals(self.name, len(goals)))
        known = self._memory.look(space, history, goals)
        taken = {seen.key for seen in known}
        if space.free and not self._starting(known, index):
            params = self._by_model(space, known, index, goals, taken)
            if params is not None:
                return params
        return self._unused(space, taken, index)

    def _starting(self, known: list[Known], index: int) -> bool:
        """Whether nothing is known yet from which a model could be made."""
        if self.name == "cmaes":
            return index < self.startup
        ended = [seen for seen in known if seen.observation.fate != "running"]
        if self.name in ("evolution", "nsga2"):
            return len(ended) < self.population or all(seen.observation.fate != "done" for seen in ended)
        nothing = self.name == "gp" and all(seen.observation.fate != "done" for seen in ended)
        return nothing or len(ended) < max(1, self.startup)

    def _by_model(
        self, space: Space, known: list[Known], index: int, goals: tuple[str, ...], taken: set[bytes]
    ) -> dict[str, Any] | None:
        """Return the first of ``TRIES`` answers that is a new point of *space*."""
        from hpc_search.strategies.adaptive.asking import question

        axes = self._memory.axes
        ask = question(self.name, axes, known, goals, self.population, self.startup)
        refused: list[Place] = []
        for attempt in range(TRIES):
            place = ask(index, sub_seed(self.seed, index, attempt), refused)
            params = point_at(space, axes, place)
            if params is not None and canonical(params) not in taken:
                return params
            refused.append(place)
        return None

    def _unused(self, space: Space, taken: set[bytes], index: int) -> dict[str, Any]:
        """Return the first of the random points, from number *index* on, that is not *taken*.

        There are as many as the search has points, all different, and fewer are taken.
        """
        for step in range(self.points):
            params = self._random.point(space, (index + step) % self.points)
            if canonical(params) not in taken:
                return params
        message = f"strategy {self.name}: all {self.points:,} points were proposed before"
        raise UsageError(message, hint="`fsck RUN` looks for what is wrong in the ledger")


def make_adaptive(kind: str, options: Mapping[str, int]) -> Model:
    """Return the strategy *kind* with all its *options*."""
    return Model(
        kind, options["points"], options["seed"], options.get("startup", 0), options.get("population", 0)
    )


def refusals(kind: str, objectives: int = 1, space: Space | None = None) -> list[UsageError]:
    """Return why the strategy *kind* cannot propose: objectives, a missing library, no number to move."""
    found = []
    if objectives > 1 and not KINDS[kind].several:
        able = " or ".join(name for name, one in KINDS.items() if one.several)
        message = f"strategy {kind} has one objective; the search has {objectives}"
        found.append(UsageError(message, hint=f"use {able}, or keep one of the objectives"))
    for module, extra in KINDS[kind].needs:
        if importlib.util.find_spec(module) is None:
            message = f"strategy {kind} needs the Python package {module}, which is not installed here"
            found.append(UsageError(message, hint=f"pip install 'hpc_search[{extra}]'"))
    if kind == "cmaes" and space is not None and not any(isinstance(axis, Number) for axis in axes_of(space)):
        message = "strategy cmaes moves numbers; the space has no range with more than one value"
        found.append(UsageError(message, hint="use tpe, evolution or grid, or give a range such as uniform"))
    return found


def _refuse(found: list[UsageError]) -> None:
    if found:
        raise found[0]


def sub_seed(seed: int, index: int, attempt: int) -> int:
    """Return the 32 bits from which point *index* is proposed at its *attempt*-th try."""
    digest = hashlib.blake2b(b"%d:%d:%d" % (seed, index, attempt), digest_size=4).digest()
    return int.from_bytes(digest, "big")
