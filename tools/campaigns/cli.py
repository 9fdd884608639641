"""The command line of `tools/chaos`."""

from __future__ import annotations

import argparse
import importlib
import random
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

CAMPAIGNS: Final[tuple[str, ...]] = (
    "flips",
    "kills",
    "budget",
    "pauses",
    "clocks",
    "disks",
    "powercut",
    "training",
    "folds",
    "scheduler",
    "netfs",
    "syscalls",
    "injected",
    "zombies",
    "races",
    "planted",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one campaign; return 1 where something happened that must not."""
    parser = argparse.ArgumentParser(prog="tools/chaos", description=__doc__)
    commands = parser.add_subparsers(dest="campaign", required=True)
    given = sys.argv[1:] if arguments is None else arguments
    asked = [name for name in given[:1] if name in CAMPAIGNS] or CAMPAIGNS
    modules: dict[str, Any] = {name: importlib.import_module(f"tools.campaigns.{name}") for name in asked}
    for name, module in modules.items():
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        command.add_argument("--seed", type=int, default=None, help="replay the campaign of this seed")
        command.add_argument("--directory", type=Path, default=None, help="where the runs are made")
        module.options(command)
    args = parser.parse_args(arguments)
    # Whatever the campaign started or mounted ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    args.seed = random.SystemRandom().randrange(2**31) if args.seed is None else args.seed
    print(f"campaign {args.campaign}, seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        args.directory = args.directory or Path(directory)
        tally = modules[args.campaign].run(args)
    print(tally.text())
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
