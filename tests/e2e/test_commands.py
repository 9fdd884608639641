"""A trial that is a program: its arguments, its metrics, its failures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.e2e.command_line import Desk

#: What the program gets as {kind}: the name of a behaviour, or a value that a shell would act on.
HOSTILE = (
    "a b",
    'it\'s "quoted"',
    "`touch pwned`; touch pwned; $(touch pwned)",
    "*",
    "-n",
    "$HOME",
    "a\\nb",
    "ü✓",
)
KINDS = ("fine", "exit3", "silent", "not_json", "nan", "text", "killed")
PROGRAM = r"""
import json, os, sys

kind, number = sys.argv[1], int(sys.argv[2])
trial = json.loads(os.environ["HPC_SEARCH_TRIAL"])
with open(f"argv-{number}.json", "w") as file:
    directory = os.environ["HPC_SEARCH_CHECKPOINT_DIR"]
    json.dump({"argv": sys.argv[1:], "trial": trial, "directory": directory}, file)
print("this is trial", number, flush=True)

def report(**metrics):
    with open(os.environ["HPC_SEARCH_REPORT"], "a") as file:
        file.write(json.dumps(metrics) + "\n")

if kind == "exit3":
    report(acc=0.5)
    sys.exit(3)
if kind == "silent":
    sys.exit(0)
if kind == "killed":
    os.kill(os.getpid(), 9)
if kind == "not_json":
    with open(os.environ["HPC_SEARCH_REPORT"], "a") as file:
        file.write("acc 0.5\n")
    sys.exit(0)
report(step=0, acc=0.1, loss=2)
report(step=1, acc={"nan": float("nan"), "text": "high"}.get(kind, 0.5))
"""
SEARCH = f"""
name: programs
command: ["{sys.executable}", program.py, "{{kind}}", "{{number}}", "--kind={{kind}}", "{{{{}}}}"]
metric: {{name: acc, goal: max}}
space:
  kind: {json.dumps([*KINDS, *HOSTILE])}
strategy: grid
heartbeat: 0.5
lease: 10
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A finished run with one trial a value of kind."""
    made = Desk(tmp_path_factory.mktemp("programs"))
    made.write("program.py", PROGRAM)
    (made.root / "search.yaml").write_text(SEARCH)
    made.good("plan", "search.yaml", "--run", "r")
    made.go("r", code=1)
    return made


def test_counts(programs: Desk) -> None:
    seen = json.loads(programs.good("status", "r", "--json"))
    assert (seen["done"], seen["failed"]) == (1 + len(HOSTILE), len(KINDS) - 1)
    assert seen["causes"] == {"error": 4, "lost": 1, "nonfinite": 1}


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_stays_in_its_one_argument_and_no_shell_sees_it(programs: Desk, value: str) -> None:
    number = len(KINDS) + HOSTILE.index(value)
    found = json.loads((programs.root / f"argv-{number}.json").read_text())
    assert found["argv"] == [value, str(number), f"--kind={value}", "{}"]
    assert found["trial"]["params"] == {"kind": value}
    assert (found["trial"]["number"], found["trial"]["attempt"]) == (number, 1)
    assert found["directory"] == found["trial"]["checkpoint_dir"]
    assert not list(programs.root.rglob("pwned"))


def test_the_last_value_of_a_metric_counts_and_the_curve_is_kept(programs: Desk) -> None:
    said = programs.good("show", "r", "0")
    assert "result: acc = 0.5" in said
    assert "curve (2 reports)" in said
    assert "step      0  acc 0.1  loss 2" in said
    assert "this is trial 0" in said


@pytest.mark.parametrize(
    ("kind", "cause", "words"),
    [
        ("exit3", "error", "exit status 3"),
        ("silent", "error", "the trial did not return the metric 'acc'"),
        ("not_json", "error", "line 1 of the report is not JSON"),
        ("nan", "nonfinite", "the program reported acc = nan"),
        ("text", "error", "acc = 'high', which is not a number"),
        ("killed", "lost", "killed by SIGKILL; the kernel kills so when memory runs out"),
    ],
)
def test_a_program_that_fails_says_why(programs: Desk, kind: str, cause: str, words: str) -> None:
    said = programs.good("show", "r", str(KINDS.index(kind)))
    assert f"result: failed ({cause})" in said
    assert words in said
    assert "this is trial" in said


def _small(where: Path, command: str, more: str = "") -> Desk:
    made = Desk(where)
    head = "name: small\nmetric: {name: acc, goal: max}\nstrategy: grid\nspace: {x: [1, 2, 3]}\n"
    made.write("search.yaml", f"{head}heartbeat: 0.5\nlease: 10\ncommand: {command}\n{more}")
    made.good("plan", "search.yaml", "--run", "r")
    return made


def test_a_program_that_is_not_there_when_it_is_started_is_named(tmp_path: Path) -> None:
    there = _small(tmp_path, '["./run-{x}.sh"]')
    there.write("run-1.sh", "#!/bin/sh\necho '{\"acc\": 0.5}' >> $HPC_SEARCH_REPORT\n").chmod(0o700)
    there.write("run-2.sh", "#!/bin/sh\n").chmod(0o600)
    there.go("r", code=1)
    said = there.good("status", "r")
    assert "1 done, 2 failed (2 error)" in said
    assert "'./run-2.sh' cannot be started: Permission denied" in said
    assert "'./run-3.sh' cannot be started: No such file or directory" in said


def test_metric_file_is_read_from_the_trials_own_directory(tmp_path: Path) -> None:
    # Workers at the same time share the working directory: a file there would be another trial's.
    there = Desk(tmp_path)
    there.write("out.json", '{"acc": 99}')
    there.write(
        "write.py",
        """
        import json, sys
        if sys.argv[1] != "3":
            with open(sys.argv[2], "w") as file:
                json.dump({"acc": int(sys.argv[1]) / 10}, file)
        """,
    )
    command = f'["{sys.executable}", write.py, "{{x}}", "{{checkpoint_dir}}/out.json"]'
    _small(tmp_path, command, "metric_file: out.json\n")
    said = there("submit", "r", "--launcher", "local", "--workers", "2", "--wait")
    assert said.code == 1, said.all
    assert "result: acc = 0.1" in there.good("show", "r", "0")
    assert "result: acc = 0.2" in there.good("show", "r", "1")
    missing = there.good("show", "r", "2")
    assert "the program ended without writing" in missing
    assert "HPC_SEARCH_CHECKPOINT_DIR" in missing


def test_rerun_runs_the_program_again(programs: Desk) -> None:
    assert "equal to the last bit" in programs.good("rerun", "r", "0")
