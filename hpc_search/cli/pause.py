"""`pause`: stop a run for a while."""

from __future__ import annotations

import argparse

from hpc_search.cli.options import Verbs, add_run, verb
from hpc_search.errors import EXIT_DONE


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "pause",
        "let running trials save and stop; nothing is claimed until `resume`, waiting tasks keep their place",
        "  hpc-search pause runs/digits\n"
        "  hpc-search pause runs/digits --reason 'the deadline of another group'",
    )
    add_run(parser)
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for those who look at the run")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Pause."""
    from hpc_search import search

    found = search.writable(search.open_run(given.run_dir))
    print(search.pause(found, given.reason))
    return EXIT_DONE
