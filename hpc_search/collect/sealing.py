"""The attempts of a run, with a seal for every result."""

from __future__ import annotations

from typing import NamedTuple

from hpc_search.collect.reading import Attempt, Attempts, read_attempts
from hpc_search.layout import Layout
from hpc_search.ledger import sealing


class Sealed(NamedTuple):
    """The attempts, all results of them sealed. ``lost`` counts sealed results with no record left."""

    attempts: Attempts
    new: int
    lost: int


def seal_results(layout: Layout) -> Sealed:
    """Read the journals and publish a seal for the results that have none.

    Raises:
        TemporaryError: Others published seals every time.
    """

    def read() -> tuple[Attempts, dict[int, Attempt], sealing.Heads]:
        attempts = read_attempts(layout)
        return attempts, attempts.results, attempts.heads

    attempts, sealed = sealing.seal(layout, read)
    return Sealed(attempts, sealed.new, sealed.lost)
