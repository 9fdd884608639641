"""Statistics of points from the values of their trials; pure.

Importing this costs no NumPy; `study`, `intervals`, `comparison` and `selection` use it, and import SciPy
where it is needed.
"""

from hpc_search.stats.choice import Chosen, choose, size_ratio, standard_error, unit_values
from hpc_search.stats.figures import (
    ESTIMAND,
    ONE_SPLIT,
    Comparison,
    FoldSamples,
    FoldSizes,
    Interval,
    NullBand,
    PairedTest,
    Selected,
)
from hpc_search.stats.points import FoldValue, Goal, PointScore, Row, mean, rank_points, sample_sd

__all__ = [
    "ESTIMAND",
    "ONE_SPLIT",
    "Chosen",
    "Comparison",
    "FoldSamples",
    "FoldSizes",
    "FoldValue",
    "Goal",
    "Interval",
    "NullBand",
    "PairedTest",
    "PointScore",
    "Row",
    "Selected",
    "choose",
    "mean",
    "rank_points",
    "sample_sd",
    "size_ratio",
    "standard_error",
    "unit_values",
]
