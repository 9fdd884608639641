"""`skip`: end trials without running them."""

from __future__ import annotations

import argparse

from hpc_search.cli.options import Verbs, add_json, add_run, as_json, trial_number, verb
from hpc_search.errors import EXIT_DONE


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "skip",
        "end trials as pruned without running them, for good; those that run are stopped",
        "  hpc-search skip runs/digits 17 23 --reason 'diverges'\n"
        "  hpc-search skip runs/digits --point 4              all trials of a point that have not ended",
    )
    add_run(parser)
    parser.add_argument("trials", metavar="TRIAL", nargs="*", help="numbers of trials")
    parser.add_argument("--point", type=trial_number, metavar="P", help="all trials of this point")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why: `show` and the results say it")
    add_json(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Skip."""
    from hpc_search import search

    found = search.writable(search.open_run(given.run_dir))
    ordered = search.skip(found, given.trials, given.point, given.reason)
    print(as_json(ordered) if given.json else ordered.text)
    return EXIT_DONE
