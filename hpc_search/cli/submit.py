"""`submit`: start workers for the work that is left."""

from __future__ import annotations

import argparse
from pathlib import Path

from hpc_search.cli.options import Verbs, add_folds, add_run, count, verb
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
        "  hpc-search submit runs/digits --resnapshot         new workers run the code as it is now",
    )
    add_run(parser)
    parser.add_argument(
        "--launcher",
        choices=("slurm", "local"),
        default="",
        help="default: slurm where sbatch is on PATH, else local",
    )
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help="partition, account, time, memory, ... of the site (YAML)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="change one field of the profile",
    )
    parser.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="how many workers; default: the profile's, or the machine's cores or GPUs",
    )
    parser.add_argument(
        "--force", action="store_true", help="even where the file system has less room than the plan needs"
    )
    add_folds(parser)
    _add_code(parser)
    parser.add_argument("--wait", action="store_true", help="stay until the work ends, with a progress bar")
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
    wish = search.Wish(
        launcher=given.launcher,
        profile=given.profile,
        assignments=tuple(given.assignments),
        workers=given.workers,
        force=given.force,
        folds=search.folds_of(found, given.folds),
    )
    if given.dry_run:
        print(search.preview(found, wish), end="")
        return EXIT_DONE
    for text in search.change_code(
        search.writable(found), again=given.resnapshot, any_packages=given.allow_different_packages
    ):
        print(text)
    sent = search.submit(found, wish)
    print(sent.outcome.text)
    if not given.wait:
        return EXIT_DONE
    ended = search.wait(found, sent)
    if ended.text:
        print(ended.text)
    return ended.code
