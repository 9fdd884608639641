"""`status`: what is done, what runs, what waits, what fails."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from typing import Final

from hpc_search.cli.options import Verbs, add_json, add_run, as_json, verb
from hpc_search.errors import EXIT_DONE

_WIDEST: Final = 1000


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "status",
        "what is done, what runs, what waits and why, what fails, when it ends; read-only",
        "  hpc-search status digits\n  hpc-search status digits --watch\n"
        "  hpc-search status digits --json | jq '.state, .eta_seconds, .queue'",
    )
    add_run(parser)
    add_json(parser)
    parser.add_argument(
        "--watch", action="store_true", help="a live view; q quits (a line a change without a terminal)"
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Show the status."""
    from hpc_search import search

    found = search.open_run(given.run_dir)
    if given.watch:
        return search.watch(found)
    seen = search.status(found)
    # Where it is read by a program or goes to a file, nothing is cut.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDEST
    print(as_json(seen) if given.json else seen.text(width, run=shlex.quote(given.run_dir)))
    return EXIT_DONE
