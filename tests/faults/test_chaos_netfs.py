"""The campaigns on two clients of a network file system and on locks that lie, in short."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import pytest

from tools.campaigns import netfs
from tools.campaigns.common import Tally

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="SKIPPED, not root: workers get namespaces of their own"),
    pytest.mark.timeout(300),
]


def played(directory: Path, setting: str) -> Tally:
    return netfs.run(
        argparse.Namespace(
            trials=12, workers=4, kills=1, write_delay=0, settings=[setting], seed=1, directory=directory
        )
    )


@pytest.mark.skipif(shutil.which("strace") is None, reason="SKIPPED, needs strace")
def test_locks_that_lie_cost_attempts_and_no_results(tmp_path: Path) -> None:
    tally = played(tmp_path, "lying-lock")

    assert tally.problems == []
    assert tally.counts["lying-lock: trials"] == 12


@pytest.mark.skipif(shutil.which("glusterfsd") is None, reason="SKIPPED, needs glusterfs (tools/netfs up)")
def test_two_clients_with_caches_of_their_own_give_the_results_of_one(tmp_path: Path) -> None:
    tally = played(tmp_path, "cached-exclusive")

    assert tally.problems == []
    assert tally.counts["cached-exclusive: attempts claimed twice"] == 0
