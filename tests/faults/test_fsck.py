"""fsck on runs of real workers: killed, live, damaged; and a short campaign of flipped bytes."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from hpc_search.ledger import history
from hpc_search.records import journal as lines
from tests.faults.site import TIMEOUT, Site
from tools.campaigns import flips

SEARCH = """\
name: fsck
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [1, 2, 3]}
strategy: grid
heartbeat: 0.2
lease: 2
save_interval: 0
"""
CODE = """\
import os
import time
from pathlib import Path

def train(trial):
    state = {"x": 0.5}
    if trial.restore(state=state) == 0:
        trial.save(1, state=state)
    if trial.params["x"] == 2 and not os.environ.get("GO"):
        Path(os.environ["HPC_TEST_ROOT"], "hangs").touch()
        time.sleep(600)
    return {"acc": trial.params["x"] / 7}
"""


def fsck(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [sys.executable, "-m", "hpc_search", "fsck", str(site.layout.root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)


def lose_result(site: Site, trial: int) -> str:
    """Change two bytes of the end record of *trial*; return its worker."""
    for worker in history.live_workers(site.layout):
        path = site.layout.journal(worker, 1)
        data = bytearray(path.read_bytes())
        for offset, line in history.verified(bytes(data), frozenset({b"end"})):
            record = lines.parse_line(line)
            if isinstance(record, lines.End) and record.trial == trial:
                for place in (offset + 20, offset + 60):
                    data[place] ^= 1
                path.write_bytes(data)
                return worker
    raise AssertionError(trial)


def test_while_a_worker_lives_fsck_reads_and_does_not_repair(tmp_path: Path) -> None:
    site = Site(tmp_path, SEARCH, CODE)
    with site.worker():
        site.wait_for("hangs")

        read = fsck(site)
        repaired = fsck(site, "--repair")

        assert (read.returncode, read.stderr) == (0, "")
        assert repaired.returncode == 2
        assert "may be at work" in repaired.stderr


def test_after_a_kill_a_lost_result_is_named_and_only_its_trial_runs_again(tmp_path: Path) -> None:
    site = Site(tmp_path, SEARCH, CODE)
    with site.worker() as process:
        site.wait_for("hangs")
        process.kill()
        process.wait(TIMEOUT)
    worker = lose_result(site, 0)

    found = fsck(site, "--json")
    repaired = fsck(site, "--repair")
    clean = fsck(site)
    with site.worker(GO="1") as process:
        assert process.wait(TIMEOUT) == 0, site.said()

    report = json.loads(found.stdout)
    assert (found.returncode, report["exit_code"]) == (4, 4)
    assert any(finding.get("trials") == [0] for finding in report["findings"])
    assert repaired.returncode == 4
    assert worker in repaired.stdout
    assert (clean.returncode, clean.stderr) == (0, ""), clean.stdout
    assert {trial: result.end.value for trial, result in site.results().items()} == {
        0: 1 / 7,
        1: 2 / 7,
        2: 3 / 7,
    }
    assert [end.attempt for end in site.ends(2)] == [1]
    assert fsck(site).returncode == 0


def test_a_moved_run_works_after_it_was_adopted(tmp_path: Path) -> None:
    site = Site(tmp_path, SEARCH, CODE)
    moved = tmp_path / "moved"
    os.rename(site.layout.root, moved)
    command = [sys.executable, "-m", "hpc_search"]
    environment = {**os.environ, "GO": "1", "HPC_TEST_ROOT": str(tmp_path)}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [*command, *arguments]
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=TIMEOUT, env=environment
        )

    refused = call("work", str(moved))
    adopted = call("fsck", str(moved), "--adopt")
    worked = call("work", str(moved))

    assert (refused.returncode, adopted.returncode, worked.returncode) == (2, 0, 0)
    assert "--adopt" in refused.stderr
    assert "it was moved from" in adopted.stdout


def test_a_short_campaign_of_flips_cuts_and_removals_finds_no_problem(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    flips.options(parser)
    args = parser.parse_args(["--run", "half", "--places", "1", "--most", "3"])
    args.seed, args.directory = 7, tmp_path

    tally = flips.run(args)

    assert tally.problems == []
    assert sum(count for name, count in tally.counts.items() if "damages" in name) == 3
