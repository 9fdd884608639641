"""`show` and `rerun` on the quickstart's run: what a user compares and passes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.command_line import Desk
from tests.quickstart import Quickstart

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]
TRIAL = "17"


@pytest.fixture
def here(tmp_path: Path, finished_quickstart: Quickstart) -> tuple[Desk, Path]:
    """A working directory and the finished run."""
    return Desk(tmp_path), finished_quickstart.run


def test_show_prints_parameters_attempts_and_curve(here: tuple[Desk, Path]) -> None:
    desk, run = here
    said = desk.good("show", run, TRIAL)
    assert "trial 17 of quickstart digits: point 17, fold 0, seed 0: done" in said
    assert "learning_rate  0.01" in said
    assert "attempt 1 claimed by" in said
    assert "attempt 1 saved step 15, the last of 15 saves" in said
    assert "curve (15 reports)" in said


def test_show_json_holds_the_same_for_programs(here: tuple[Desk, Path]) -> None:
    desk, run = here
    shown = json.loads(desk.good("show", run, TRIAL, "--json"))
    assert (shown["trial"], shown["point"], shown["fold"], shown["seed"]) == (17, 17, 0, 0)
    assert shown["state"] == "done"
    assert shown["params"]["width"] == 128
    assert len([record for record in shown["records"] if "metrics" in record and "step" in record]) >= 15


def test_show_log_prints_only_the_output(here: tuple[Desk, Path]) -> None:
    desk, run = here
    assert desk.good("show", run, TRIAL, "--log") == ""


def test_rerun_gives_the_same_value_to_the_last_bit(here: tuple[Desk, Path]) -> None:
    desk, run = here
    (desk.root / "trial17.yaml").write_text(desk.good("show", run, TRIAL, "--yaml"))
    before = desk.good("status", run, "--json")

    said = desk.good("rerun", run, "trial17.yaml")

    assert "equal to the last bit" in said
    assert "trial 17 ran again in " in said
    assert desk.good("status", run, "--json") == before


def test_rerun_with_other_parameters_is_not_compared(here: tuple[Desk, Path]) -> None:
    desk, run = here
    text = desk.good("show", run, TRIAL, "--yaml")
    assert "epochs: 15" in text
    (desk.root / "mine.yaml").write_text(text.replace("epochs: 15", "epochs: 2"))
    said = desk.good("rerun", run, "mine.yaml")
    assert "parameters of your own" in said


def test_a_trial_that_does_not_exist(here: tuple[Desk, Path]) -> None:
    desk, run = here
    for verb in ("show", "rerun"):
        assert "trial 90 does not exist: the run has the trials 0 to 89" in desk.refused(verb, run, "90")


def test_a_yaml_that_fits_no_trial_is_refused(here: tuple[Desk, Path]) -> None:
    desk, run = here
    text = desk.good("show", run, TRIAL, "--yaml")
    desk.write("fold.yaml", text.replace("fold: 0", "fold: 7"))
    assert "the run has no trial with fold 7 and seed 0" in desk.refused("rerun", run, "fold.yaml")
    desk.write("key.yaml", text.replace("parameters:", "paramters:"))
    assert "did you mean 'parameters'?" in desk.refused("rerun", run, "key.yaml")
