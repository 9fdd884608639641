"""`plan --amend` killed at every call that writes: the old plan or the new one, and the run goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from hpc_search import planning, search
from hpc_search.fsck.check import examine
from hpc_search.layout import Layout
from hpc_search.ledger import read_state
from hpc_search.planning import Numbering, load_plan
from hpc_search.records.plan import Plan
from hpc_search.status import read_status
from tests.faults.dying import killed_before

SEARCH: Final = """\
name: example
trial: train.py:train
metric: {name: acc, goal: max}
space: {lr: [0.1, 0.2], width: {int: [1, 3]}}
strategy: grid
"""
AMENDED: Final = SEARCH.replace("int: [1, 3]", "int: [1, 4]") + "seeds: [0, 1]\n"
#: Everything that changes what is on disk, or makes it last.
_CALLS: Final = ("open", "write", "fsync", "link", "unlink", "rename", "ftruncate", "pwrite")


def amend_and_die(base: Path, run: Path, call: int) -> bool:
    """Amend in a process that is killed before its *call*-th such call; return whether it was."""
    return killed_before(call, _CALLS, lambda: search.amend_search(base / "search.yaml", str(run)))


def trials(plan: Plan) -> list[Any]:
    numbering = Numbering(plan)
    return [numbering(number) for number in range(plan.trials)]


@pytest.mark.parametrize("claiming", ["lock", "exclusive"])
def test_a_kill_at_any_point_leaves_the_old_plan_or_the_new_one(
    tmp_path: Path, claiming: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpc_search.mounts.claiming", lambda _: claiming)
    (tmp_path / "train.py").write_text("def train(trial): pass\n")
    (tmp_path / "search.yaml").write_text(SEARCH)
    kept, run = tmp_path / "kept", tmp_path / "run"
    planning.build(planning.draft(tmp_path / "search.yaml"), Layout(run))
    shutil.copytree(run, kept)
    (tmp_path / "search.yaml").write_text(AMENDED)
    layout, before = Layout(run), load_plan(Layout(run))
    seen = set()

    for call in range(200):
        shutil.rmtree(run)
        shutil.copytree(kept, run)
        killed = amend_and_die(tmp_path, run, call)

        plan = load_plan(layout)
        seen.add(plan.number)
        assert plan.trials == {1: 6, 2: 16}[plan.number]
        assert trials(plan)[:6] == trials(before)
        assert read_status(layout, plan).pending == plan.trials
        assert len(read_state(layout, plan.trials)[1]) == plan.trials
        # What is made from the plan may be missing; a temporary file is a leftover.
        wrong = {Path(case.finding.path).name for case in examine(layout).cases}
        assert {name for name in wrong if not name.startswith(".t-")} <= {
            "search.002.yaml",
            "digests.002.json",
        }

        search.amend_search(tmp_path / "search.yaml", str(run))
        assert load_plan(layout).trials == 16
        assert layout.later_search(2).exists()
        assert layout.later_digests(2).exists()
        if not killed:
            break
    else:
        pytest.fail("it never got to its end")
    assert seen == {1, 2}
