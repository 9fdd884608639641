"""`cancel`: end the workers of a run."""

from __future__ import annotations

import argparse

from hpc_search.cli.options import Verbs, add_run, verb
from hpc_search.errors import EXIT_DONE


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "cancel",
        "end this run's workers, and only these; trials keep their checkpoints and stay pending",
        "  hpc-search cancel runs/digits",
    )
    add_run(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Cancel."""
    from hpc_search import search

    found = search.open_run(given.run_dir)
    print(search.cancel(search.writable(found)))
    return EXIT_DONE
