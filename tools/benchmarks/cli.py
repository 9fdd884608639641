"""The subcommands of tools/bench."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from tools.benchmarks.common import Report, add_common

_BENCHES: Final = {
    "ledger": "claim + 10 reports + durable finish by many processes, beside Optuna's storages",
}


def main(arguments: Sequence[str]) -> int:
    """Run one bench; 0, or 1 with --strict where a figure was missed."""
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measures hpc_search beside its peers, and prints PASS or FAIL against the asked figures.",
    )
    benches = parser.add_subparsers(title="benches", metavar="BENCH", required=True)
    for name, summary in _BENCHES.items():
        one = benches.add_parser(name, help=summary, description=summary)
        module = import_module(f"tools.benchmarks.{name}")
        module.add(one)
        add_common(one)
        one.set_defaults(run=module.run, what=name)
    given = parser.parse_args(arguments)
    report = Report()
    given.run(given, report)
    if report.missed:
        report.say(f"bench {given.what}: {len(report.missed)} figures missed")
    return 1 if report.missed and given.strict else 0
