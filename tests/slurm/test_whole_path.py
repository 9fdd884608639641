"""The whole path on a real cluster: plan, submit, status, collect; the same results as on a laptop."""

from __future__ import annotations

import secrets
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from hpc_search.ledger import history
from tests.slurm.cluster import ROOT, Cluster
from tests.slurm.searches import (
    HeldSearch,
    Search,
    cancelled_at_the_end,
    counting_clients,
    on_this_machine,
)
from tests.waiting import wait_until

QUICKSTART: Final = ROOT / "configs" / "quickstart.yaml"
NODES: Final = {"node1", "node2", "node3", "node4"}
CALLABLE: Final = """
name: Whole path of a user
trial: trial.py:train
metric: {name: acc, goal: max}
space: {x: [1, 2, 3], y: [0.5, 1e-3]}
strategy: grid
seeds: [0, 1]
"""
TRIAL: Final = """
import random

def train(trial):
    trial.report(0, acc=random.random())
    trial.save(1, state={"seen": trial.params["x"]})
    return {"acc": trial.params["x"] * trial.params["y"] + random.random()}
"""
COMMAND: Final = """
name: Whole path of a user
command: [./program.py, "--x={x}", "--y={y}", "--seed={seed}"]
metric: {name: acc, goal: max}
space: {x: [1, 2, 3], y: [0.5, 1e-3]}
strategy: grid
seeds: [0, 1]
"""
PROGRAM: Final = """#!/usr/bin/python3
import json, os, sys
values = dict(argument[2:].split("=") for argument in sys.argv[1:])
with open(os.environ["HPC_SEARCH_REPORT"], "a") as report:
    acc = float(values["x"]) * float(values["y"]) + int(values["seed"])
    report.write(json.dumps({"step": 1, "acc": acc}) + "\\n")
print("program", values)
"""


@pytest.fixture
def search(slurm: Cluster, tmp_path: Path) -> Iterator[Search]:
    with cancelled_at_the_end(Search(slurm, tmp_path)) as search:
        yield search


@pytest.fixture
def held(slurm: Cluster, tmp_path: Path) -> Iterator[HeldSearch]:
    held = HeldSearch(slurm, tmp_path, trials=6)
    with cancelled_at_the_end(held):
        yield held


@pytest.fixture
def users_search(slurm: Cluster, user_directory: Path, ordinary_user_python: Path) -> Iterator[Search]:
    with cancelled_at_the_end(Search(slurm, user_directory, ordinary_user_python)) as search:
        yield search


# -- the same results


@pytest.mark.torch
@pytest.mark.timeout(600)  # the first who asks waits for the local run as well
def test_the_quickstart_on_four_nodes_gives_the_bits_of_a_local_run(
    search: Search, quickstart_here: Path
) -> None:
    search.plan(QUICKSTART)
    # Four cores a task: one task a node.
    search.submit("--workers=4", cpus=4)

    jobs = wait_until(search.jobs, 30, on_timeout=lambda: search)
    names = {(array, name) for array, name, _, _ in jobs}
    assert len(jobs) == 4
    assert len(names) == 1, "one array in squeue"
    assert jobs[0][1].startswith("quickstart-digits-")
    search.wait(400)
    here = Search(search.cluster, quickstart_here.parent)
    here.run, here.layout = quickstart_here, type(search.layout)(quickstart_here)

    assert search.collect() == here.collect()
    assert {row["node"] for row in search.attempts()} == NODES
    ended, ended_here = (
        {
            number: (result.end.state, result.end.params, result.end.metrics)
            for number, result in found.items()
        }
        for found in (history.results(search.layout), history.results(here.layout))
    )
    assert len(ended) == 90
    assert ended == ended_here
    assert len(search.reports()) == 90 * 15
    assert search.reports() == here.reports()


# -- submit


def test_submit_returns_while_jobs_run_and_leaves_nothing_on_the_login_node(held: HeldSearch) -> None:
    mark = f"mark-{secrets.token_hex(8)}"

    held.submit("--workers=6", environment={"HPC_SEARCH_NOTE": mark})

    # The gate is shut, so whatever ended did not wait for the trials.
    assert held.status()["done"] == 0
    assert on_this_machine(mark) == []
    with subprocess.Popen(["sleep", "60"], env={"NOTE": mark}) as control:
        # Its command line is empty for a moment after the exec.
        wait_until(lambda: on_this_machine(mark) == [f"{control.pid} sleep\00060\0"], 30)
        control.kill()
    held.wait_until_held(6)
    assert len(held.jobs()) == 6
    assert on_this_machine(mark) == []
    assert on_this_machine(str(held.run)) == []
    held.gate.unlink()
    held.wait()


def test_submit_twice_is_one_array_and_says_so(held: HeldSearch) -> None:
    held.submit("--workers=3")
    held.wait_until_held(3)

    again = held.submit("--workers=3")

    assert "already submitted: 3 running" in again.stdout
    assert len({array for array, *_ in held.jobs()}) == 1
    assert len(held.jobs()) == 3
    held.gate.unlink()
    held.wait()


def test_the_script_of_a_dry_run_does_the_work_when_sent_by_hand(held: HeldSearch) -> None:
    held.gate.unlink()
    script = held.submit("--workers=2", "--dry-run").stdout
    assert held.jobs() == []
    held.write("job.sh", script)

    sent = held.cluster.run("sbatch", "job.sh", cwd=held.directory)

    assert sent.returncode == 0, sent.stderr
    held.wait()
    assert held.status()["done"] == 6


def test_a_worker_asks_slurm_once_at_its_start_and_never_again(held: HeldSearch, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    prolog = counting_clients(tmp_path / "bin", calls)
    held.gate.unlink()

    held.submit("--workers=2", prolog=prolog)
    held.wait()
    held.wait_for_the_end_of_all_jobs()

    asked = Counter(calls.read_text().splitlines())
    assert asked == {"0 scontrol show": 1, "1 scontrol show": 1}


# -- an ordinary user


@pytest.mark.parametrize("kind", ["callable", "command"])
def test_an_ordinary_user_plans_submits_and_collects(users_search: Search, kind: str) -> None:
    search = users_search
    search.write("trial.py", TRIAL)
    search.write("program.py", PROGRAM)
    search.plan(CALLABLE if kind == "callable" else COMMAND)

    sent = search.submit("--workers=4")

    token = search.tokens()[0]
    assert token.startswith("whole-path-of-a-user-")
    assert token in sent.stdout
    search.wait()
    assert search.status()["done"] == 12
    assert len(search.collect().splitlines()) == 13
    assert "result: acc = " in search.call("show", search.run, "0").stdout
    paths = [search.run, *search.run.rglob("*")]
    assert {path.owner() for path in paths} == {search.cluster.user}
    wrong = [path for path in paths if path.stat().st_mode & 0o777 != (0o700 if path.is_dir() else 0o600)]
    assert wrong == []


# -- refusals


@pytest.mark.parametrize(
    ("changes", "words", "fields"),
    [
        ({"partition": "nope"}, "Invalid partition name specified", "`partition`"),
        ({"account": "closed"}, "Invalid account or account/partition combination", "`account, partition`"),
        ({"qos": "nope"}, "Invalid qos specification", "`qos`"),
    ],
    ids=["partition", "account", "qos"],
)
def test_after_a_refusal_in_the_words_of_slurm_a_correct_submit_goes_through(
    users_search: Search, changes: dict[str, Any], words: str, fields: str
) -> None:
    search = users_search
    search.write("trial.py", TRIAL)
    search.plan(CALLABLE.replace("[1, 2, 3]", str(list(range(1, 51)))))

    refused = search.submit("--workers=200", code=2, **changes)

    assert words in refused.stderr
    assert f"change {fields} in the profile" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert search.jobs() == []
    search.submit("--workers=2")
    search.wait()
    assert search.status()["done"] == 200


def test_without_sbatch_submit_says_what_to_do(search: Search, tmp_path: Path) -> None:
    search.write("trial.py", TRIAL)
    search.plan(CALLABLE)
    (tmp_path / "bin").mkdir()

    refused = search.submit(code=2, environment={"PATH": str(tmp_path / "bin")})

    assert "sbatch is not on PATH" in refused.stderr
    assert "--launcher local" in refused.stderr
    search.submit("--workers=2")
    search.wait()
