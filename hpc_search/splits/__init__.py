"""Splits of a table into folds with a train, a validation and a test side; pure, usable alone.

Where the table has groups, a group never stands on two sides of any split, whatever the kind: rows of
one patient or series are not independent.
"""

from hpc_search.splits.folds import KINDS, SEED_MAX, Fold, Split, check_disjoint, make_split
from hpc_search.splits.manifests import manifest_csv, parse_manifest
from hpc_search.splits.table import IdKind, Table

__all__ = [
    "KINDS",
    "SEED_MAX",
    "Fold",
    "IdKind",
    "Split",
    "Table",
    "check_disjoint",
    "make_split",
    "manifest_csv",
    "parse_manifest",
]
