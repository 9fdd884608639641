"""`doctor`: prove a file system."""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import Final

from hpc_search.cli.options import Verbs, add_json, as_json, verb
from hpc_search.errors import EXIT_DONE, EXIT_FAILED

#: Columns where the table is not read on a terminal.
_WIDE: Final = 150


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "doctor",
        "try on a directory what runs need of its file system: names, locks, caches, fsync, room; in seconds",
        "  hpc-search doctor /scratch/me\n"
        "  hpc-search doctor runs/digits --srun                    with two tasks of SLURM on two nodes\n"
        "  hpc-search doctor /mnt/a/me --second-mount /mnt/b/me    with two clients on this machine\n\n"
        "srun takes partition and account from SLURM_PARTITION and SLURM_ACCOUNT.\n"
        "exit codes: 0 a run can live there; 1 none can; 2 there is no such directory",
    )
    parser.add_argument(
        "target", metavar="DIR|RUN", nargs="?", default=".", help="a directory or a run (default: here)"
    )
    parser.add_argument(
        "--second-mount", metavar="DIR", default="", help="the same directory by another mount"
    )
    parser.add_argument("--srun", action="store_true", help="also between two nodes, by SLURM")
    add_json(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Examine."""
    from hpc_search.search.doctor import doctor

    report = doctor(given.target, second_mount=given.second_mount, srun=given.srun)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDE
    print(as_json(report) if given.json else report.text(width))
    return EXIT_DONE if report.verdict.usable else EXIT_FAILED
