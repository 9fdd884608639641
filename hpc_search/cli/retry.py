"""`retry`: let failed trials run again."""

from __future__ import annotations

import argparse

from hpc_search.cli.options import Verbs, add_json, add_run, as_json, verb
from hpc_search.errors import EXIT_DONE
from hpc_search.records.index import CAUSES


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "retry",
        "let failed trials run again with fresh retry budgets, all or chosen ones; results are never changed",
        "  hpc-search retry runs/digits                       all that failed\n"
        "  hpc-search retry runs/digits --cause oom --submit  what ran out of memory, and start workers\n"
        "  hpc-search retry runs/digits 17 23 --from-scratch\n\n"
        "Where checkpoints are kept (keep_checkpoints), a trial goes on from the newest one.",
    )
    add_run(parser)
    parser.add_argument(
        "trials", metavar="TRIAL", nargs="*", help="numbers of trials; default: all that failed"
    )
    parser.add_argument("--cause", choices=CAUSES[1:], default="", help="only what failed for this cause")
    parser.add_argument("--node", default="", metavar="N", help="only what failed on this node")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for the audit log")
    parser.add_argument("--from-scratch", action="store_true", help="drop what is kept of their checkpoints")
    parser.add_argument(
        "--keep-ladder", action="store_true", help="leave a batch halved that was halved for want of memory"
    )
    parser.add_argument("--submit", action="store_true", help="also start the workers that are missing")
    add_json(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Retry."""
    from hpc_search import search

    found = search.writable(search.open_run(given.run_dir))
    again = search.Again(
        trials=tuple(given.trials),
        cause=given.cause,
        node=given.node,
        reason=given.reason,
        from_scratch=given.from_scratch,
        keep_ladder=given.keep_ladder,
    )
    ordered = search.retry(found, again)
    print(as_json(ordered) if given.json else ordered.text)
    if given.submit:
        started = search.submitted(found)
        print("" if given.json else started, end="" if given.json else "\n")
    return EXIT_DONE
