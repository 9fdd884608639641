"""What a trial sees of its fold: never the test side, all sides that a refit trains on, and leaks by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpc_search.errors import DamagedError, UsageError
from hpc_search.layout import Layout
from hpc_search.planning import manifests
from hpc_search.records.search import DataSpec, FoldsSpec, Metric, Search, StrategySpec, TrialSpec
from hpc_search.runners import command
from hpc_search.space import Choice, Space
from hpc_search.splits import parse_manifest
from hpc_search.trial import Spec
from hpc_search.trial.split import Split, read_split

ROWS = 30


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return planned(tmp_path, FoldsSpec(kind="kfold", n=3, test_share=0.2))


def planned(root: Path, folds: FoldsSpec) -> Layout:
    """Write a table, and the manifests of a plan of it."""
    rows = "".join(f"s{row:02},{row % 3},{1000 + row}\n" for row in range(ROWS))
    (root / "data.csv").write_text(f"sample,label,when\n{rows}")
    space = Space({"x": Choice((1, 2))})
    search = Search(
        name="example",
        trial=TrialSpec(callable="train.py:train"),
        metric=Metric(name="acc", goal="max"),
        space=space,
        strategy=StrategySpec("grid"),
        data=DataSpec(index="data.csv", id="sample", label="label", time="when"),
        folds=folds,
    )
    for name, content in manifests.make(search, root).files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return Layout(root)


def everything() -> list[str]:
    return [f"s{row:02}" for row in range(ROWS)]


# -- which ids
def test_the_test_side_is_closed_in_a_search_and_opened_by_test_alone(layout: Layout) -> None:
    split = read_split(layout, 1)
    with pytest.raises(UsageError, match=r"opened only by `hpc-search test RUN`"):
        _ = split.test
    assert "test" not in repr(split)
    opened = read_split(layout, 1, "train+val", testing=True)
    assert len(opened.test) == 6
    assert not {*opened.test} & {*split.train, *split.val}


@pytest.mark.parametrize("refit", ["", "train", "train+val", "everything"])
def test_a_refit_trains_on_the_sides_that_it_names(layout: Layout, refit: str) -> None:
    plain = read_split(layout, 0)
    split = read_split(layout, 0, refit)
    expected = {
        "": (plain.train, plain.val),
        "train": (plain.train, plain.val),
        "train+val": (plain.train + plain.val, ()),
        "everything": (plain.train + plain.val + read_split(layout, 0, testing=True).test, ()),
    }
    assert (split.train, split.val) == expected[refit]
    assert len(split.train) == {"": 16, "train": 16, "train+val": 24, "everything": 30}[refit]
    with pytest.raises(UsageError):
        _ = split.test


def test_everything_of_a_fold_without_a_test_side_is_train_and_val(tmp_path: Path) -> None:
    layout = planned(tmp_path, FoldsSpec(kind="kfold", n=3))
    assert sorted(read_split(layout, 2, "everything").train) == everything()
    assert read_split(layout, 2, testing=True).test == ()


# -- rows
def test_positions_are_where_the_rows_are(layout: Layout) -> None:
    split = read_split(layout, 2)
    ids = np.array(everything()[::-1])
    rows = split.positions(ids)
    assert (tuple(ids[rows.train]), tuple(ids[rows.val])) == (split.train, split.val)
    with pytest.raises(UsageError, match="opened only by"):
        _ = rows.test
    opened = read_split(layout, 2, testing=True)
    assert tuple(ids[opened.positions(ids).test]) == opened.test


def test_positions_of_a_part_of_the_data_need_only_the_sides_of_the_fold(layout: Layout) -> None:
    split = read_split(layout, 2)
    ids = [*split.val, *split.train]
    assert list(split.positions(ids).val) == list(range(len(split.val)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda ids, split: [name for name in ids if name != split.val[1]],
            r"1 id of the validation side not",
        ),
        (
            lambda ids, split: [name for name in ids if name not in split.train],
            r"16 ids of the training side",
        ),
        (lambda ids, _: [*ids, "s30", "s31"], r"2 ids loaded that no manifest has: 's30', 's31'"),
        (lambda ids, _: [*ids, ids[4]], r"1 id loaded twice: 's04'"),
        (lambda ids, _: [name.upper() for name in ids], r"'s00'.*no manifest has: 'S00'.*, \.\.\."),
    ],
)
def test_data_that_are_not_those_of_the_plan_are_refused_by_name(
    layout: Layout, change: Any, words: str
) -> None:
    split = read_split(layout, 0)
    ids = change(everything(), split)
    for check in (split.check, split.positions):
        with pytest.raises(UsageError, match=f"are not those of the plan: .*{words}"):
            check(ids)


def test_rows_that_a_split_leaves_out_may_be_loaded(tmp_path: Path) -> None:
    sides = {"train": everything()[:9], "val": everything()[9:20], "test": everything()[20:27]}
    (tmp_path / "folds.json").write_text(json.dumps({"folds": {"1": sides}}))
    layout = planned(tmp_path, FoldsSpec(kind="file", file="folds.json"))
    assert layout.splits_rest.exists()
    split = read_split(layout, 1)
    assert len({*split.train, *split.val}) < ROWS
    split.check(everything())
    with pytest.raises(UsageError, match="1 id loaded that no manifest has: 'new'"):
        split.check([*everything(), "new"])


# -- leaks
def test_a_planted_leak_is_named_with_the_side_that_it_is_of(layout: Layout) -> None:
    split = read_split(layout, 1)
    test = read_split(layout, 1, testing=True).test
    split.check(everything(), train=split.train, val=split.val)
    with pytest.raises(UsageError, match=rf"train: 1 id of the validation side: '{split.val[3]}'"):
        split.check(train=[*split.train, split.val[3]])
    with pytest.raises(UsageError, match=rf"val: 2 ids of the test side: '{test[0]}', '{test[1]}'"):
        split.check(val=[*split.val, *test[:2]])
    with pytest.raises(UsageError, match=r"train: 1 id missing: .*; val: 1 id of the training side"):
        split.check(train=split.train[1:], val=[*split.val, split.train[0]])
    with pytest.raises(UsageError, match=r"train: 1 id twice: .*; train: 1 id of no side of the fold: 'x'"):
        split.check(train=[*split.train, split.train[0], "x"])


def test_a_scaler_looks_at_no_row_of_another_side(layout: Layout) -> None:
    split = read_split(layout, 1)
    ids = np.array(everything())
    values = np.arange(ROWS, dtype=np.float64)[:, None]
    train = split.positions(ids).train
    planted = values.copy()
    planted[[row for row in range(ROWS) if row not in train]] = 1e9
    scaler = split.scaler(planted, ids)
    assert scaler.center.item() == values[train].mean()
    assert np.allclose(scaler.apply(values[train]).std(), 1)
    with pytest.raises(UsageError, match="training ids have no row"):
        split.scaler(values[train][1:], ids[train][1:])


# -- programs
def environment(layout: Layout, directory: Path, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "root": str(layout.root),
        "run_id": "r",
        "search_id": "s",
        "worker": "w" * 16,
        "number": 7,
        "point": 3,
        "fold": 2,
        "seed": 2,
        "params": {},
        "attempt": 4,
        "metric": "acc",
    }
    made = command.environment({}, Spec(**fields | more), Path("report"), directory)
    found: dict[str, Any] = json.loads(made["HPC_SEARCH_TRIAL"])
    return found


def test_a_program_never_gets_the_path_of_the_test_side_in_a_search(layout: Layout, tmp_path: Path) -> None:
    found = environment(layout, tmp_path)
    sides = {side: str(layout.split_manifest(2, side)) for side in ("train", "val")}
    assert (found["split"], found["refit"], found["testing"]) == (sides, "", False)
    assert environment(layout, tmp_path, refit="train")["split"] == sides
    testing = environment(layout, tmp_path, refit="train+val", testing=True)
    assert (testing["split"], testing["testing"]) == ({"test": str(layout.split_manifest(2, "test"))}, True)
    assert environment(layout, tmp_path, fold=None, refit="everything")["split"] == {}


@pytest.mark.parametrize("refit", ["train+val", "everything"])
def test_a_program_gets_one_manifest_of_all_that_it_trains_on(
    layout: Layout, tmp_path: Path, refit: str
) -> None:
    for _ in range(2):
        found = environment(layout, tmp_path, refit=refit)
    assert list(found["split"]) == ["train"]
    text = Path(found["split"]["train"]).read_text()
    assert text.splitlines()[0] == "id,label,time"
    assert parse_manifest(text, "str") == read_split(layout, 2, refit).train
    layout.split_manifest(2, "val").write_text("id,label\n")
    with pytest.raises(DamagedError, match="changed after the plan"):
        environment(layout, tmp_path, refit=refit)


def test_a_split_can_be_made_by_hand() -> None:
    split = Split((1, 2), (3,))
    assert list(split.positions([3, 2, 1]).train) == [2, 1]
    with pytest.raises(UsageError, match="train: 1 id of the validation side: 3"):
        split.check(train=[1, 2, 3])
