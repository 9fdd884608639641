"""Whether pairs of figures with the same seeds differ beyond chance, over many rows at once."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

from tools.benchmarks.common import quantile

#: The chance, over all rows of a table together, that one of equals is called worse.
ALPHA: Final = 0.05


def worse(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the p of the one-sided paired Wilcoxon test that *ours* are larger."""
    from scipy.stats import wilcoxon

    if all(one == other for one, other in zip(ours, theirs, strict=True)):
        return 1.0
    return float(wilcoxon(ours, theirs, alternative="greater").pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """Return the p *values* of several tests, corrected by Holm (1979)."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        found[place] = least
    return found


def quartiles(values: Sequence[float]) -> str:
    """Return "median (lower quartile-upper quartile)"."""
    low, high = quantile(values, 0.25), quantile(values, 0.75)
    return f"{statistics.median(values):.3g} ({low:.3g}-{high:.3g})"
