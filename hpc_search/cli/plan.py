"""`plan`: check a search file and make its run directory."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpc_search.cli.options import Verbs, verb
from hpc_search.errors import EXIT_DONE, UsageError


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "plan",
        "check a search file, print the exact count and make the run directory",
        "  hpc-search plan search.yaml\n  hpc-search plan search.yaml --run runs/second --dry-run\n"
        "  hpc-search plan catalog.yaml --mode quick\n"
        "  hpc-search plan catalog.yaml --experiments base tiny\n"
        "  hpc-search plan multistage.yaml --skip-stage sanity --only criteria evidence\n"
        "  hpc-search plan search.yaml --run runs/second --amend",
    )
    config = parser.add_argument("config", metavar="CONFIG", type=Path, help="the search file (YAML)")
    # It may stand behind several names, and is looked for there (`_Names`).
    config.required = False
    parser.add_argument(
        "--run", dest="run_dir", default="", metavar="DIR", help="default: runs/<name of the search>"
    )
    parser.add_argument(
        "--amend",
        action="store_true",
        help="add what the changed file adds to the run: more points, values of a grid, seeds, stages or "
        "searches at the end, a larger budget; trials that are planned stay as they are",
    )
    parser.add_argument("--dry-run", action="store_true", help="check and print, make nothing")
    parser.add_argument(
        "--check", action="store_true", help="also import the code and run one trial to its first report"
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--mode", default="", metavar="NAME", help="this mode of the file's catalog; full: all experiments"
    )
    chosen.add_argument(
        "--experiments", action=_Names, metavar="NAME", help="these experiments of its catalog"
    )
    parser.add_argument(
        "--skip-stage",
        action=_Names,
        metavar="NAME",
        dest="skip_stages",
        help="without these stages: one that narrows from them goes by the one before",
    )
    parser.add_argument(
        "--only",
        action=_Names,
        metavar="NAME",
        help="of several searches in the file these",
    )
    parser.set_defaults(run=run)


class _Names(argparse.Action):
    """One or more names after the option, which may be repeated; CONFIG may stand behind them."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs="+", default=(), **more)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add *values*."""
        del parser, option_string
        *names, last = values
        if names and namespace.config is None and last.endswith((".yaml", ".yml")):
            namespace.config = Path(last)
        else:
            names.append(last)
        setattr(namespace, self.dest, (*getattr(namespace, self.dest), *names))


def run(given: argparse.Namespace) -> int:
    """Plan."""
    from hpc_search import search
    from hpc_search.config import rule_lines
    from hpc_search.planning.describe import describe

    if given.config is None:
        raise UsageError("CONFIG is missing: the search file", hint="hpc-search plan search.yaml")
    make = search.amend_search if given.amend else search.plan_search
    choice = search.Choice(given.mode, given.experiments, given.skip_stages, given.only)
    planned = make(given.config, given.run_dir, dry_run=given.dry_run, choice=choice)
    path = str(planned.run.path)
    plan = planned.run.plan
    lines = rule_lines(given.config, plan.search)
    fresh, dry, splits = planned.fresh, given.dry_run, planned.splits
    print(describe(plan, path, fresh=fresh, dry=dry, code=planned.code, lines=lines, splits=splits))
    for text in planned.news:
        print(f"  added      {text}")
    for text in planned.warnings:
        print(f"warning: {text}", file=sys.stderr)
    if given.dry_run:
        print("dry run: nothing was made")
        return EXIT_DONE
    if given.check:
        print(search.check_one(planned.run, discard=planned.fresh and not given.amend))
    print(f"next: hpc-search submit {planned.run.typed}")
    return EXIT_DONE
