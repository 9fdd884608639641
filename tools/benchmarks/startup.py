"""`bench help`: the whole `--help` command, and what an import of the core loads."""

from __future__ import annotations

import argparse
import statistics
import subprocess
from typing import Final

from tools.benchmarks import common
from tools.benchmarks.common import Report

_HEAVY: Final = ("torch", "pandas", "h5py", "numpy", "sklearn", "pyarrow", "submitit", "rich", "yaml")
_LOADED: Final = """
import sys
{code}
print(*[name for name in {heavy} if name in sys.modules])
"""
_STEPS: Final = {
    "import hpc_search": "import hpc_search",
    "the parser of the command line": "from hpc_search.cli import parser; parser()",
    "what `status` imports": "import hpc_search.search, hpc_search.status",
}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--rounds", type=int, default=11)


def run(given: argparse.Namespace, report: Report) -> None:
    """Measure and print."""
    with common.workplace(given, report):
        bare = [common.timed(common.script("")) for _ in range(given.rounds)]
        found = [common.timed(common.hpc("--help")) for _ in range(given.rounds)]
        optuna = [common.timed(common.script("import optuna")) for _ in range(3)]
        report.say(f"python -m hpc_search --help, whole command: {common.spread(found, 's')}")
        report.say(
            f"  an empty interpreter {common.spread(bare, 's')}; import optuna {common.spread(optuna, 's')}"
        )
        report.figure("--help", statistics.median(found), 0.2, "s", at_least=False)
        for name, code in _STEPS.items():
            loaded = _loaded(code)
            report.say(f"  loaded after {name}: {loaded or 'none of ' + ', '.join(_HEAVY)}")
            unwanted = len({"torch", "pandas", "h5py"}.intersection(loaded.split()))
            report.figure(f"torch, pandas, h5py after {name}", unwanted, 1, "modules", at_least=False)


def _loaded(code: str) -> str:
    argv = common.script(_LOADED.format(code=code, heavy=_HEAVY))
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=common.ROOT)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()
