"""A race whose worker is killed at any moment: nothing changes, all of it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search.fsck import check_run
from hpc_search.mounts import Claiming
from tests.e2e.test_racing import site_of
from tests.faults.site import Site
from tests.faults.test_pruning_kill import Outcome, killed, outcome


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return what becomes of the race when nothing happens to it."""
    site = site_of(tmp_path_factory.mktemp("undisturbed"))
    site.work()
    return outcome(site)


def sound(site: Site) -> bool:
    return not [finding for finding in check_run(site.layout).findings if finding.level != "note"]


@pytest.mark.parametrize(
    ("moment", "count", "claiming"),
    [
        ("race decided, not ended", 1, "lock"),
        ("race decided, not ended", 5, "exclusive"),
        ("race ended, not marked", 3, "lock"),
        ("race ended, not marked", 8, "exclusive"),
    ],
)
def test_a_kill_changes_no_value_and_no_decision(
    moment: str,
    count: int,
    claiming: Claiming,
    undisturbed: Outcome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HPC_SEARCH_CLAIMING", claiming)
    site = site_of(tmp_path)
    killed(site, moment, count)
    site.work()
    assert outcome(site) == undisturbed
    assert sound(site)


def test_workers_killed_again_and_again_end_the_race_as_one_does(
    undisturbed: Outcome, tmp_path: Path
) -> None:
    site = site_of(tmp_path)
    for turn in range(4):
        killed(site, ("race decided, not ended", "race ended, not marked")[turn % 2], 1 + turn)
    site.work()
    assert outcome(site) == undisturbed
    assert sound(site)
