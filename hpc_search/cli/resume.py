"""`resume`: let a paused run go on."""

from __future__ import annotations

import argparse

from hpc_search.cli.options import Verbs, add_run, verb
from hpc_search.errors import EXIT_DONE


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "resume",
        "let a paused run go on: release waiting tasks, start the workers that are missing",
        "  hpc-search resume runs/digits",
    )
    add_run(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Resume."""
    from hpc_search import search

    found = search.writable(search.open_run(given.run_dir))
    print(search.resume(found))
    return EXIT_DONE
