"""What a plan says about a space with rules: exact counts, what each rule did, and what went wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hpc_search.space.components import Component
from hpc_search.space.operations import NOT_APPLICABLE, ExpressionError
from hpc_search.space.ruled import Ruled
from hpc_search.space.rules import Excluded
from hpc_search.space.walk import Count, Example, Tally

if TYPE_CHECKING:
    from hpc_search.space.space import Space

#: Draws by which the rules are tried that no table decides.
DRAWS: Final = 1000


class Failure(NamedTuple):
    """The rule at ``path`` has no value for the parameters ``values``."""

    path: str
    message: str
    values: dict[str, Any]
    hint: str


class Audit(NamedTuple):
    """``raw`` combinations and ``points``, None where there are infinitely many or too many to be counted.

    ``components`` are the tables. Where rules are decided only at a draw, ``allowed`` of ``draws`` were
    points, and ``excluded`` counts the others.
    """

    raw: int | None
    points: int | None
    components: tuple[tuple[Component, Tally], ...]
    conditions: dict[str, Count]
    failures: tuple[Failure, ...]
    draws: int = 0
    allowed: int = 0
    excluded: dict[str, Count] = {}  # noqa: RUF012 - never changed

    @property
    def empty(self) -> bool:
        """Whether no point is left, as far as can be told."""
        return self.points == 0 or (self.draws > 0 and self.allowed == 0)


def audit(space: Space) -> Audit:
    """Return what the rules of *space* do; its tables are built."""
    ruled = space.ruled
    if ruled is None:
        return Audit(space.raw_size, space.size(), (), {}, ())
    tallies = tuple(ruled.tallies())
    conditions: dict[str, Count] = {}
    failures: dict[str, Failure] = {}
    for _, tally in tallies:
        conditions.update(tally.conditions)
        for path, (error, values) in tally.failed.items():
            failures.setdefault(path, Failure(path, str(error), values, error.hint))
    found = Audit(space.raw_size, space.size(), tallies, conditions, ())
    empty = found.points == 0 or any(not component.table for component, _ in tallies)
    if not empty and (ruled.late or ruled.large or ruled.logic.derived):
        sample = _Sample(ruled)
        draws = DRAWS if ruled.late or ruled.large else DRAWS // 4
        for draw in range(draws):
            sample.take(draw)
        for failure in sample.failures:
            failures.setdefault(failure.path, failure)
        conditions.update({path: c for path, c in sample.conditions.items() if path not in conditions})
        if ruled.late or ruled.large:
            found = found._replace(draws=draws, allowed=sample.allowed, excluded=sample.excluded)
    return found._replace(
        points=0 if empty else found.points, conditions=conditions, failures=tuple(failures.values())
    )


class _Sample:
    """Counts what becomes of draws of a space."""

    def __init__(self, ruled: Ruled) -> None:
        self._ruled = ruled
        self.allowed = 0
        self.conditions: dict[str, Count] = {}
        self.excluded: dict[str, Count] = {}
        self.failures: list[Failure] = []

    def take(self, draw: int) -> None:
        values = self._ruled.composed(
            lambda name: (_hashed(draw, name) >> 11) * 2.0**-53, lambda size: _hashed(draw, "") % max(1, size)
        )
        env = self._ruled.settle(values) if not self._failed(values) else None
        if isinstance(env, Excluded):
            count = self.excluded.setdefault(env.path, Count())
            count.number += 1
            if not count.examples:
                count.examples.append(Example(env.values, {}))
        elif env is not None:
            self.allowed += 1

    def _failed(self, values: dict[str, Any]) -> bool:
        """Return whether a rule has no value for *values*; count the conditions that hold."""
        env = self._ruled.environment(values)
        for step in (*self._ruled.logic.decisions, *self._ruled.logic.constraints):
            try:
                held = step.apply(env)
            except ExpressionError as error:
                shown = {name: env.get(name, NOT_APPLICABLE) for name in step.names}
                self.failures.append(Failure(step.path, str(error), shown, error.hint))
                return True
            if step.kind == "when":
                count = self.conditions.setdefault(step.path, Count())
                count.number += 1
                count.held += held
        return False


def _hashed(draw: int, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{draw}:{name}".encode(), digest_size=8).digest(), "big")


def shares(found: Audit) -> Iterator[tuple[str, bool]]:
    """Yield (path, whether it always holds) of each condition that never or always holds."""
    for path, count in found.conditions.items():
        if count.number and count.held in (0, count.number):
            yield path, count.held > 0
