"""Splits: folds of a folds.json, by ids, groups or two columns."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from typing import Any

import pytest

from hpc_search.errors import UsageError
from hpc_search.splits import Fold, FoldsSpec, Split, Table, make_split, manifest_csv
from tests.real_data import members

FILE = FoldsSpec(kind="file", file="folds.json")
#: 3 plants x 4 leaves x 2 pictures.
LEAVES = Table(
    tuple(range(24)),
    columns={
        "plant": tuple(f"p{i // 8}" for i in range(24)),
        "leaf": tuple(f"leaf{i // 2 % 4}" for i in range(24)),
        "side": ("upper", "lower") * 12,
    },
)
TREE = {
    "1": {
        "train": {"p0": ["leaf0", "leaf1"], "p1": ["leaf2", "leaf3"]},
        "val": {"p0": "leaf2", "p1": "leaf0"},
        "test": {"p0": "leaf3", "p1": "leaf1"},
    }
}


def of_file(table: Table, folds: Any, **more: Any) -> Split:
    return make_split(table, FILE, file=json.dumps({"folds": folds, **more}))


@pytest.mark.data
def test_real_spectra_have_4500_1500_1500_in_every_fold() -> None:
    names = ("spectra/folds.json", "spectra/spectra_for_fold/manifest.csv")
    content = members("spectra.tar.gz", names)
    rows = list(csv.DictReader(io.StringIO(content[names[1]].decode())))
    columns = {name: tuple(row[name] for row in rows) for name in ("treatment", "sample", "angle")}
    group = tuple(f"{row['treatment']}/{row['sample']}" for row in rows)
    table = Table(tuple(row["relative_path"] for row in rows), None, group, columns=columns)

    split = make_split(table, FILE, file=content[names[0]])

    assert [fold.number for fold in split.folds] == [1, 2, 3, 4, 5]
    for fold in split.folds:
        assert {side: len(rows) for side, rows in fold.sides.items()} == {
            "train": 4500,
            "val": 1500,
            "test": 1500,
        }
    for side in ("val", "test"):
        assert set(Counter(row for fold in split.folds for row in fold.sides[side]).values()) == {1}
    assert {columns["treatment"][row] for row in split.left_out(len(rows))} == {"treatment_6"}
    assert len(split.left_out(len(rows))) == 600


def test_names_by_two_columns_are_found_in_the_columns_that_have_them() -> None:
    split = of_file(LEAVES, TREE)
    assert split.folds == (Fold(1, (0, 1, 2, 3, 12, 13, 14, 15), (4, 5, 8, 9), (6, 7, 10, 11)),)
    assert split.left_out(24) == tuple(range(16, 24))
    assert of_file(LEAVES, TREE, columns=["plant", "leaf"]) == split


def test_names_by_one_column_are_ids_groups_or_a_column() -> None:
    by_id = of_file(LEAVES, {"7": {"train": [0, 1, "2"], "val": [4]}})
    assert by_id.folds == (Fold(7, (0, 1, 2), (4,)),)
    grouped = Table(tuple("abcd"), None, ("x", "y", "x", "z"))
    assert of_file(grouped, {"0": {"train": ["x"], "val": "y", "test": ["z"]}}).folds == (
        Fold(0, (0, 2), (1,), (3,)),
    )
    assert of_file(LEAVES, {"0": {"train": "upper", "val": "lower"}}).folds[0].val == tuple(range(1, 24, 2))


def test_folds_keep_their_numbers_in_their_order() -> None:
    sides = {"10": {"train": [0], "val": [1]}, "2": {"train": [1], "val": [0]}}
    assert [fold.number for fold in of_file(LEAVES, sides).folds] == [2, 10]


def test_folds_that_come_twice_are_named() -> None:
    sides = {"train": [0, 1], "val": [2]}
    other = {"train": [1, 0], "val": [2]}
    with pytest.raises(UsageError, match="folds 2, 10, 11 have the same rows on each side"):
        of_file(LEAVES, {"10": sides, "2": other, "11": sides, "3": {"train": [0, 1], "val": [3]}})


def test_numbers_of_samples_are_not_looked_for_among_labels_and_times() -> None:
    table = Table(("000", "001", "002"), (0, 1, 2), times=(0, 1, 2))
    folds = {"1": {"train": [0, 1], "val": [2]}}
    with pytest.raises(UsageError, match="no column has its names: 0, 1, 2") as error:
        of_file(table, folds)
    assert "ids are texts such as '000'" in error.value.hint
    assert of_file(table, folds, columns=["label"]).folds == (Fold(1, (0, 1), (2,)),)


def test_column_that_is_there_under_two_names_is_one() -> None:
    columns = {**LEAVES.columns, "plant again": LEAVES.columns["plant"]}
    table = Table(LEAVES.ids, LEAVES.columns["plant"], columns=columns)
    assert of_file(table, TREE) == of_file(LEAVES, TREE)


def test_names_in_several_columns_must_be_said() -> None:
    table = Table((1, 2, 3, 4), None, (4, 3, 2, 1))
    folds = {"0": {"train": [1, 2], "val": [3]}}
    with pytest.raises(UsageError, match="its names are in several columns: id or group") as error:
        of_file(table, folds)
    assert '"columns": ["id"]' in error.value.hint
    assert of_file(table, folds, columns=["group"]).folds == (Fold(0, (2, 3), (1,)),)


def test_every_name_that_is_not_in_the_data_is_named() -> None:
    sides = {
        "train": {"p0": ["leaf0", "leaf9"], "p5": ["leaf1"]},
        "val": {"p1": [f"x{i:02}" for i in range(30)]},
    }
    with pytest.raises(UsageError) as error:
        of_file(LEAVES, {"1": sides, "2": {"train": {"p1": "leaf1"}, "val": {"p1": "none"}}})
    words = error.value.message
    assert "fold 1: train names what is not in the data (by plant, leaf): p0/leaf9, p5/leaf1" in words
    assert all(f"p1/x{i:02}" in words for i in range(30))
    assert "fold 2: val names what is not in the data (by plant, leaf): p1/none" in words


def test_sample_on_two_sides_of_a_fold_is_caught() -> None:
    folds = {"1": {**TREE["1"], "test": {"p0": ["leaf3", "leaf1"], "p1": "leaf0"}}}
    with pytest.raises(UsageError) as error:
        of_file(LEAVES, folds)
    assert "folds.json: fold 1: train and test both have p0/leaf1" in error.value.message
    assert "folds.json: fold 1: val and test both have p1/leaf0" in error.value.message


def test_group_on_two_sides_of_a_fold_file_is_caught() -> None:
    table = Table(LEAVES.ids, None, LEAVES.columns["plant"], columns=LEAVES.columns)
    with pytest.raises(UsageError) as error:
        of_file(table, TREE)
    assert "fold 1: train and val share 2 groups, for example 'p0'" in error.value.message
    assert "fold 1: val and test share 2 groups" in error.value.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "folds.json: not JSON"),
        ("[]", "no folds are there"),
        ('{"folds": {}}', "no folds are there"),
        ('{"folds": {"1": {"train": [0], "val": [1]}, "1": {}}}', "the key '1' is there twice"),
        ('{"folds": {"a": {}}}', "fold 'a': expected a number from 0"),
        ('{"folds": {"01": {}}}', "fold '01': expected a number"),
        ('{"folds": {"%s": {}}}' % ("9" * 5000), r"fold '9{60}'\.\.\.: expected a number from 0 to 999999"),
        ('{"folds": {"\u0663": {}}}', r"fold '\\u0663': expected a number"),
        ('{"folds": {"1": {"train": [], "val": []}}}', r"train is empty\n.*val is empty"),
        ('{"folds": {"1": {"train": [0], "val": [1, "a\\nb"]}}}', r"not in the data \(by id\): 'a\\nb'"),
        ('{"folds": {"1": []}}', "fold 1: found list, expected its sides"),
        ('{"folds": {"1": {"train": [0]}}}', "fold 1: it has no side val"),
        ('{"folds": {"1": {"train": [0], "val": []}}}', "fold 1: val is empty"),
        ('{"folds": {"1": {"train": [0], "val": [1], "test": {}}}}', "fold 1: test is empty"),
        ('{"folds": {"1": {"train": [0], "valid": [1]}}}', r"unknown sides valid; .*\n.*no side val"),
        ('{"folds": {"1": {"train": [0.5], "val": [1]}}}', "train: found 0.5 in a list of names"),
        ('{"folds": {"1": {"train": null, "val": [1]}}}', "train: found NoneType"),
        ('{"folds": {"1": {"train": {"a": {"b": "c"}}, "val": [1]}}}', "train: found dict"),
        ('{"folds": {"1": {"train": {"p0": "leaf0"}, "val": [1]}}}', "by two columns, others by one"),
        ('{"folds": {"1": {"train": [0, 0], "val": [1]}}}', "train names 0 twice"),
        ('{"folds": {"1": {"train": ["no"], "val": ["na"]}}}', "no column has its names: na, no"),
        ('{"folds": {"1": {"train": [0], "val": [1]}}, "columns": ["x"]}', "columns: no 'x' in the table"),
        ('{"folds": {"1": {"train": [0], "val": [1]}}, "columns": "id"}', "columns: found 'id'"),
        (
            '{"folds": {"1": {"train": [0], "val": [1]}}, "columns": ["id", "leaf"]}',
            "found 2 names, expected 1",
        ),
    ],
)
def test_file_of_another_form_is_refused(content: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_split(LEAVES, FILE, file=content)


def test_many_problems_are_counted() -> None:
    folds = {str(number): {"train": [0]} for number in range(25)}
    with pytest.raises(UsageError, match=r"and 15 more problems of folds\.json"):
        of_file(LEAVES, folds)


def test_manifest_has_the_further_columns_for_people() -> None:
    table = Table(
        (1, 2), ("x", "y"), times=(3, 4), columns={"plant": ("p", "q"), "label": ("x", "y"), "id": (7, 8)}
    )
    assert manifest_csv(table, [0, 1]) == "id,label,time,plant,id (column)\n1,x,3,p,7\n2,y,4,q,8\n"
