"""Splits of a table into folds with a train, a validation and a test side; pure, usable alone.

Where the table has groups, a group never stands on two sides of any split, whatever the kind: rows of
one patient or series are not independent.
"""

from hpc_search.records.search import FoldsSpec
from hpc_search.splits.folds import Fold, Split
from hpc_search.splits.making import make_split
from hpc_search.splits.manifests import manifest_csv, parse_manifest
from hpc_search.splits.overlaps import check_disjoint
from hpc_search.splits.plugged import Splitter
from hpc_search.splits.scaling import Scaler, fit_scaler
from hpc_search.splits.spec import KINDS, SEED_MAX
from hpc_search.splits.table import IdKind, Table

__all__ = [
    "KINDS",
    "SEED_MAX",
    "Fold",
    "FoldsSpec",
    "IdKind",
    "Scaler",
    "Split",
    "Splitter",
    "Table",
    "check_disjoint",
    "fit_scaler",
    "make_split",
    "manifest_csv",
    "parse_manifest",
]
