"""`fsck`: verify every file of a run, repair what can be repaired."""

from __future__ import annotations

import argparse

from hpc_search.cli.options import Verbs, add_json, add_run, verb
from hpc_search.errors import EXIT_DONE


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "fsck",
        "verify every file of a run; exit 4 where something is damaged or lost",
        "  hpc-search fsck runs/digits\n"
        "  hpc-search fsck runs/digits --repair    put right what can be, set aside what cannot\n"
        "  hpc-search fsck copy-of-digits --adopt  a copied or moved run can be run where it is",
    )
    add_run(parser)
    add_json(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--repair", action="store_true", help="repair; only while no worker is live")
    what.add_argument("--adopt", action="store_true", help="make a copied or moved run runnable here")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Check, repair or adopt."""
    from hpc_search.search import fsck

    if given.adopt:
        print(fsck.adopt(given.run_dir))
        return EXIT_DONE
    report = fsck.check(given.run_dir, repair=given.repair)
    print(report.json() if given.json else report.text())
    return report.exit_code
