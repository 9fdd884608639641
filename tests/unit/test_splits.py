"""Splits: folds, the test part, manifests and the check for overlaps."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hpc_search.errors import DamagedError, UsageError
from hpc_search.splits import (
    Fold,
    FoldsSpec,
    Split,
    Table,
    check_disjoint,
    make_split,
    manifest_csv,
    parse_manifest,
)


def dealt(table: Table, kind: str, n: int, seed: int = 0, share: float = 0.0, **more: Any) -> Split:
    return make_split(table, FoldsSpec(kind=kind, n=n, seed=seed, test_share=share, **more))  # type: ignore[arg-type]


PLAIN = Table(tuple(range(100)))
LABELLED = Table(tuple(f"s{i}" for i in range(100)), tuple("ab"[i % 5 == 0] for i in range(100)))
GROUPED = Table(tuple(range(120)), None, tuple(f"g{i // 4}" for i in range(120)))
BOTH = Table(tuple(range(120)), tuple(i // 4 % 3 for i in range(120)), tuple(i // 4 for i in range(120)))


def test_kfold_validates_each_row_once() -> None:
    split = dealt(PLAIN, "kfold", 5)
    assert sorted(row for fold in split.folds for row in fold.val) == list(range(100))
    assert all(len(fold.val) == 20 and len(fold.train) == 80 for fold in split.folds)
    assert split.test == ()


def test_rows_are_shuffled_by_the_seed_and_listed_ascending() -> None:
    split = dealt(PLAIN, "kfold", 5, seed=1)
    assert split == dealt(PLAIN, "kfold", 5, seed=1)
    assert split != dealt(PLAIN, "kfold", 5, seed=2)
    assert split.folds[0].val != tuple(range(20))
    assert all(rows == tuple(sorted(rows)) for fold in split.folds for rows in (fold.train, fold.val))


def test_stratified_keeps_the_shares_of_the_labels() -> None:
    split = dealt(LABELLED, "stratified", 5, share=0.25)
    assert LABELLED.labels is not None
    assert Counter(LABELLED.labels[row] for row in split.test) == {"a": 20, "b": 5}
    for fold in split.folds:
        assert Counter(LABELLED.labels[row] for row in fold.val) == {"a": 12, "b": 3}


@pytest.mark.parametrize(("table", "kind"), [(GROUPED, "grouped"), (BOTH, "stratified"), (GROUPED, "kfold")])
def test_groups_stay_together_in_every_kind(table: Table, kind: str) -> None:
    split = dealt(table, kind, 4, share=0.2)
    assert table.groups is not None
    assert len(split.test) == 24
    for fold in split.folds:
        sides = [{table.groups[row] for row in rows} for rows in (fold.train, fold.val, split.test)]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 30
        assert len(fold.val) == 24


def test_stratified_groups_keep_the_shares_of_the_labels() -> None:
    split = dealt(BOTH, "stratified", 4, share=0.2)
    assert BOTH.labels is not None
    for rows in (split.test, *(fold.val for fold in split.folds)):
        assert Counter(BOTH.labels[row] for row in rows) == {0: 8, 1: 8, 2: 8}


def test_uneven_groups_give_folds_of_similar_size() -> None:
    groups = tuple(group for group in range(60) for _ in range(1 + group % 7))
    split = dealt(Table(tuple(range(len(groups))), None, groups), "grouped", 5)
    sizes = [len(fold.val) for fold in split.folds]
    assert max(sizes) - min(sizes) <= 7


def test_type_of_labels_and_groups_does_not_change_the_split() -> None:
    texts = Table(BOTH.ids, tuple(map(str, BOTH.labels or ())), tuple(map(str, BOTH.groups or ())))
    assert dealt(texts, "stratified", 3, share=0.1) == dealt(BOTH, "stratified", 3, share=0.1)


def test_labels_of_another_kind_of_folds_are_not_looked_at() -> None:
    table = Table((1, 2, 3), (None, 0.5, "x"))
    assert len(dealt(table, "kfold", 3).folds) == 3


def test_splits_are_pinned() -> None:
    ten = Table(tuple(range(10)), (0, 1) * 5, tuple(i // 2 for i in range(10)))
    assert [fold.val for fold in dealt(Table(ten.ids), "kfold", 3, 7, 0.1).folds] == [
        (0, 2, 7),
        (3, 5, 9),
        (1, 4, 6),
    ]
    assert [fold.val for fold in dealt(Table(ten.ids, ten.labels), "stratified", 3, 7).folds] == [
        (0, 3, 5, 6),
        (1, 2, 4),
        (7, 8, 9),
    ]
    assert [fold.val for fold in dealt(ten, "grouped", 3, 7).folds] == [
        (0, 1, 2, 3),
        (4, 5),
        (6, 7, 8, 9),
    ]
    assert dealt(ten, "grouped", 3, 7, 0.2).test == (0, 1)


@pytest.mark.parametrize(
    ("table", "kind", "n", "share", "message"),
    [
        (PLAIN, "kfold", 1, 0.0, "found 1, expected at least 2"),
        (PLAIN, "kfold", 5, 1.0, "test share: found 1.0"),
        (PLAIN, "kfold", 5, -0.1, "test share: found -0.1"),
        (PLAIN, "kfold", 5, float("nan"), "test share: found nan"),
        (PLAIN, "kfold", 101, 0.0, "101 folds need at least 101 rows; there are 100"),
        (PLAIN, "kfold", 81, 0.2, "80 of 100 are left beside the test part"),
        (Table((1, 2)), "kfold", 2, 0.9, "takes 2 of 2 rows"),
        (PLAIN, "striped", 5, 0.0, "unknown kind of folds 'striped'"),
        (PLAIN, "stratified", 5, 0.0, "need a label for each row"),
        (PLAIN, "grouped", 5, 0.0, "need a group for each row"),
        (LABELLED, "stratified", 21, 0.0, "class 'b' has 20 members; expected at least 21"),
        (LABELLED, "stratified", 5, 0.01, "test part of 1 of 100 rows"),
        (Table((1, 2, 3, 4), ("x", "x", "x", "y")), "stratified", 2, 0.5, "1 classes have a single row"),
        (GROUPED, "grouped", 31, 0.0, "31 folds need at least 31 groups; there are 30"),
        (GROUPED, "grouped", 25, 0.2, "24 of 30 are left beside the test part"),
        (BOTH, "stratified", 11, 0.0, "class 0 has 10 groups, class 1 has 10 .*; expected at least 11"),
        (
            Table((1, 2, 3), ("x", None, "y")),
            "stratified",
            2,
            0.0,
            r"row 1 of the data table \(id 2\) has no lab",
        ),
        (Table((1, 2, 3), None, (1, float("nan"), 2)), "grouped", 2, 0.0, "has no group"),
        (Table((1, 2, 3), None, ("g", "", "h")), "kfold", 2, 0.0, "has no group"),
    ],
)
def test_impossible_split_is_refused_with_numbers(
    table: Table, kind: str, n: int, share: float, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        dealt(table, kind, n, 0, share)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_that_numpy_cannot_take_is_refused(seed: int) -> None:
    with pytest.raises(UsageError, match="split seed"):
        dealt(PLAIN, "kfold", 5, seed)


@pytest.mark.parametrize(
    ("ids", "labels", "groups", "message"),
    [
        ((), None, None, "no rows"),
        (("a", "b", "a"), None, None, "'a' twice: rows 0 and 2"),
        (("a", 1), None, None, "row 1 of the data table has the id 1"),
        ((1, True), None, None, "has the id True"),
        (("a", ""), None, None, "has the id ''"),
        ((1.5,), None, None, "has the id 1.5"),
        ((1, 2), (1,), None, "2 ids but 1 labels"),
        ((1, 2), None, (1, 2, 3), "2 ids but 3 groups"),
        ((1, 2), (1, [2]), None, r"row 1 of the data table has \[2\] of type list in its labels"),
        (("a", "b\ud800"), None, None, r"row 1 of the data table has the id 'b\\ud800'"),
        (
            ("a", "b"),
            None,
            ("c\udfff", "d"),
            r"row 0 of the data table has 'c\\udfff' of type str in its groups",
        ),
        ((1, 10**5000), None, None, "row 1 of the data table has the id an integer of 16,610 bits"),
        (("a", "b", "a", 7), ("x", [2], "y", "z"), (1,), r"id 7.*\n.*'a' twice.*\n.*\[2\].*\n.*but 1 groups"),
    ],
)
def test_bad_table_is_refused(ids: tuple[str, ...], labels: object, groups: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Table(ids, labels, groups)  # type: ignore[arg-type]


@pytest.mark.parametrize("ids", ["ab", b"ab", {"a": 1}, {"a"}, 3, np.zeros((2, 2)), None])
def test_columns_without_a_value_a_row_in_their_order_are_refused(ids: Any) -> None:
    with pytest.raises(UsageError, match=f"the ids of the data table are {type(ids).__name__}"):
        Table.of(ids)


def test_groups_that_look_the_same_and_are_not_are_refused() -> None:
    groups = ("p", "q", "p ", "\u00e9", "q", "e\u0301", 1, "1")
    with pytest.raises(UsageError, match="look the same and are not") as error:
        dealt(Table(tuple("abcdefgh"), None, groups), "kfold", 2)
    assert "'p' (row 0) and 'p ' (row 2), '\\xe9' (row 3) and 'e\\u0301' (row 5)" in error.value.message
    assert "1 (row 6) and '1' (row 7)" in error.value.message


@pytest.mark.parametrize(
    ("table", "kind", "n", "share", "message", "hint"),
    [
        (GROUPED, "grouped", 3, 0.99, "none of 30 is left", "a test share of 0.9 leaves enough"),
        (GROUPED, "grouped", 30, 0.2, "of 30 are left", "leave test_share out"),
        (PLAIN, "kfold", 5, 0.99, "1 of 100 is left", "a test share of 0.95 leaves enough, 5 rows"),
        (PLAIN, "kfold", 5, 0.999, "takes 100 of 100 rows", "a test share of 0.95 leaves enough"),
        (LABELLED, "stratified", 5, 0.9, "class 'b' has 2 members beside the test", "share of 0.75 leaves"),
    ],
)
def test_a_test_share_that_leaves_too_little_is_told_with_one_that_does(
    table: Table, kind: str, n: int, share: float, message: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=f"test share of {share} is too large: .*{message}") as error:
        dealt(table, kind, n, 0, share)
    assert hint in error.value.hint
    assert error.value.key == "folds.test_share"


def test_table_of_arrays_and_series_holds_python_values() -> None:
    table = Table.of(np.arange(3), pd.Series(["x", "y", "x"]), np.array([1.0, 2.0, 2.0]))
    assert table == Table((0, 1, 2), ("x", "y", "x"), (1.0, 2.0, 2.0))
    assert type(table.ids[0]) is int
    assert table.id_kind == "int"
    assert Table.of(["a"], pd.array([pd.NA], dtype="Int64")).labels == (None,)


@pytest.mark.parametrize("kind", ["int", "str"])
def test_ids_survive_a_manifest(kind: str) -> None:
    ids = (1, -2, 10**20) if kind == "int" else ("001", 'a "b", c', "line\r\nbreak\n", " \u00e4 ")
    table = Table(ids)
    text = manifest_csv(table, range(len(ids)))
    assert parse_manifest(text, table.id_kind) == ids


def test_manifest_has_the_columns_that_the_table_has() -> None:
    assert manifest_csv(LABELLED, [5, 6]) == "id,label\ns5,b\ns6,a\n"
    assert manifest_csv(BOTH, [4]) == "id,label,group\n4,1,1\n"
    assert parse_manifest(manifest_csv(BOTH, [4, 9]), "int") == (4, 9)
    assert parse_manifest(manifest_csv(PLAIN, []), "int") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "fold.csv is no split manifest"),
        ("sample\n1\n", r"its first column is \['sample'\]"),
        ("id\nx\n", "fold.csv:2: found id 'x', expected an integer"),
        ("id,label\n1\n", "fold.csv:2: found 1 columns, expected 2"),
        ('id\n"1', "fold.csv:2: not CSV"),
    ],
)
def test_damaged_manifest_is_named(text: str, message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        parse_manifest(text, "int", "fold.csv")


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split((Fold(0, (0, 1), (1, 2)),)), "fold 0: train and val share 1 id, for example '1'"),
        (
            Split((Fold(0, (0,), (4,), (9,)), Fold(1, (0, 8), (4,), (8, 9)))),
            "fold 1: train and test share 1 id, for ex",
        ),
        (Split((Fold(0, (0,), (4,), (4,)),)), "fold 0: val and test share 1 id"),
        (Split((Fold(0, (0,), (1,)),)), "fold 0: train and val share 1 group, for example 'g0'"),
        (Split((Fold(0, (0, 4), (8,), (5, 1)),)), "fold 0: train and test share 2 groups"),
        (Split((Fold(0, (0,), ()),)), "fold 0 has no val rows: train 1, val 0"),
        (Split((Fold(0, (), (0,)),)), "fold 0 has no train rows"),
    ],
)
def test_planted_overlap_is_found(split: Split, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_disjoint(split, GROUPED)


def test_module_loads_without_numpy() -> None:
    code = (
        "import sys, hpc_search.splits, hpc_search.strategies; print({'numpy', 'sklearn'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
