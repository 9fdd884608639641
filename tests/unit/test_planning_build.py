"""Making a run: complete or absent, the same again changes nothing, another search is refused."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import stat
from pathlib import Path

import pytest

from hpc_search import durable, planning
from hpc_search.config import load_search
from hpc_search.errors import ConfigError, TemporaryError, UsageError
from hpc_search.layout import Layout
from hpc_search.ledger import read_index
from hpc_search.planning import Numbering, load_instance, load_plan
from hpc_search.planning.describe import counts
from hpc_search.trial.split import read_split
from tests.waiting import wait_until

SEARCH = """\
name: example
trial: train.py:train
metric: {name: acc, goal: max}
space: {lr: [0.1, 0.2], width: {int: [1, 3]}}
fixed: {epochs: 2}
strategy: grid
seeds: [0, 1]
"""
DATA = (
    SEARCH + "data: {index: data.csv, id: id, label: y}\nfolds: {stratified: 2, seed: 0, test_share: 0.2}\n"
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text("def train(trial): pass\n")
    rows = "".join(f"{number},{number % 2}\n" for number in range(20))
    (tmp_path / "data.csv").write_text("id,y\n" + rows)
    return tmp_path


def draft(base: Path, text: str = SEARCH) -> planning.Draft:
    (base / "search.yaml").write_text(text)
    return planning.draft(base / "search.yaml")


def plan(base: Path, text: str = SEARCH) -> bool:
    return planning.build(draft(base, text), Layout(base / "run"))


def content(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_a_run_holds_its_plan_its_code_and_an_untouched_index(base: Path) -> None:
    assert plan(base)
    layout = Layout(base / "run")
    made = load_plan(layout)
    header, entries = read_index(layout)
    assert (made.points, made.trials, header.trials, len(entries)) == (6, 12, 12, 12)
    assert {entry.state for entry in entries} == {0}
    assert counts(made.blocks) == "6 points x 2 seeds = 12 trials"
    assert made.run_id.startswith(made.search_id)
    assert load_search(layout.search_yaml) == made.search


def test_only_the_owner_may_look_into_a_run(base: Path) -> None:
    plan(base)
    run = base / "run"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in [run, *run.rglob("*")]}
    assert modes == {0o700, 0o600}


def test_no_record_but_instance_holds_an_absolute_path(base: Path) -> None:
    plan(base, DATA)
    for name, data in content(base / "run").items():
        assert name == "instance.json" or os.fsencode(base) not in data, name
    instance = load_instance(Layout(base / "run"))
    assert (instance.path, instance.origin) == (str(base / "run"), str(base))


def test_the_same_search_again_changes_nothing(base: Path) -> None:
    plan(base, DATA)
    before = content(base / "run")
    assert not plan(base, DATA)
    assert not plan(base, "# a comment\n" + DATA.replace("seeds: [0, 1]", "seeds:\n - 0\n - 1"))
    assert content(base / "run") == before
    assert not [path for path in base.iterdir() if path.name.startswith(durable.TEMPORARY)]


def test_a_changed_search_is_refused_with_the_difference(base: Path) -> None:
    plan(base)
    before = content(base / "run")
    with pytest.raises(
        UsageError, match=r"(?s)holds another search:.*-.*0\.1, 0\.2.*\+.*0\.1, 0\.3.*--run DIR"
    ):
        plan(base, SEARCH.replace("0.2]", "0.3]"))
    assert content(base / "run") == before


def test_changed_data_are_refused_though_the_file_is_the_same(base: Path) -> None:
    plan(base, DATA)
    with (base / "data.csv").open("a") as file:
        file.write("99,1\n")
    with pytest.raises(UsageError, match="data changed"):
        plan(base, DATA)


def test_a_place_that_holds_something_else_is_refused(base: Path) -> None:
    (base / "run").mkdir()
    (base / "run" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="exists and is not a run"):
        plan(base)
    assert content(base / "run") == {"thesis.txt": b"x"}


def test_a_place_that_is_a_file_is_refused(base: Path) -> None:
    (base / "run").write_text("x")
    with pytest.raises(UsageError):
        plan(base)


def test_an_empty_directory_is_taken(base: Path) -> None:
    (base / "run").mkdir()
    assert plan(base)


@pytest.mark.parametrize("place", ["new/deeper/run", "link", "../empty/run"])
def test_any_place_can_be_named(base: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    made = draft(base)
    (base / "empty").mkdir()
    (base / "target").mkdir()
    (base / "empty" / "link").symlink_to(base / "target")
    monkeypatch.chdir(base / "empty")
    assert planning.build(made, Layout(Path(place)))
    assert load_plan(Layout(Path(place))).trials == 12
    assert load_instance(Layout(Path(place))).path == str(Path(place).resolve())


def test_the_working_directory_cannot_be_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = draft(base)
    (base / "empty").mkdir()
    monkeypatch.chdir(base / "empty")
    with pytest.raises(UsageError, match="is the working directory"):
        planning.build(made, Layout(Path()))


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run"):
        load_plan(Layout(tmp_path))


# -- in the middle
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_temporary_and_leaves_nothing(
    base: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    made = draft(base)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "truncate", fail)
    with pytest.raises(TemporaryError, match=os.strerror(number)):
        planning.build(made, Layout(base / "run"))
    assert {path.name for path in base.iterdir()} == {"train.py", "data.csv", "search.yaml"}


def test_a_place_that_may_not_be_written_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = draft(base)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(UsageError, match="Read-only file system"):
        planning.build(made, Layout(base / "run"))


def build_in_child(base: Path, start: str, won: str) -> None:
    made = planning.draft(base / "search.yaml")
    (base / start).touch()
    wait_until((base / "go").exists)
    (base / won).write_text(str(planning.build(made, Layout(base / "run"))))


def test_two_plans_at_once_give_one_run(base: Path) -> None:
    (base / "search.yaml").write_text(DATA)
    fork = multiprocessing.get_context("fork")
    names = [f"{number}" for number in range(4)]
    children = [fork.Process(target=build_in_child, args=(base, f"s{name}", f"w{name}")) for name in names]
    for child in children:
        child.start()
    wait_until(lambda: all((base / f"s{name}").exists() for name in names))
    (base / "go").touch()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert sorted((base / f"w{name}").read_text() for name in names) == ["False"] * 3 + ["True"]
    assert load_plan(Layout(base / "run")).trials == 24
    assert not [path for path in base.iterdir() if path.name.startswith(durable.TEMPORARY)]


def killed_in_the_middle(base: Path, after: int) -> None:
    made = planning.draft(base / "search.yaml")
    real, left = durable.write_file, [after]

    def write_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        real(path, data, mode=mode)

    durable.write_file = write_file
    planning.build(made, Layout(base / "run"))


@pytest.mark.parametrize("after", [0, 3, 9])
def test_a_plan_killed_in_the_middle_leaves_nothing_at_the_final_name(base: Path, after: int) -> None:
    (base / "search.yaml").write_text(DATA)
    child = multiprocessing.get_context("fork").Process(target=killed_in_the_middle, args=(base, after))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert not (base / "run").exists()
    assert plan(base, DATA)


# -- checks
def test_the_function_and_the_program_are_checked(base: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'train'"):
        draft(base, SEARCH.replace(":train", ":trian"))
    with pytest.raises(UsageError, match="no_such_program"):
        draft(base, SEARCH.replace("trial: train.py:train", "command: [no_such_program]"))


def test_a_command_that_forgets_a_parameter_is_refused(base: Path) -> None:
    with pytest.raises(UsageError, match="'width', but no argument uses it"):
        draft(base, SEARCH.replace("trial: train.py:train", 'command: [sh, -c, "{lr}"]'))
    with pytest.raises(UsageError, match="'width', but no argument uses it"):
        draft(base, SEARCH.replace("trial: train.py:train", 'command: [sh, -c, "{lr} {{width}}"]'))
    draft(base, SEARCH.replace("trial: train.py:train", "command: [sh]"))


def test_an_unknown_placeholder_is_refused_with_a_near_miss(base: Path) -> None:
    with pytest.raises(ConfigError, match="widht"):
        draft(base, SEARCH.replace("trial: train.py:train", 'command: [sh, "{lr}", "{widht}"]'))


# -- folds
def test_manifests_hold_every_row_once_and_the_test_share_in_a_file_of_its_own(base: Path) -> None:
    plan(base, DATA)
    layout = Layout(base / "run")
    first, second = (read_split(layout, fold) for fold in (0, 1))
    test = {int(row.split(",")[0]) for row in layout.split_manifest(0, "test").read_text().splitlines()[1:]}
    assert len(test) == 4
    assert set(first.val) | set(second.val) | test == set(range(20))
    assert set(first.train) == set(second.val)
    assert not test & (set(first.train) | set(first.val))


def test_numbers_are_fold_major_and_carry_the_digest_of_their_block(base: Path) -> None:
    made = draft(base, DATA).plan
    numbering = Numbering(made)
    trials = [numbering(number) for number in range(made.trials)]
    assert [(trial.fold, trial.point, trial.seed) for trial in trials] == [
        (fold, point, seed) for fold in (0, 1) for point in range(6) for seed in (0, 1)
    ]
    assert {trial.block for trial in trials} == {made.blocks[0].digest}
    assert trials[0].params == {"lr": 0.1, "width": 1, "epochs": 2}
    assert numbering.point(3) == trials[6]


@pytest.mark.parametrize("number", [-1, 12, 10**9])
def test_a_trial_that_does_not_exist_is_named_with_the_range(base: Path, number: int) -> None:
    numbering = Numbering(draft(base).plan)
    with pytest.raises(UsageError, match="trials 0 to 11"):
        numbering(number)
    with pytest.raises(UsageError, match="points 0 to 5"):
        numbering.point(number)


def test_the_search_id_is_the_content_and_the_run_id_is_new(base: Path) -> None:
    one, two = draft(base).plan, draft(base, "# again\n" + SEARCH).plan
    assert one.search_id == two.search_id
    assert one.run_id != two.run_id
    assert draft(base, SEARCH.replace("seeds: [0, 1]", "seeds: [0]")).plan.search_id != one.search_id


def test_what_a_killed_plan_left_is_removed_by_the_next_one_when_it_is_old(base: Path) -> None:
    old, young = base / ".t-plan-old", base / ".t-plan-young"
    for path in (old, young):
        (path / "ledger").mkdir(parents=True)
    os.utime(old, (1, 1))
    assert plan(base)
    assert not old.exists()
    assert young.exists()
