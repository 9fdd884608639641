"""What was planned is what runs, whatever happens to the sources afterwards."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from hpc_search import search
from hpc_search.layout import Layout
from hpc_search.ledger import history, snapshots
from hpc_search.records import journal
from tests.e2e.command_line import ROOT, Desk, desk
from tests.waiting import wait_until

FUNCTION = """
name: my search
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [1, 2, 3]}
strategy: grid
heartbeat: 0.5
lease: 10
"""
COMMAND = FUNCTION.replace(
    "trial: train.py:train",
    "command: [%s, train.py, conf.json, 'x={x}']" % sys.executable,  # noqa: UP031
)
PROGRAM = """
import json, os, sys, helper
factor = json.load(open(sys.argv[1]))["factor"]
x = float(sys.argv[2].removeprefix("x=")) + float(open("data.txt").read())
with open(os.environ["HPC_SEARCH_REPORT"], "a") as report:
    report.write(json.dumps({"acc": x * factor * helper.FACTOR}))
"""
HELD = """
import time, pathlib
def train(trial):
    pathlib.Path("held").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.05)
    return {"acc": trial.params["x"] * %d}
"""


@pytest.fixture
def bench(tmp_path: Path) -> Desk:
    return desk(tmp_path)


def values(bench: Desk, run: str = "r") -> dict[int, float | None]:
    """Return trial -> value of what ended."""
    ends = history.results(Layout(bench.root / run))
    return {trial: result.end.value for trial, result in ends.items()}


def rows(bench: Desk, name: str, run: str = "r") -> list[dict[str, str]]:
    with (bench.root / run / "results" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def taken_again(bench: Desk) -> list[str]:
    """Do what `submit --resnapshot` does first, without a worker."""
    return search.change_code(search.open_run(str(bench.root / "r")), again=True, any_packages=False)


def git(folder: Path, *arguments: str) -> None:
    argv = ["git", "-c", "user.name=x", "-c", "user.email=x@y", *arguments]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True)


# -- editable installations
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "1.0"
[tool.setuptools]
{how}
"""


@pytest.fixture(scope="module")
def editable_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with two editable packages: one in src/, one in a directory of another name (a finder)."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("editable")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    (site,) = (folder / "venv/lib").glob("python3*/site-packages")
    (site / "ours.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    for name, where, how in (
        ("mylib", "src/mylib", 'package-dir = {"" = "src"}'),
        ("mapped", "code", 'packages = ["mapped"]\npackage-dir = {mapped = "code"}'),
    ):
        project = folder / name
        (project / where).mkdir(parents=True)
        (project / "pyproject.toml").write_text(PROJECT.format(name=name, how=how))
        (project / where / "__init__.py").write_text("")
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-build-isolation"]
        argv = [*pip, "--no-deps", "--no-index", "--disable-pip-version-check", "-e", str(project)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return python


def test_an_editable_package_of_a_repository_runs_as_planned(bench: Desk, editable_python: Path) -> None:
    """Edited, broken and deleted while the jobs queue; data and late imports come from the kept copy."""
    folder = editable_python.parents[2]
    lib, mapped = folder / "mylib/src/mylib", folder / "mapped/code"
    (lib / "__init__.py").write_text("from importlib.resources import files\nFACTOR = 2\n")
    (lib / "late.py").write_text(
        "from pathlib import Path\nTEN = int((Path(__file__).parent / 'ten').read_text())"
    )
    (lib / "ten").write_text("10")
    (mapped / "__init__.py").write_text("HUNDRED = 100\n")
    bench.write(
        "train.py",
        """
        import importlib, mylib, mapped
        def train(trial):
            late = importlib.import_module("mylib.late")
            ten = int(mylib.files("mylib").joinpath("ten").read_text())
            assert ten == late.TEN
            return {"acc": trial.params["x"] * mylib.FACTOR * ten + mapped.HUNDRED}
        """,
    )
    git(folder / "mylib", "init", "-q")
    git(folder / "mylib", "add", "-A")
    git(folder / "mylib", "commit", "-qm", "first")
    (lib / "late.py").write_text((lib / "late.py").read_text() + "\n# edited")
    bench.write("search.yaml", FUNCTION)

    def call(*arguments: str) -> str:
        said = bench.run([str(editable_python), "-m", "hpc_search", *arguments])
        assert said.code == 0, said.all
        return said.out

    said = call("plan", "search.yaml", "--run", "r")
    assert "5 files kept" in said
    found = json.loads((bench.root / "r/provenance.json").read_bytes())
    (repository,) = found["repositories"]
    assert (repository["holds"], repository["dirty"], len(repository["commit"])) == (["mylib"], True, 40)
    assert "+# edited" in (bench.root / "r/code.diff").read_text()
    assert str(folder) not in (bench.root / "r/provenance.json").read_text()
    shutil.rmtree(lib)
    (mapped / "__init__.py").write_text("HUNDRED = (")
    (bench.root / "train.py").write_text("raise SystemExit")
    call("submit", "r", "--launcher", "local", "--workers", "1", "--wait")
    assert values(bench) == {0: 120.0, 1: 140.0, 2: 160.0}
    call("fsck", "r")


def test_a_command_runs_the_kept_copies_in_the_directory_of_the_search(bench: Desk) -> None:
    bench.write("search.yaml", COMMAND)
    bench.write("train.py", PROGRAM)
    bench.write("helper.py", "FACTOR = 10")
    bench.write("conf.json", '{"factor": 2}')
    bench.write("data.txt", "0.5")
    assert "the command runs the kept train.py, conf.json" in bench.good("plan", "search.yaml", "--run", "r")
    (bench.root / "helper.py").unlink()
    bench.write("train.py", "raise SystemExit(1)")
    bench.write("conf.json", "")
    bench.go("r")
    assert values(bench) == {0: 30.0, 1: 50.0, 2: 70.0}


def test_python_m_runs_the_kept_module(bench: Desk) -> None:
    command = FUNCTION.replace(
        "trial: train.py:train", f"command: [{sys.executable}, -m, lab.train, 'x={{x}}']"
    )
    bench.write("search.yaml", command)
    bench.write("lab/__init__.py", "")
    bench.write(
        "lab/train.py", PROGRAM.replace('json.load(open(sys.argv[1]))["factor"]', "2").replace("[2]", "[1]")
    )
    bench.write("helper.py", "FACTOR = 10")
    bench.write("data.txt", "0.5")
    bench.good("plan", "search.yaml", "--run", "r")
    bench.write("lab/train.py", "raise SystemExit(1)")
    bench.write("helper.py", "FACTOR = 0")
    bench.go("r")
    assert values(bench) == {0: 30.0, 1: 50.0, 2: 70.0}


# -- taken again
def test_sources_taken_again_run_in_new_workers_and_results_tell_by_which_they_came(bench: Desk) -> None:
    bench.write("train.py", "def train(trial): return {'acc': trial.params['x'] * 1}")
    bench.good("plan", "search.yaml", "--run", "r")
    bench.write("train.py", "def train(trial): return {'acc': trial.params['x'] * 100}")
    bench.good("work", "r", "--trials", "1")
    assert values(bench) == {0: 1.0}
    said = bench.good("submit", "r", "--resnapshot", "--launcher", "local", "--workers", "1", "--wait")
    assert "snapshot 1: code " in said
    assert values(bench) == {0: 1.0, 1: 200.0, 2: 300.0}
    again = bench.good("submit", "r", "--resnapshot", "--launcher", "local")
    assert "nothing changed in the sources" in again
    assert "warning: results of several snapshots of the code are mixed: " in bench.good("collect", "r")
    codes = [row["code"] for row in rows(bench, "results.csv")]
    assert codes[0] != codes[1] == codes[2]
    assert codes == [row["code"] for row in rows(bench, "attempts.csv")]
    assert bench("fsck", "r").code == 0
    # Each runs again by the code that it came from.
    for trial in ("0", "2"):
        assert "equal to the last bit" in bench.good("rerun", "r", trial)
    bench.write("train.py", "def train(trial): return {'acc': trial.params['x'] * 1}")
    assert "snapshot 2: " in bench.good("submit", "r", "--resnapshot", "--launcher", "local")
    record = snapshots.load(Layout(bench.root / "r"), 2)
    assert (record.code, record.digest) == ("code.zip", codes[0])


def test_a_worker_that_runs_keeps_its_code(bench: Desk) -> None:
    bench.write("train.py", HELD % 1)
    bench.good("plan", "search.yaml", "--run", "r")
    worker = subprocess.Popen(bench.argv("work", "r"), cwd=bench.root, env=bench.variables())
    wait_until((bench.root / "held").exists, 60)
    bench.write("train.py", HELD % 100)
    (said,) = taken_again(bench)
    assert "those at work keep theirs" in said
    (bench.root / "go").touch()
    assert worker.wait(60) == 0
    assert values(bench) == {0: 1.0, 1: 2.0, 2: 3.0}


def test_sources_that_are_removed_on_a_node_under_a_worker_are_no_fault_of_the_trial(
    bench: Desk, tmp_path: Path
) -> None:
    """As programs do that clean up /tmp."""
    place = tmp_path / "tmp"
    place.mkdir()
    bench.write("train.py", HELD.replace("    return", "    import later\n    return") % 1)
    bench.write("later.py", "")
    bench.write("search.yaml", FUNCTION + "retry: {error: 0}\n")
    bench.good("plan", "search.yaml", "--run", "r")
    environ = {**bench.variables(), "TMPDIR": str(place)}
    worker = subprocess.Popen(bench.argv("work", "r"), cwd=bench.root, env=environ)
    wait_until((bench.root / "held").exists, 60)
    shutil.rmtree(next(place.glob("hpc_search-*/*")))
    (bench.root / "go").touch()
    assert worker.wait(60) == 0
    assert values(bench) == {0: 1.0, 1: 2.0, 2: 3.0}
    attempts = history.results(Layout(bench.root / "r"))
    assert attempts[0].end.attempt == 2
    assert not list(place.glob("hpc_search-*/*"))


def test_sources_that_vanish_on_a_node_before_they_are_imported_are_put_right(bench: Desk) -> None:
    bench.write("helper.py", "FACTOR = 2")
    bench.write(
        "train.py",
        """
        import os, pathlib
        if not pathlib.Path("vanished").exists():
            pathlib.Path("vanished").touch()
            os.unlink(pathlib.Path(__file__).with_name("helper.py"))
        import helper
        def train(trial):
            return {"acc": trial.params["x"] * helper.FACTOR}
        """,
    )
    bench.write("search.yaml", FUNCTION)
    bench.good("plan", "search.yaml", "--run", "r")
    bench.good("work", "r")
    assert values(bench) == {0: 2, 1: 4, 2: 6}
    assert (bench.root / "vanished").exists()


@pytest.mark.parametrize("damage", ["archive", "record"])
def test_damaged_sources_are_found_and_stop_new_workers_only(bench: Desk, damage: str) -> None:
    bench.good("plan", "search.yaml", "--run", "r")
    bench.write("train.py", "def train(trial): return {'acc': trial.params['x'] * 100}")
    taken_again(bench)
    layout = Layout(bench.root / "r")
    record = snapshots.load(layout, 1)
    path = layout.root / record.code if damage == "archive" else layout.snapshot_record(1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert bench("work", "r").code == 1
    assert values(bench) == {}
    said = bench("fsck", "r")
    assert said.code == 4, said.all
    assert path.name in said.out


def test_sources_that_are_gone_cannot_be_taken_again(bench: Desk) -> None:
    bench.good("plan", "search.yaml", "--run", "r")
    (bench.root / "train.py").unlink()
    assert f"there is no file {bench.root / 'train.py'}" in bench.refused("submit", "r", "--resnapshot")
    bench.write("train.py", "def train(trial:")
    assert "train.py:1: the file is not valid Python" in bench.refused("submit", "r", "--resnapshot")


def test_snapshot_none_runs_what_is_there(bench: Desk) -> None:
    bench.write("search.yaml", FUNCTION + "snapshot: none\n")
    assert "code       not kept (snapshot: none)" in bench.good("plan", "search.yaml", "--run", "r")
    assert not (bench.root / "r/code.zip").exists()
    bench.write("train.py", "def train(trial): return {'acc': trial.params['x'] * 100}")
    assert "snapshot: none" in bench.refused("submit", "r", "--resnapshot")
    bench.go("r")
    assert values(bench) == {0: 100.0, 1: 200.0, 2: 300.0}


# -- packages
@pytest.fixture
def package(tmp_path: Path) -> Any:
    """An installed package with a version that can be changed, and the desk that has it."""
    site = tmp_path / "site"
    (site / "fakelib").mkdir(parents=True)
    (site / "fakelib/__init__.py").write_text("")

    def version(number: str) -> None:
        for path in site.glob("fakelib-*"):
            shutil.rmtree(path)
        info = site / f"fakelib-{number}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: fakelib\nVersion: {number}\n")

    version("1.0+cpu")
    (tmp_path / "desk").mkdir()
    made = desk(tmp_path / "desk")
    made.write("train.py", "import fakelib\ndef train(trial): return {'acc': trial.params['x']}")
    return Desk(made.root, environment={"PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}), version


def notes(bench: Desk, event: str) -> list[str]:
    found = history.lines(Layout(bench.root / "r"), frozenset({b"note"}))
    records = [journal.parse_line(line.data) for line in found]
    return [record.text for record in records if isinstance(record, journal.Note) and record.event == event]


def test_another_version_of_a_package_is_refused_before_an_attempt_and_can_be_allowed(package: Any) -> None:
    bench, version = package
    bench.good("plan", "search.yaml", "--run", "r")
    version("2.0")
    said = bench.go("r", code=1)
    assert "fakelib 2.0 here, 1.0+cpu when planned" in said.all
    assert "submit RUN --allow-different-packages" in said.all
    assert list(history.lines(Layout(bench.root / "r"), frozenset({b"start"}))) == []
    said_ok = bench.good("submit", "r", "--allow-different-packages", "--launcher", "local", "--wait")
    assert "record 1: workers that start from now on may have other packages" in said_ok
    assert values(bench) == {0: 1.0, 1: 2.0, 2: 3.0}
    assert set(notes(bench, "packages")) == {"fakelib 2.0 here, 1.0+cpu when planned"}
    assert "allowed already" in bench.good("submit", "r", "--allow-different-packages", "--launcher", "local")


def test_another_build_of_a_version_is_only_told(package: Any) -> None:
    bench, version = package
    bench.good("plan", "search.yaml", "--run", "r")
    version("1.0+cu128")
    bench.go("r")
    assert notes(bench, "packages") == ["fakelib 1.0+cu128 here, 1.0+cpu when planned"]


def test_a_missing_provenance_refuses_nothing(package: Any) -> None:
    bench, version = package
    bench.good("plan", "search.yaml", "--run", "r")
    version("2.0")
    (bench.root / "r/provenance.json").unlink()
    bench.go("r")
    assert notes(bench, "packages") == []
