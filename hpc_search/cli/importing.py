"""`import`: write a search file that means what another tool's does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hpc_search.cli.options import Verbs, verb
from hpc_search.errors import EXIT_DONE


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "import",
        "write a search file from the hyperparameter search of another tool",
        "  hpc-search import hyperparameter_search.yaml -o search.yaml\n"
        "  hpc-search import old.yaml --trial models/train.py:train > search.yaml",
    )
    parser.add_argument("old", metavar="OLD", type=Path, help="the other tool's file (YAML)")
    parser.add_argument(
        "--from",
        dest="tool",
        choices=["sequifier"],
        default="sequifier",
        help="the tool (default: %(default)s)",
    )
    parser.add_argument(
        "--trial",
        default="train.py:train",
        metavar="FUNCTION",
        help="what runs a trial (default: %(default)s)",
    )
    parser.add_argument(
        "-o", dest="to", type=Path, metavar="FILE", help="where to write it (default: standard output)"
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Import."""
    from hpc_search import search

    imported = search.import_file(given.old, given.trial, given.to)
    if given.to is None:
        sys.stdout.write(imported.text)
    told = sys.stderr if given.to is None else sys.stdout
    word = "point" if imported.points == 1 else "points"
    print(f"{given.old}: a grid of {imported.points:,} {word}", file=told)
    for note in imported.notes:
        print(f"note: {note}", file=told)
    if given.to is not None:
        print(f"next: hpc-search plan {given.to}, with {given.trial} in place", file=told)
    return EXIT_DONE
