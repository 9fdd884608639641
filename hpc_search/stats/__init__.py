"""Statistics of points from the values of their trials; pure. SciPy is imported where it is needed."""

from hpc_search.stats.points import FoldValue, Goal, PointScore, Row, mean, rank_points, sample_sd

__all__ = ["FoldValue", "Goal", "PointScore", "Row", "mean", "rank_points", "sample_sd"]
