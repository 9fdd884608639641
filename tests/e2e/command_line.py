"""The whole command, called as a user calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
TRAIN: Final = """
def train(trial):
    return {"acc": trial.params["x"] / 10}
"""
SEARCH: Final = """
name: my search
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [1, 2, 3]}
strategy: grid
heartbeat: 0.5
lease: 10
"""


class Said(NamedTuple):
    """The exit code of a command and what it printed."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return f"[exit {self.code}]\n{self.out}\n{self.err}"


@dataclass(frozen=True)
class Desk:
    """A working directory; ``path`` replaces PATH where it is given."""

    root: Path
    path: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return path

    def variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HPC_SEARCH")}
        path = {} if self.path is None else {"PATH": self.path}
        return {**kept, "PYTHONPATH": str(ROOT), **path, **self.environment}

    @staticmethod
    def argv(*arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "hpc_search", *map(str, arguments)]

    def run(self, argv: list[str]) -> Said:
        done = subprocess.run(
            argv,
            cwd=self.root,
            env=self.variables(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=100,
            check=False,
        )
        return Said(
            done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def __call__(self, *arguments: str | Path) -> Said:
        return self.run(self.argv(*arguments))

    def good(self, *arguments: str | Path) -> str:
        """Call and return what was printed; it must succeed."""
        said = self(*arguments)
        assert said.code == 0, said.all
        assert "Traceback" not in said.err, said.all
        return said.out

    def refused(self, *arguments: str | Path, code: int = 2) -> str:
        """Call and return the message; it must fail with *code* and without a traceback of ours."""
        said = self(*arguments)
        assert said.code == code, said.all
        assert "Traceback" not in said.all, said.all
        assert not said.out.strip() or "planned now" in said.out or "already planned" in said.out, said.all
        return said.err

    def go(self, run: str | Path, code: int = 0) -> Said:
        """Run all trials of *run* here with one worker."""
        said = self("submit", run, "--launcher", "local", "--workers", "1", "--wait")
        assert said.code == code, said.all
        return said


def desk(root: Path) -> Desk:
    """Return a desk with a search that works, in search.yaml and train.py."""
    made = Desk(root)
    made.write("search.yaml", SEARCH)
    made.write("train.py", TRAIN)
    return made
