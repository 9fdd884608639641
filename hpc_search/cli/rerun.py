"""`rerun`: run one trial again, alone."""

from __future__ import annotations

import argparse

from hpc_search.cli.options import Verbs, add_run, verb
from hpc_search.errors import EXIT_DONE, EXIT_FAILED


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "rerun",
        "run one trial again alone, into RUN/reruns/; print both values and whether they are equal",
        "  hpc-search rerun runs/digits 17\n  hpc-search rerun runs/digits trial17.yaml",
    )
    add_run(parser)
    parser.add_argument(
        "trial", metavar="TRIAL", help="the trial's number, or a YAML file that `show --yaml` printed"
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Run it again."""
    from hpc_search import search

    found = search.open_run(given.run_dir)
    number, params = search.which_trial(found, given.trial)
    outcome = search.rerun(found, number, params)
    print(outcome.text())
    return EXIT_DONE if outcome.end is not None and outcome.end.state == "done" else EXIT_FAILED
