"""What the caller of a command may leave closed, or name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.command_line import Desk, desk

BAD = os.fsdecode(b"bad\xff\xfe")


@pytest.fixture
def here(tmp_path: Path) -> Desk:
    return desk(tmp_path)


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_closed_descriptors_change_nothing(here: Desk, closed: str) -> None:
    (here.root / "place").mkdir()
    for verb in (["doctor", "place"], ["plan", "search.yaml", "--run", "run"], ["doctor", "run"]):
        said = here.run(["sh", "-c", f'"$@" {closed}', "sh", *here.argv(*verb)])
        assert said.code == 0, said.all
        assert "verdict: trials are claimed by" in said.out or "planned now" in said.out, said.all
        assert not said.err


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_without_an_output_the_exit_code_still_says_it(here: Desk, closed: str) -> None:
    (here.root / "place").mkdir()
    said = here.run(["sh", "-c", f'"$@" {closed}', "sh", *here.argv("doctor", "place")])
    assert said.code == 0, said.all
    said = here.run(["sh", "-c", f'"$@" {closed}', "sh", *here.argv("status", "nowhere")])
    assert said.code == 2, said.all


def test_an_error_is_not_written_to_the_output_where_stderr_is_closed(here: Desk) -> None:
    said = here.run(["sh", "-c", '"$@" 2>&-', "sh", *here.argv("status", "nowhere")])
    assert (said.code, said.out) == (2, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "search.yaml", "--run", BAD],
        ["plan", f"{BAD}/search.yaml"],
        ["doctor", BAD],
        ["doctor", ".", "--second-mount", BAD],
        ["status", BAD],
        ["--root", BAD, "status", "run"],
    ],
)
def test_a_path_that_is_not_utf8_is_refused_before_anything_is_made(here: Desk, arguments: list[str]) -> None:
    (here.root / BAD).mkdir()
    before = sorted(os.listdir(here.root))
    err = here.refused(*arguments)
    assert r"bad\xff\xfe" in err
    assert "is not UTF-8" in err
    assert "next: " in err
    assert sorted(os.listdir(here.root)) == before
    assert not os.listdir(here.root / BAD)


def test_a_working_directory_that_is_not_utf8_gives_no_traceback(tmp_path: Path) -> None:
    (tmp_path / BAD).mkdir()
    here = desk(tmp_path / BAD)
    assert "is not UTF-8" in here.refused("plan", "search.yaml")
    said = here("doctor")
    assert said.code == 1, said.all
    assert "not UTF-8" in said.out
    assert "Traceback" not in said.all


def test_an_output_that_cannot_take_the_words_gives_no_traceback(here: Desk) -> None:
    (here.root / "pläce").mkdir()
    plain = Desk(here.root, environment={"PYTHONIOENCODING": "ascii:strict"})
    said = plain("doctor", "pläce")
    assert said.code == 2, said.all
    assert "PYTHONUTF8=1" in said.err
    assert "Traceback" not in said.all
