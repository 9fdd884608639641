"""`refit`: train the chosen point again on more data, with several seeds."""

from __future__ import annotations

import argparse

from hpc_search.cli.launching import add_launching, started, wish_of
from hpc_search.cli.options import Verbs, add_run, verb
from hpc_search.errors import EXIT_DONE


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "refit",
        "train the chosen point again on train+val, with several seeds, and keep what was trained",
        "  hpc-search refit runs/digits --seeds 5 --launcher local --wait\n"
        "  hpc-search refit runs/digits --seeds 0 7 42 --profile slurm/profiles/SITE.yaml\n"
        "  hpc-search refit runs/digits --on everything         after `test`: a model of all the data",
    )
    add_run(parser)
    parser.add_argument(
        "--seeds",
        type=_seed,
        nargs="+",
        metavar="N",
        help="one number: so many seeds, from 0; several: these seeds (default: as planned, else seed 0)",
    )
    parser.add_argument(
        "--on",
        choices=("train+val", "train", "everything"),
        help="what is trained on (default: as planned, else train+val)",
    )
    parser.add_argument(
        "--point", type=_seed, metavar="N", help="train this point instead of the chosen one; it is recorded"
    )
    add_launching(parser)
    parser.set_defaults(run=run)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _seeds(given: list[int] | None) -> tuple[int, ...] | None:
    if given is None:
        return None
    return tuple(range(max(1, given[0]))) if len(given) == 1 else tuple(dict.fromkeys(given))


def run(given: argparse.Namespace) -> int:
    """Refit."""
    from hpc_search import search

    found = search.writable(search.open_run(given.run_dir))
    again = search.Refit(given.on, _seeds(given.seeds), given.point)
    done = search.refit(found, again, wish_of(given))
    print(done.text)
    return EXIT_DONE if done.sent is None else started(done.run, done.sent, wait=given.wait)
