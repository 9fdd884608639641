"""`submit` of a run that several profiles serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search.errors import UsageError
from hpc_search.launchers.slurm import SlurmLauncher
from hpc_search.ledger import submits
from hpc_search.planning.reading import Instance
from hpc_search.records import checked
from hpc_search.search import launch
from hpc_search.search.launch import Wish
from hpc_search.search.pausing import resume
from hpc_search.search.runs import Run
from tests.run_builder import RunBuilder
from tests.unit.test_launchers_submission import Scheduler


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Give a run of which two profiles want 3 and 4 workers, and nothing is live."""
    scheduler = Scheduler()
    monkeypatch.setattr(launch, "launcher_named", lambda _name: scheduler)
    monkeypatch.setattr(SlurmLauncher, "active", scheduler.active)
    builder = RunBuilder(tmp_path / "run", points=90, folds=0)
    builder.write()
    found = Run(builder.layout, builder.plan)
    mark = Instance(nonce="n", path=str(found.path), origin=str(tmp_path), mark="01234567")
    found.layout.instance.write_bytes(checked.encode(mark))
    for name, workers in (("one", 3), ("two", 4)):
        profile = tmp_path / f"{name}.yaml"
        profile.write_text(f"name: {name}\nworkers: {workers}\n")
        launch.submit(found, Wish(profile=profile, workers=workers))
    scheduler.jobs.clear()
    return found


def live(run: Run) -> list[tuple[str, int]]:
    known = submits.submissions(run.layout)
    return [(one.profile.name, one.tasks) for one in known[2:]]


def test_submit_again_starts_what_is_missing_of_every_profile(run: Run) -> None:
    said = launch.submit(run, Wish()).outcome

    assert sorted(live(run)) == [("one", 3), ("two", 4)]
    assert (said.sent, len(said.tokens)) == (7, 2)
    assert "\nprofile one: 3 workers submitted as " in said.text


def test_who_speaks_of_one_profile_gets_that_one(run: Run) -> None:
    launch.submit(run, Wish(workers=2))

    assert live(run) == [("two", 2)]


def test_a_cancelled_profile_stays_so(run: Run) -> None:
    launch.cancel(run)
    before = len(submits.submissions(run.layout))
    launch.submit(run, Wish())

    assert [one.profile.name for one in submits.submissions(run.layout)[before:]] == ["two"]


def test_cancel_without_the_file_that_slurm_conf_names_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", "/nowhere/slurm.conf")
    with pytest.raises(UsageError, match=r"/nowhere/slurm\.conf, and there is no such file"):
        launch.cancel(run)


def test_commands_that_are_shown_can_be_pasted(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "my run", points=3, folds=0)
    builder.write()
    found = Run(builder.layout, builder.plan)
    found.layout.instance.write_bytes(
        checked.encode(Instance(nonce="n", path=str(found.path), origin=str(tmp_path)))
    )

    assert f"`hpc-search submit '{found.path}'`" in resume(found)
