"""Arguments that several verbs share."""

from __future__ import annotations

import argparse
from typing import Any

#: What ``add_subparsers`` returns; its class is private.
Verbs = Any


def verb(verbs: Verbs, name: str, summary: str, examples: str) -> argparse.ArgumentParser:
    """Add the parser of one verb, its examples shown as written."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add RUN."""
    parser.add_argument("run_dir", metavar="RUN", help="a run directory, or its name under runs/")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")


def count(text: str) -> int:
    """Return a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def add_folds(parser: argparse.ArgumentParser) -> None:
    """Add --folds."""
    parser.add_argument(
        "--folds",
        nargs="+",
        type=fold_number,
        default=[],
        metavar="N",
        help="only trials of these folds; after RUN, by their numbers (`plan` and `status` show them)",
    )


def fold_number(text: str) -> int:
    """Return the number of a fold."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a fold (write RUN before --folds)")
    return int(text)


def trial_number(text: str) -> int:
    """Return the number of a trial."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 17")
    return int(text)


def as_json(value: object) -> str:
    """Return *value*, a record, as readable JSON."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()
