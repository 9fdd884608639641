"""Code that is edited while jobs queue changes nothing: on a real SLURM, for functions and programs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from hpc_search.ledger import history
from tests.slurm.cluster import Cluster
from tests.slurm.searches import Search, cancelled_at_the_end
from tests.waiting import wait_until

SEARCH: Final = """
name: Code on SLURM
%s
metric: {name: acc, goal: max}
space: {x: [1, 2, 3, 4]}
strategy: grid
heartbeat: 1
"""
FUNCTION: Final = """
import time
from pathlib import Path
import mylib

def train(trial):
    import mylib.late
    return {"acc": trial.params["x"] * mylib.FACTOR + mylib.late.DATA}
"""
PROGRAM: Final = """
import json, os, sys
import mylib, mylib.late
acc = float(sys.argv[1]) * mylib.FACTOR + mylib.late.DATA
with open(os.environ["HPC_SEARCH_REPORT"], "a") as report:
    report.write(json.dumps({"acc": acc}))
"""


@pytest.fixture
def search(slurm: Cluster, tmp_path: Path) -> Iterator[Search]:
    with cancelled_at_the_end(Search(slurm, tmp_path)) as search:
        yield search


def values(search: Search) -> list[float | None]:
    return [result.end.value for _, result in sorted(history.results(search.layout).items())]


def write_sources(search: Search, train: str) -> None:
    (search.directory / "mylib").mkdir()
    search.write("train.py", train)
    search.write("mylib/__init__.py", "FACTOR = 10\n")
    search.write(
        "mylib/late.py", "import pathlib\nDATA = int(pathlib.Path(__file__).with_name('w').read_text())\n"
    )
    search.write("mylib/w", "1")


@pytest.mark.parametrize("kind", ["function", "program"])
def test_what_is_edited_while_jobs_are_held_is_not_what_runs(search: Search, kind: str) -> None:
    """One trial is run by a worker that is started by hand after the edit, the others by the held job."""
    runs = (
        "trial: train.py:train" if kind == "function" else f"command: [{sys.executable}, train.py, '{{x}}']"
    )
    write_sources(search, FUNCTION if kind == "function" else PROGRAM)
    search.plan(SEARCH % runs)
    search.submit("--set=extra.hold=true", "--workers=1")
    (token,) = search.tokens()
    wait_until(lambda: [job[2] for job in search.jobs()] == ["PENDING"], 60, on_timeout=lambda: search)
    search.write("train.py", "raise SystemExit(1)\n")
    search.write("mylib/__init__.py", "FACTOR = 99\n")
    shutil.copy(search.directory / "train.py", search.directory / "mylib/late.py")
    search.call("work", search.run, "--trials", "1")
    (search.directory / "mylib/w").unlink()
    search.cluster.run("scontrol", "release", f"JobName={token}")
    search.wait()
    assert values(search) == [11.0, 21.0, 31.0, 41.0]
    assert set(search.collect().decode().splitlines()[0].split(",")) & {"code"} == set()
    assert len({row["worker"] for row in search.attempts()}) == 2
    assert {len(row["code"]) for row in search.attempts()} == {32}
