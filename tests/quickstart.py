"""The quickstart's search, run once a session, for every test that reads or compares a finished run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
CONFIG: Final = ROOT / "configs" / "quickstart.yaml"
TRIALS: Final = 90


class Quickstart(NamedTuple):
    """A finished run of configs/quickstart.yaml and what `plan`, `submit --wait` and `collect` printed."""

    run: Path
    planned: str
    submitted: str
    collected: str


def run_quickstart(root: Path) -> Quickstart:
    """Plan, run here and collect; the run is *root*/quickstart."""
    run = root / "quickstart"
    planned = _call("plan", str(CONFIG), "--run", str(run))
    submitted = _call("submit", str(run), "--launcher", "local", "--wait")
    return Quickstart(run, planned, submitted, _call("collect", str(run)))


def _call(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hpc_search", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
