"""`collect`: merge what the workers wrote and print the best."""

from __future__ import annotations

import argparse

from hpc_search.cli.options import Verbs, add_json, add_run, as_json, verb
from hpc_search.errors import EXIT_DONE


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "collect",
        "merge results into RUN/results/ and print the best hyperparameters; any time, any number of times",
        "  hpc-search collect runs/digits\n  hpc-search collect runs/digits --json",
    )
    add_run(parser)
    add_json(parser)
    parser.add_argument(
        "--audit",
        action="store_true",
        default=None,
        help="write audit.log and audit/fold_##.log also where the journals have more than 50,000 lines",
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Collect."""
    from hpc_search import search
    from hpc_search.collect import collect

    found = search.open_run(given.run_dir)
    collected = collect(found.layout, found.plan, audit=given.audit)
    print(as_json(collected) if given.json else collected.text())
    return EXIT_DONE
