"""What an observation is worth to a method that needs one number for each objective."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpc_search.strategies.history import Observation

Loss = tuple[float, ...]


def losses(observations: Sequence[Observation], goals: tuple[str, ...]) -> list[Loss | None]:
    """Return the losses of *observations*, less is better; None for a running one.

    A failed one is as bad as the worst that is known: what crashes must not be proposed again, and a
    constant would be worse than everything in one search and better in another. A pruned one has what it
    reported last; where there are several objectives, or no report, it counts as failed. While nothing
    else is known, these have no loss either.
    """
    signs = [-1.0 if goal == "max" else 1.0 for goal in goals]
    found = [_measured(seen, signs) for seen in observations]
    known = [loss for loss in found if loss is not None]
    if not known:
        return found
    worst = tuple(max(column) for column in zip(*known, strict=True))
    return [
        worst if loss is None and seen.fate != "running" else loss
        for seen, loss in zip(observations, found, strict=True)
    ]


def _measured(seen: Observation, signs: Sequence[float]) -> Loss | None:
    if seen.fate == "done":
        return tuple(sign * value for sign, value in zip(signs, seen.values, strict=True))
    if seen.fate == "pruned" and len(signs) == 1 and seen.curve and math.isfinite(seen.curve[-1][1]):
        return (signs[0] * seen.curve[-1][1],)
    return None
