"""The search space: dimensions, linked groups, fixed values and rules; canonical points and their numbers."""

from __future__ import annotations

from hpc_search.space.audit import Audit, Failure, shares
from hpc_search.space.canonical import canonical, duplicates, point_hash
from hpc_search.space.components import Component
from hpc_search.space.dimensions import (
    CONTINUOUS,
    Choice,
    Dimension,
    Int,
    LogInt,
    LogUniform,
    Normal,
    Prior,
    Quantized,
    Uniform,
    nearest_end,
)
from hpc_search.space.expressions import names_in, quoted
from hpc_search.space.rules import Excluded, Fault, Normalise, Rules, faults, rule_path
from hpc_search.space.space import Space
from hpc_search.space.walk import MOST_ROWS, Count, Example
from hpc_search.space.words import amount, number, product, told, word

__all__ = [
    "CONTINUOUS",
    "MOST_ROWS",
    "Audit",
    "Choice",
    "Component",
    "Count",
    "Dimension",
    "Example",
    "Excluded",
    "Failure",
    "Fault",
    "Int",
    "LogInt",
    "LogUniform",
    "Normal",
    "Normalise",
    "Prior",
    "Quantized",
    "Rules",
    "Space",
    "Uniform",
    "amount",
    "canonical",
    "duplicates",
    "faults",
    "names_in",
    "nearest_end",
    "number",
    "point_hash",
    "product",
    "quoted",
    "rule_path",
    "shares",
    "told",
    "word",
]
