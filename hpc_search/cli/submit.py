"""`submit`: start workers for the work that is left."""

from __future__ import annotations

import argparse

from hpc_search.cli.launching import add_launching, started, wish_of
from hpc_search.cli.options import Verbs, add_folds, add_run, verb
from hpc_search.errors import EXIT_DONE


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "submit",
        "start workers for the work that is left; safe to repeat at any time",
        "  hpc-search submit runs/digits --profile slurm/profiles/SITE.yaml\n"
        "  hpc-search submit runs/digits --launcher local --wait\n"
        "  hpc-search submit runs/digits --folds 3 4 5        only these folds; without it later, the rest\n"
        "  hpc-search submit runs/digits --dry-run            print the sbatch script\n"
        "  hpc-search submit runs/digits --resnapshot         new workers run the code as it is now\n\n"
        "exit codes: 0 workers were started, or all is done (with --wait: it ended without failures);\n"
        "1 the search has ended, and trials failed",
    )
    add_run(parser)
    add_launching(parser)
    add_folds(parser)
    _add_code(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be submitted, submit nothing"
    )
    parser.set_defaults(run=run)


def _add_code(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resnapshot",
        action="store_true",
        help="take the sources again from where they were planned; workers that start from now on run them",
    )
    parser.add_argument(
        "--allow-different-packages",
        action="store_true",
        help="let workers start where installed packages are not those of the plan",
    )


def run(given: argparse.Namespace) -> int:
    """Submit."""
    from hpc_search import search

    found = search.open_run(given.run_dir)
    wish = wish_of(given, search.folds_of(found, given.folds))
    if given.dry_run:
        print(search.preview(found, wish), end="")
        return EXIT_DONE
    for text in search.change_code(
        search.writable(found), again=given.resnapshot, any_packages=given.allow_different_packages
    ):
        print(text)
    sent = search.submit(found, wish)
    print(sent.outcome.text)
    return started(found, sent, wait=given.wait)
