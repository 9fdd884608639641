"""`show`: everything about one trial."""

from __future__ import annotations

import argparse
import sys

from hpc_search.cli.options import Verbs, add_json, add_run, trial_number, verb
from hpc_search.errors import EXIT_DONE


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "show",
        "print a trial's parameters, attempts, curve and log",
        "  hpc-search show runs/digits 17\n  hpc-search show runs/digits 17 --yaml > trial17.yaml",
    )
    add_run(parser)
    parser.add_argument("trial", metavar="TRIAL", type=trial_number, help="the trial's number")
    add_json(parser)
    parser.add_argument("--yaml", action="store_true", help="print a standalone YAML that `rerun` accepts")
    parser.add_argument("--log", action="store_true", help="print only the output of the last attempt")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Show."""
    from hpc_search import search
    from hpc_search.search import trialtext

    found = search.open_run(given.run_dir)
    view = search.view_trial(found, given.trial)
    if given.yaml:
        sys.stdout.write(search.standalone(found, view))
    elif given.json:
        print(trialtext.as_json(found.plan, view))
    elif given.log:
        sys.stdout.write(search.last_log(found, view))
    else:
        print(trialtext.as_text(found.plan, view) + search.log_tail(found, view))
    return EXIT_DONE
