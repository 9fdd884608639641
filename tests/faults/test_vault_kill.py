"""Whoever opens the test side may be killed at any moment: the same command goes on with that opening."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

import pytest

from hpc_search import search
from hpc_search.layout import Layout
from hpc_search.ledger import vault
from tests.e2e.command_line import Desk
from tests.faults.dying import killed_before
from tests.refit_run import TRAIN, refitted
from tests.waiting import wait_until

#: What publishes a name: the opening, what the clone of the run publishes, the result.
_CALLS: Final = ("link",)
#: A test that waits where it has begun to look.
WAITS: Final = """
    import os, time
    open("looking", "w").close()
    while os.path.exists("gate"):
        time.sleep(0.02)
    right ="""


def looks(layout: Layout) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(layout.vault.glob("*.json"))}


@pytest.mark.parametrize("first", [0, 1])
def test_a_kill_before_anything_is_published_leaves_one_opening_that_goes_on(
    tmp_path: Path, first: int
) -> None:
    made = refitted(tmp_path)
    layout, kept = Layout(made.root / "runs/example"), tmp_path / "kept"
    shutil.copytree(layout.root, kept)
    seen = set()
    for call in range(first, 100, 2):
        shutil.rmtree(layout.root)
        shutil.copytree(kept, layout.root)

        def look() -> None:
            search.test(search.ready_to_test(search.open_run(str(layout.root))))

        killed = killed_before(call, _CALLS, look)
        before = looks(layout)
        seen.add(tuple(before))
        if killed:
            if "result.001.json" not in before:
                look()
            now = looks(layout)
            assert {name: now[name] for name in before} == before
        [found] = vault.looks(layout)
        assert found.result is not None
        assert vault.value_words(found.result) == "acc = 0.875, rows = 24"
        assert len(found.again) == (killed and "opening.001.json" in before and len(before) == 1)
        if not killed:
            assert {(), ("opening.001.json",)} - seen <= ({()} if first else set())
            return
    pytest.fail("it never got to its end")


@pytest.fixture
def waiting(tmp_path: Path) -> Desk:
    return refitted(tmp_path, train=TRAIN.replace("    right =", WAITS))


def test_one_that_is_killed_while_it_looks_goes_on_and_another_one_waits_for_none(waiting: Desk) -> None:
    layout = Layout(waiting.root / "runs/example")
    waiting.write("gate", "")
    argv = waiting.argv("test", "runs/example", "--yes")
    first = subprocess.Popen(argv, cwd=waiting.root, env=waiting.variables(), stdin=subprocess.DEVNULL)
    try:
        wait_until((waiting.root / "looking").exists, 100)
        assert list(looks(layout)) == ["opening.001.json"], "it is on record before anything is read"
        said = waiting.refused("test", "runs/example", "--yes", code=75)
        assert "another `test` of this run is at work: opened 2" in said
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait(60)
    (waiting.root / "gate").unlink()
    opening = looks(layout)["opening.001.json"]

    assert "opened once" in waiting.good("test", "runs/example", "--yes")
    now = looks(layout)
    assert list(now) == ["again.001.01.json", "opening.001.json", "result.001.json"]
    assert now["opening.001.json"] == opening
    assert json.loads(now["again.001.01.json"])["opening"] == 1
    assert "the test side was opened 2" in waiting.refused("test", "runs/example", "--yes")
