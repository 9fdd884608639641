"""The search space: dimensions, linked groups and fixed values; canonical points and their numbers."""

from __future__ import annotations

from hpc_search.space.canonical import canonical, duplicates, point_hash
from hpc_search.space.dimensions import Choice, Dimension, Int, LogInt, LogUniform, Uniform
from hpc_search.space.space import Space

__all__ = [
    "Choice",
    "Dimension",
    "Int",
    "LogInt",
    "LogUniform",
    "Space",
    "Uniform",
    "canonical",
    "duplicates",
    "point_hash",
]
