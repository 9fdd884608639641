"""Whatever a trial, a process or a file does: the worker hears its signals, and the search ends."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hpc_search.errors import EXIT_TEMPORARY
from hpc_search.ledger import Ledger, history, this_process
from hpc_search.mounts import VARIABLE
from hpc_search.planning import Numbering
from hpc_search.records import journal as lines
from hpc_search.worker.breaker import NODE_FAILED
from tests.faults.site import TIMEOUT, Site
from tests.ledger_run import NO_PID
from tests.waiting import wait_until

SEARCH = """
name: ends
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: {int: [1, 12]}}
strategy: grid
save_interval: 0
heartbeat: 0.2
lease: 20
"""
GATED = """
import os, time
from pathlib import Path

ROOT = Path(os.environ["HPC_TEST_ROOT"])

def train(trial):
    (ROOT / "pid").write_text(str(os.getpid()))
    while (ROOT / "gate").exists():
        trial.alive()
        time.sleep(0.01)
    return {"acc": trial.params["x"]}
"""
TRAIN = "def train(trial): return {'acc': trial.params['x']}\n"


def work(
    site: Site, *arguments: str, cwd: Path | None = None, run: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hpc_search", "work", run or str(site.layout.root), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        cwd=cwd,
        env={**os.environ, "HPC_TEST_ROOT": str(site.root)},
    )


def dead_owner_of_a_block(site: Site, trials: int) -> None:
    """Claim a block as a worker that is gone."""
    me = replace(this_process("t", "local:0"), pid=NO_PID)
    dead = Ledger(site.layout, site.run.plan, Numbering(site.run.plan), me)
    assert len(dead.claim(trials)) == trials
    dead.close()


# -- a worker that may not take what it inherits
def test_a_worker_that_inherits_a_block_of_a_stopped_search_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "exclusive")
    site = Site(tmp_path, SEARCH, TRAIN)
    dead_owner_of_a_block(site, 8)
    site.layout.stop.write_text("stopped\n")

    assert work(site).returncode == 0

    site.layout.stop.unlink()
    site.work()
    assert len(site.results()) == 12


def test_a_worker_for_one_trial_leaves_the_rest_of_a_block_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "exclusive")
    site = Site(tmp_path, SEARCH, TRAIN)
    dead_owner_of_a_block(site, 8)

    assert work(site, "--trials", "1").returncode == 0
    assert len(site.results()) == 1

    site.work()
    assert len(site.results()) == 12


# -- processes that do not answer
@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_template_that_stops_answering_between_two_trials_is_replaced(tmp_path: Path) -> None:
    site = Site(tmp_path, SEARCH.replace("12", "2") + "stall: 2\n", GATED)
    site.gate.touch()
    with site.worker() as worker:
        template = site.trial_process().parents()[0]
        with locked(site.layout.claims_lock):
            # The trial ends, and no other is claimed.
            site.gate.unlink()
            wait_until(lambda: not template.children(), timeout=TIMEOUT)
            template.suspend()
        assert worker.wait(TIMEOUT) == 0, site.said()
    assert site.states() == ["done", "done"]


def test_a_worker_leaves_a_node_on_which_whatever_starts_trials_dies_again_and_again(tmp_path: Path) -> None:
    code = "import os, signal, time\n" + TRAIN.replace(
        "return", "os.kill(os.getppid(), signal.SIGKILL); time.sleep(60); return"
    )
    site = Site(tmp_path, SEARCH, code)

    assert work(site).returncode == EXIT_TEMPORARY

    assert [(end.state, end.cause) for end in site.ends()] == [("pending", "lost")] * 3
    found = [lines.parse_line(line.data) for line in history.lines(site.layout, frozenset({b"note"}))]
    (note,) = [one for one in found if isinstance(one, lines.Note) and one.event == NODE_FAILED]
    assert "died 3 times in a row" in note.text


# -- where a run and its trials are
def test_a_run_that_is_named_relatively_works_from_anywhere(tmp_path: Path) -> None:
    """Trials run in the directory of the search file, and change it as they like."""
    code = "import os\n" + TRAIN.replace("return", "os.chdir('/'); trial.save(1, s={}); return")
    site = Site(tmp_path / "sub", SEARCH, code)

    done = work(site, cwd=tmp_path, run="sub/run")

    assert done.returncode == 0, done.stderr
    assert site.states() == ["done"] * 12
    assert {end.attempt for end in site.ends()} == {1}


def test_a_trial_that_removes_its_own_checkpoints_fails_and_is_not_tried_for_ever(tmp_path: Path) -> None:
    code = "import shutil\n" + TRAIN.replace(
        "return", "trial.save(1, s={}); shutil.rmtree(trial.directory.parent); trial.save(2, s={}); return"
    )
    site = Site(tmp_path, SEARCH.replace("12", "2"), code)

    assert work(site).returncode == 0

    assert site.states() == ["failed", "failed"]
    assert {(end.cause, end.attempt) for end in site.ends()} == {("error", 1)}
    assert "does its code remove it" in site.ends()[0].detail


# -- what a program leaves in its report file
PROGRAM = """
import json, os, sys
report = os.environ["HPC_SEARCH_REPORT"]
x = int(sys.argv[1])
if x == 1:
    os.unlink(report)
    os.mkfifo(report)
elif x == 2:
    os.unlink(report)
    os.makedirs(os.path.join(report, "deep"))
elif x == 3:
    open(report, "w").write("[" * 100_000)
elif x == 4:
    open(report, "w").write(json.dumps({"step": True, "acc": 4.0}))
else:
    open(report, "w").write(json.dumps({"step": 1, "acc": 5.0}))
"""


def test_whatever_a_program_makes_of_its_report_file_it_alone_fails(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    search = SEARCH.replace("trial: train.py:train", f"command: ['{sys.executable}', program.py, '{{x}}']")
    site = Site(tmp_path, search.replace("12", "6"))

    done = work(site)

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert site.states() == ["failed", "failed", "failed", "done", "done", "done"]
    assert {end.cause for end in site.ends()} == {"error", ""}
    assert {trial: result.end.value for trial, result in site.results().items() if trial > 2} == {
        3: 4.0,
        4: 5.0,
        5: 5.0,
    }


# -- generators
LATE = """
def train(trial):
    trial.params["x"]
    import numpy as np, torch
    from random import random
    return {"acc": float(np.random.rand()), "torch": float(torch.rand(())), "python": random()}
"""


def test_libraries_that_a_trial_imports_itself_are_seeded_as_those_that_the_module_imports(
    tmp_path: Path,
) -> None:
    search = SEARCH.replace("{int: [1, 12]}", "[1]")
    found = []
    for name, code in (("late", LATE), ("again", LATE), ("early", "import numpy, torch\n" + LATE)):
        site = Site(tmp_path / name, search, code)
        site.work()
        found.append(site.ends()[-1].metrics)
    assert found[0].keys() == {"acc", "torch", "python"}
    assert found[0] == found[1]
    assert found[0] == found[2]
