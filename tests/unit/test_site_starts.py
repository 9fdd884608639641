"""Why tasks did not start: from their logs, and from SLURM where there is no log."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search.layout import Layout
from hpc_search.site.starts import CANNOT_START, troubles


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.submitit.mkdir()
    return layout


def log(layout: Layout, name: str, text: str) -> None:
    (layout.submitit / name).write_text(text)


def test_equal_reasons_of_many_tasks_are_one_sentence_with_the_nodes(layout: Layout) -> None:
    for task, node in enumerate(["n2", "n1", "n2"]):
        log(layout, f"a_{task}.log", f"module: noise\n{CANNOT_START}{node}: /x: y is missing there\n")
    log(layout, "b_0.log", f"{CANNOT_START}n9: other\n")
    log(layout, "b_1.log", "all is well\n")
    log(layout, "ended.log", f"{CANNOT_START}n7: of long ago\n")

    assert troubles(layout, ()) == [
        "3 tasks could not start on n1, n2: /x: y is missing there",
        "1 task could not start on n9: other",
    ]


def test_a_run_without_submissions_has_no_troubles(tmp_path: Path) -> None:
    assert troubles(Layout(tmp_path / "nothing"), ("a",)) == []


@pytest.mark.parametrize(
    ("squeue", "sacct", "found"),
    [
        ("n1|JobLaunchFailure", "", True),
        ("", "n1|0:53", True),
        ("n1|None", "n1|0:53", False),
        ("", "n1|0:15", False),
        ("", "", False),
    ],
)
def test_a_token_without_a_log_is_looked_up_in_slurm(
    layout: Layout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    squeue: str,
    sacct: str,
    found: bool,
) -> None:
    for name, answer in (("squeue", squeue), ("sacct", sacct)):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{answer}'\necho {name} >>'{tmp_path}/calls'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    log(layout, "t-1.sh", "#!/bin/bash")
    log(layout, "t-2.sh", "#!/bin/bash")
    log(layout, "t-2_0.log", "")

    words = troubles(layout, ("t-1", "t-2"))

    assert bool(words) == found
    if found:
        assert words[0].startswith("1 task could not start on n1: their logs cannot be written to")


def test_slurm_is_not_asked_where_every_token_left_a_log(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "squeue").write_text(f"#!/bin/sh\ntouch '{tmp_path}/asked'\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    log(layout, "t-2.sh", "#!/bin/bash")
    log(layout, "t-2_0.log", "")

    assert troubles(layout, ("t-2", "folded-long-ago")) == []
    assert not (tmp_path / "asked").exists()
