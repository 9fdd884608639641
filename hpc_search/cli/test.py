"""`test`: look at the test side, once."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from hpc_search.cli.options import Verbs, add_json, add_run, verb
from hpc_search.errors import EXIT_DONE, UsageError

if TYPE_CHECKING:
    from hpc_search.search import Ready


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "test",
        "look at the test side with what `refit` trained: once, confirmed, and on record before it is read",
        "  hpc-search test runs/digits                        asks for the name of the run\n"
        "  hpc-search test runs/digits --yes                  from a script\n"
        '  hpc-search test runs/digits --force "REASON"       again; the reason stays in the record',
    )
    add_run(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--force", metavar="REASON", help="open it again; who, when and REASON stay in the record for ever"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Test."""
    from hpc_search import search

    found = search.writable(search.open_run(given.run_dir))
    ready = search.ready_to_test(found, given.force)
    if not given.yes:
        _confirm(ready)
    done = search.test(ready)
    print(search.final_results(found).rstrip() if given.json else "\n".join(done.tested))
    return EXIT_DONE


def _confirm(ready: Ready) -> None:
    """Have a person type the name of the run.

    Raises:
        UsageError: There is no terminal, or something else was typed.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        message = "the test side is opened only once, and there is no terminal to confirm it"
        raise UsageError(message, hint="the same command in a terminal, or with --yes")
    sys.stderr.write(f"{ready.text()}\nIt is opened once. Type {ready.name} to do it now: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != ready.name:
        raise UsageError("that is not the name of the run: nothing was opened")
