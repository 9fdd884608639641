"""`bench grid`: every trial of the DNA grid once, each doing nothing, by real workers (minutes)."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

from tools.benchmarks import common, synthetic
from tools.benchmarks.common import Report


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--workers", type=int, default=None, help="default: what the local launcher chooses")
    parser.add_argument("--trials", type=int, default=synthetic.DNA_POINTS, help="fewer, to try the bench")


def run(given: argparse.Namespace, report: Report) -> None:
    """Plan, submit, wait, count."""
    with common.workplace(given, report) as place:
        space = synthetic.DNA_SPACE
        strategy = "grid"
        if given.trials < synthetic.DNA_POINTS:
            strategy = f"{{random: {{points: {given.trials}, seed: 0}}}}"
        path = synthetic.write_search(place, synthetic.search_text(space, strategy))
        root = place / "run"
        common.timed(common.hpc("plan", path, "--run", root))
        workers = ["--workers", str(given.workers)] if given.workers else []
        seconds = common.timed(common.hpc("submit", root, "--launcher", "local", "--wait", *workers))
        report.say(
            f"{given.trials:,} trials in {seconds:.0f} s: {common.number(given.trials / seconds)} trials/s"
        )
        _count(root, given.trials, report)


def _count(root: Path, trials: int, report: Report) -> None:
    argv = common.hpc("status", root, "--json")
    status = json.loads(
        subprocess.run(argv, capture_output=True, text=True, check=True, cwd=common.ROOT).stdout
    )
    report.figure("trials done", status["done"], trials, "trials", at_least=True)
    report.figure("trials in the status", abs(status["trials"] - trials), 1, "off", at_least=False)
    report.figure("files and directories (find RUN | wc -l)", _files(root), 1000, "", at_least=False)
    common.timed(common.hpc("collect", root))
    report.figure("after collect", _files(root), 1000, "", at_least=False)


def _files(root: Path) -> int:
    return 1 + sum(len(names) + len(files) for _, names, files in os.walk(root))
