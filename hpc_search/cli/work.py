"""`work`: one worker in the foreground."""

from __future__ import annotations

import argparse

from hpc_search.cli.options import Verbs, add_folds, add_run, count, verb
from hpc_search.errors import EXIT_DONE, EXIT_USAGE


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "work",
        "run one worker in the foreground: what a task of a job array runs, or a user to help or debug",
        "  hpc-search work runs/digits\n"
        "  hpc-search work runs/digits --trials 1\n"
        "  hpc-search work runs/digits --folds 3 4 5",
    )
    add_run(parser)
    parser.add_argument("--token", default="", help=argparse.SUPPRESS)
    parser.add_argument("--seat", default="", help=argparse.SUPPRESS)
    parser.add_argument("--packed", default="", metavar="SEAT", help=argparse.SUPPRESS)
    parser.add_argument(
        "--allow-different-packages",
        action="store_true",
        help="also where installed packages are not those of the plan",
    )
    parser.add_argument("--trials", type=count, metavar="N", help="stop after N trials")
    add_folds(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Work."""
    from hpc_search import search

    found = search.writable(search.open_run(given.run_dir))
    folds = search.folds_of(found, given.folds)
    if words := search.closed(found):
        # A task that was waiting: it leaves before it is a worker, and nothing is used up.
        print(words)
        return EXIT_DONE if given.token else EXIT_USAGE
    from hpc_search.worker import Supervisor, WorkerOptions, pack

    def refill(done: int, *, refused: bool = False, stays: bool = False) -> None:
        search.refill(found, given.token, done, refused=refused, stays=stays)

    profile = pack.leads(found.layout, given.token) if not given.packed else None
    if profile is not None:
        return pack.Leader(found.layout, profile, given.token, given.seat, refill, folds).run()
    options = WorkerOptions(
        token=given.token,
        seat=given.packed or given.seat,
        packed=bool(given.packed),
        limit=given.trials,
        any_packages=given.allow_different_packages,
        refill=refill,
        folds=folds,
    )
    worker = Supervisor(found.layout, found.plan, options)
    code = worker.run()
    while worker.amended and not code:
        # Nothing is left of the plan that it began with; another worker here goes on by the new one.
        found = search.open_run(given.run_dir)
        worker = Supervisor(found.layout, found.plan, options)
        code = worker.run()
    if not given.token:
        print(search.after_work(found, folds))
    return code
