"""`retry` and `skip` as a user calls them: what they change, what they refuse, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import Desk, desk

#: Fails while the file `bad` is there: for want of memory at x = 1, by an error at x = 3.
TRAIN = """
import os

def train(trial):
    x = trial.params["x"]
    print("batch", trial.params.get("batch"))
    if os.path.exists("bad") and x == 1:
        raise MemoryError("no memory left")
    if os.path.exists("bad") and x == 3:
        raise ValueError("bad environment")
    return {"acc": x / 10}
"""


@pytest.fixture
def failed(tmp_path: Path) -> Desk:
    """Return a desk with a run in which trials 0 and 2 of 3 failed."""
    made = desk(tmp_path)
    made.write("train.py", TRAIN)
    made.write("bad", "")
    made.good("plan", "search.yaml", "--run", "run")
    made.go("run", code=1)
    (tmp_path / "bad").unlink()
    return made


def status(desk: Desk) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(desk.good("status", "run", "--json"))
    return found


def test_trials_that_failed_for_one_cause_run_again_and_count(failed: Desk) -> None:
    assert status(failed)["causes"] == {"error": 1, "oom": 1}
    failed.good("collect", "run")

    said = failed.good("retry", "run", "--cause", "oom", "--reason", "more memory")
    assert "trial 0 will run again" in said
    assert "hpc-search submit run" in said
    assert (status(failed)["pending"], status(failed)["failed"]) == (1, 1)
    assert failed.good("fsck", "run")
    failed.go("run", code=1)
    assert json.loads(failed.good("collect", "run", "--json"))["causes"] == {"error": 1}

    assert "trial 2 will run again" in failed.good("retry", "run")
    assert "no failed trial is left" in failed.good("retry", "run")
    failed.go("run")
    best = json.loads(failed.good("collect", "run", "--json"))
    assert (best["done"], best["failed"], best["best"]["params"]) == (3, 0, {"x": 3})
    assert "more memory" in (failed.root / "run" / "audit.log").read_text()
    assert failed.good("fsck", "run")


def test_a_search_that_ended_with_failures_is_said_to_have_and_exits_so_whoever_waits(failed: Desk) -> None:
    for more in ((), ("--wait",)):
        said = failed("submit", "run", "--launcher", "local", *more)
        assert (said.code, "2 failed: `hpc-search status run` says why" in said.out) == (1, True), said.all
    failed.good("retry", "run")
    assert "submitted as" in failed.good("submit", "run", "--launcher", "local", "--workers", "1")
    assert failed("submit", "run", "--launcher", "local", "--wait").code == 0
    assert "nothing is left" in failed.good("submit", "run", "--launcher", "local")


def test_all_mistakes_are_named_at_once_and_nothing_is_changed(failed: Desk) -> None:
    said = failed.refused("skip", "run", "5", "99999", "abc", "1")
    assert all(word in said for word in ("no trial 5", "no trial 99999", "'abc'", "0 to 2"))
    said = failed.refused("retry", "run", "1", "0")
    assert "trial 1 is done" in said
    assert "trial 0" not in said
    assert "trial 0 is failed" in failed.refused("skip", "run", "0")
    assert "no trial ended on node 'nowhere'" in failed.refused("retry", "run", "--node", "nowhere")
    assert "nothing to skip" in failed.refused("skip", "run")
    assert "point 7" in failed.refused("skip", "run", "--point", "7")
    assert status(failed)["failed"] == 2


def test_a_cause_that_nothing_failed_by_is_answered_with_those_that_there_are(failed: Desk) -> None:
    said = failed.good("retry", "run", "--cause", "timeout")
    assert "no trial that this names failed by timeout; there are 1 by error, 1 by oom: nothing" in said
    said = failed.good("retry", "run", "0", "--cause", "error")
    assert "there are 1 by oom" in said
    assert status(failed)["failed"] == 2


def test_a_node_chooses_and_json_says_what_was_done(failed: Desk) -> None:
    node = json.loads(failed.good("status", "run", "--json"))["failures"][0].get("node")
    import socket

    said = json.loads(failed.good("retry", "run", "--node", node or socket.gethostname(), "--json"))
    assert said["trials"] == [0, 2]


def test_retry_may_start_the_workers_too(failed: Desk) -> None:
    said = failed.good("retry", "run", "--submit")
    assert "2 trials (0, 2) will run again" in said
    assert "submitted as" in said


def test_skipped_trials_are_pruned_and_their_point_is_no_candidate(tmp_path: Path) -> None:
    made = desk(tmp_path)
    made.write("search.yaml", (tmp_path / "search.yaml").read_text() + "seeds: [0, 1]\n")
    made.good("plan", "search.yaml", "--run", "run")
    assert "2 trials (4, 5) skipped" in made.good("skip", "run", "--point", "2", "--reason", "diverges")
    assert "trial 0 skipped" in made.good("skip", "run", "0")
    made.go("run")

    # What was skipped ran no code: that is no mixture.
    assert "mixed" not in made.good("collect", "run")
    found = json.loads(made.good("collect", "run", "--json"))
    assert (found["done"], found["pruned"]) == (3, 3)
    assert found["best"]["params"] == {"x": 2}
    assert "diverges" in made.good("show", "run", "4")
    assert "trial 4 pruned already" in made.good("skip", "run", "4")
    assert "trial 4 is pruned" in made.refused("retry", "run", "4")
    assert made.good("fsck", "run")
