"""Arguments of the verbs that start workers, and staying until these end."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_search.cli.options import count
from hpc_search.errors import EXIT_DONE, EXIT_FAILED

if TYPE_CHECKING:
    from hpc_search.search import Run, Wish
    from hpc_search.search.launch import Sent


def add_launching(parser: argparse.ArgumentParser) -> None:
    """Add what says where workers start, and how many."""
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
    parser.add_argument("--wait", action="store_true", help="stay until the work ends, with a progress bar")


def wish_of(given: argparse.Namespace, folds: tuple[int, ...] = ()) -> Wish:
    """Return what was asked for, of *folds* alone where there are some."""
    from hpc_search import search

    return search.Wish(
        launcher=given.launcher,
        profile=given.profile,
        assignments=tuple(given.assignments),
        workers=given.workers,
        force=given.force,
        folds=folds,
    )


def started(run: Run, sent: Sent, *, wait: bool) -> int:
    """Return the exit code after workers were started: at once, or, with *wait*, when the work has ended.

    It is that of failures also where the search had ended with them before.
    """
    from hpc_search import search

    if not wait:
        return EXIT_FAILED if sent.failed else EXIT_DONE
    ended = search.wait(run, sent)
    if ended.text:
        print(ended.text)
    return ended.code
