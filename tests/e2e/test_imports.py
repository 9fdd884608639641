"""What a start loads: a login node's file system is slow, and `status` is called often."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.command_line import Desk, desk

HEAVY = ("torch", "pandas", "h5py", "numpy", "sklearn", "scipy", "pyarrow", "submitit", "rich", "optuna")
CODE = """
import sys
try:
    {statement}
except SystemExit:
    pass
print("LOADED", *sorted(set({heavy!r}) & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A finished run of three trials, in r."""
    made = desk(tmp_path_factory.mktemp("imports"))
    made.good("plan", "search.yaml", "--run", "r")
    made.go("r")
    return made


def _loaded(where: Desk, statement: str) -> set[str]:
    said = where.run([sys.executable, "-c", CODE.format(statement=statement, heavy=HEAVY)])
    assert said.code == 0, said.all
    return set(said.out.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("module", ["hpc_search", "hpc_search.cli", "hpc_search.search", "hpc_search.worker"])
def test_the_core_loads_no_heavy_library(here: Desk, module: str) -> None:
    # The worker reads checkpoints of the trials that it takes over.
    allowed = {"numpy", "h5py"} if module == "hpc_search.worker" else set()
    assert _loaded(here, f"import {module}") <= allowed


@pytest.mark.parametrize(
    "verb",
    [
        ["--help"],
        ["--version"],
        ["submit", "--help"],
        ["status", "r"],
        ["status", "r", "--json"],
        ["show", "r", "0"],
        ["plan", "search.yaml", "--run", "r"],
        ["submit", "r", "--launcher", "local"],
        ["submit", "r", "--launcher", "local", "--dry-run"],
        ["cancel", "r"],
    ],
    ids=" ".join,
)
def test_a_verb_loads_no_heavy_library(here: Desk, verb: list[str]) -> None:
    assert _loaded(here, f"from hpc_search.cli import main; main({verb!r})") == set()


def test_collect_loads_neither_pandas_nor_torch(here: Desk) -> None:
    loaded = _loaded(here, "from hpc_search.cli import main; main(['collect', 'r'])")
    assert not loaded & {"pandas", "torch", "h5py", "sklearn"}


def test_a_trial_without_torch_runs_without_it(tmp_path: Path) -> None:
    there = desk(tmp_path)
    there.write(
        "train.py",
        """
        import sys

        def train(trial):
            names = [name for name in ("torch", "pandas", "sklearn") if name in sys.modules]
            return {"acc": len(names), "x": trial.params["x"]}
        """,
    )
    there.good("plan", "search.yaml", "--run", "r")
    there.go("r")
    assert "result: acc = 0.0" in there.good("show", "r", "0")
