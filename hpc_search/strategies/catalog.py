"""The catalog: named experiments, each one point; the space holds their values row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from hpc_search.errors import UsageError
from hpc_search.records.search import StrategySpec
from hpc_search.space import Space
from hpc_search.strategies.grid import Grid

#: The parameter that holds an experiment's name; it is told, and need not be read.
EXPERIMENT: Final = "experiment"


@dataclass(frozen=True, slots=True)
class Catalog:
    """Point number i is the space's point number i, under the i-th of ``names``."""

    names: tuple[str, ...]
    name: str = "catalog"
    adaptive: bool = False

    def count(self, space: Space) -> int:
        """Return the number of experiments.

        Raises:
            UsageError: *space* has not as many points.
        """
        if space.size() != len(self.names):
            message = f"a catalog of {len(self.names)} experiments does not fit {space.size()} points"
            raise UsageError(message, hint="a catalog has a space of its own; use the file that it came from")
        return len(self.names)

    def point(self, space: Space, index: int) -> dict[str, Any]:
        """Return experiment number *index*.

        Raises:
            IndexError: There is no such experiment.
        """
        return {EXPERIMENT: self.names[index], **Grid().point(space, index)}


def names_of(spec: StrategySpec, space: Space) -> tuple[str, ...]:
    """Return the names of the parameters of a point: those of *space*, and a catalog's EXPERIMENT."""
    return (EXPERIMENT, *space.names) if spec.kind == "catalog" else space.names
