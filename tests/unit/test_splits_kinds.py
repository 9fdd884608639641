"""Splits: every kind of folds beyond the plain ones."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import (
    GroupShuffleSplit,
    KFold,
    PredefinedSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)

from hpc_search.errors import UsageError
from hpc_search.splits import Fold, FoldsSpec, Split, Table, make_split
from hpc_search.splits.making import derived_seed
from hpc_search.splits.spec import spec_problems
from tests.real_data import real_file

SHARES = (0.7, 0.15, 0.15)
#: 127 cell types x 15 states: as many names as the DNA workflow has.
NAMES = tuple(f"{cell}_{state}" for cell in range(127) for state in range(15))
GROUPED = Table(tuple(range(120)), (0, 1) * 60, tuple(f"g{i // 4}" for i in range(120)))
DAYS = Table(tuple(range(100)), times=tuple(f"2026-01-{1 + i % 20:02}" for i in range(100)))


def dealt(table: Table, kind: str, n: int = 0, splitter: Any = None, **more: Any) -> Split:
    return make_split(table, FoldsSpec(kind=kind, n=n, **more), splitter=splitter)  # type: ignore[arg-type]


def groups_of(table: Table, rows: tuple[int, ...]) -> set[object]:
    return {(table.groups or table.ids)[row] for row in rows}


# -- hash and shuffle
def test_hash_split_has_the_counts_and_the_members_of_the_dna_workflow() -> None:
    fold = dealt(Table(NAMES), "hash", seed=42, shares=SHARES).folds[0]
    order = sorted(NAMES, key=lambda name: int(hashlib.md5(f"{name}_42".encode()).hexdigest(), 16))
    assert [len(rows) for rows in fold.sides.values()] == [1333, 285, 287]
    assert {NAMES[row] for row in fold.train} == set(order[:1333])
    assert {NAMES[row] for row in fold.val} == set(order[1333 : 1333 + 285])


def test_hash_split_keeps_groups_together_and_does_not_see_the_order_of_rows() -> None:
    ids = tuple(range(3 * len(NAMES)))
    fold = dealt(Table(ids, None, NAMES * 3), "hash", seed=42, shares=SHARES).folds[0]
    alone = dealt(Table(NAMES[::-1]), "hash", seed=42, shares=SHARES).folds[0]
    for rows, own in zip(fold.sides.values(), alone.sides.values(), strict=True):
        assert len(rows) == 3 * len(own)
        assert {(NAMES * 3)[row] for row in rows} == {NAMES[::-1][row] for row in own}


def test_shuffle_split_takes_series_in_the_order_of_numpys_shuffle() -> None:
    series = tuple(f"{i // 3:06}" for i in range(300))
    fold = dealt(Table(tuple(range(300)), None, series), "shuffle", seed=42, shares=(0.8, 0.1, 0.1)).folds[0]
    order = np.array(list(dict.fromkeys(series)))
    np.random.RandomState(42).shuffle(order)
    assert groups_of(Table(tuple(range(300)), None, series), fold.train) == set(order[:80].tolist())
    assert [len(rows) for rows in fold.sides.values()] == [240, 30, 30]


def test_without_a_test_share_the_rest_is_validated_on() -> None:
    fold = dealt(Table(tuple(range(7))), "shuffle", shares=(0.8, 0.2, 0.0)).folds[0]
    assert (len(fold.train), len(fold.val), fold.test) == (5, 2, ())


@pytest.mark.data
def test_real_pairs_are_split_as_in_the_photo_workflow() -> None:
    with gzip.open(real_file("photo_triage_pairs_embedding_labels.csv.gz"), "rt", newline="") as file:
        pairs = [row for row in csv.DictReader(file) if float(row["Agreement"]) >= 0.7]
    pairs = [row for row in pairs if int(row["num_reviewers"]) >= 2]
    table = Table(tuple(range(len(pairs))), None, tuple(row["series_id"] for row in pairs))
    fold = dealt(table, "shuffle", seed=42, shares=(0.8, 0.1, 0.1)).folds[0]
    assert (len(pairs), len(set(table.groups or ()))) == (12_073, 4_333)
    assert [len(rows) for rows in fold.sides.values()] == [9_760, 1_114, 1_199]
    assert [len(groups_of(table, rows)) for rows in fold.sides.values()] == [3_466, 433, 434]


@pytest.mark.parametrize("kind", ["hash", "shuffle"])
def test_empty_side_is_refused_with_how_many_names_are_enough(kind: str) -> None:
    with pytest.raises(
        UsageError, match=r"3 ids with shares 0.7/0.15/0.15 .* val 0.*val would be empty"
    ) as e:
        dealt(Table(("a", "b", "c")), kind, shares=SHARES)
    assert "at least 7 ids" in e.value.hint
    assert dealt(Table(tuple("abcdefg")), kind, shares=SHARES).folds[0].test


# -- repeats
@pytest.mark.parametrize("kind", ["kfold", "stratified", "grouped", "stratified_grouped"])
def test_repeats_add_other_folds_after_the_first_ones(kind: str) -> None:
    once = dealt(GROUPED, kind, 3, seed=5, test_share=0.2)
    thrice = dealt(GROUPED, kind, 3, seed=5, test_share=0.2, repeats=3)
    assert thrice.folds[:3] == once.folds
    assert thrice.test == once.test
    assert [fold.number for fold in thrice.folds] == list(range(9))
    assert len({fold.val for fold in thrice.folds}) == 9
    for first in (0, 3, 6):
        vals = [row for fold in thrice.folds[first : first + 3] for row in fold.val]
        assert Counter(vals) == Counter(set(range(120)) - set(once.test))


@pytest.mark.parametrize("groups", [None, tuple("aabbccdd")])
def test_repeats_that_would_all_be_the_same_are_refused(groups: tuple[str, ...] | None) -> None:
    table = Table(tuple(range(8)), None, groups)
    units = 8 if groups is None else 4
    with pytest.raises(UsageError, match="all 3 repeats would be the same") as error:
        dealt(table, "kfold", units, repeats=3)
    assert error.value.key == "folds.repeats"
    assert len(dealt(table, "kfold", units - 1, repeats=3).folds) == 3 * (units - 1)
    assert len(dealt(table, "kfold", units).folds) == units


def test_seeds_of_repeats_differ_and_are_pinned() -> None:
    assert len({derived_seed(seed, f"repeat {r}") for seed in range(50) for r in range(20)}) == 1000
    assert derived_seed(0, "repeat 1") == 2888790807


# -- leave one group out
def test_each_group_is_left_out_once_in_order_of_appearance() -> None:
    groups = ("z", "z", "a", "m", "a", "m", "z")
    split = dealt(Table(tuple(range(7)), None, groups), "leave_one_group_out")
    assert [fold.val for fold in split.folds] == [(0, 1, 6), (2, 4), (3, 5)]
    assert split.folds[1].train == (0, 1, 3, 5, 6)


def test_leaving_out_the_only_group_is_refused() -> None:
    with pytest.raises(UsageError, match="need at least 2 groups; there is 1"):
        dealt(Table((1, 2), None, ("g", "g")), "leave_one_group_out")
    with pytest.raises(UsageError, match="of kind leave_one_group_out need a group"):
        dealt(Table((1, 2)), "leave_one_group_out")


# -- time
@pytest.mark.parametrize("gap", [0, 3])
def test_folds_over_time_are_scikit_learns_where_times_differ(gap: int) -> None:
    order = np.random.RandomState(0).permutation(50)
    table = Table(tuple(range(50)), times=tuple(order.tolist()))
    split = dealt(table, "time", 4, gap=gap)
    by_time = np.argsort(order)
    expected = TimeSeriesSplit(4, gap=gap).split(by_time)
    for fold, (train, val) in zip(split.folds, expected, strict=True):
        assert fold.train == tuple(sorted(by_time[train].tolist()))
        assert fold.val == tuple(sorted(by_time[val].tolist()))


def test_equal_times_never_stand_on_two_sides_and_the_newest_are_the_test_part() -> None:
    split = dealt(DAYS, "time", 4, test_share=0.22)
    assert DAYS.times is not None
    assert {DAYS.times[row] for row in split.test} == {f"2026-01-{day}" for day in (17, 18, 19, 20)}
    for fold in split.folds:
        times = [{DAYS.times[row] for row in rows} for rows in fold.sides.values()]
        assert max(times[0]) < min(times[1])
        assert max(times[1]) < min(times[2])
    assert split.left_out(100) == ()


def test_a_group_is_not_cut_by_time() -> None:
    groups = tuple(f"g{i // 7}" for i in range(60))
    table = Table(tuple(range(60)), None, groups, tuple(range(60)))
    for fold in dealt(table, "time", 4, test_share=0.1).folds:
        sides = [groups_of(table, rows) for rows in fold.sides.values()]
        assert sum(map(len, sides)) == len(set.union(*sides))


def test_numbers_and_dates_as_texts_are_ordered_as_what_they_are() -> None:
    numbers = Table(tuple(range(12)), times=tuple(str(i) for i in range(12)))
    assert dealt(numbers, "time", 2).folds[-1].val == (8, 9, 10, 11)
    dates = pd.date_range("2025-12-31T22:00", periods=6, freq="h", tz="UTC")
    split = dealt(Table.of(range(6), times=dates[::-1]), "time", 2)
    assert [fold.val for fold in split.folds] == [(2, 3), (0, 1)]


@pytest.mark.parametrize(
    ("times", "n", "gap", "message"),
    [
        (None, 2, 0, "need a time for each row"),
        ((1, None, 3, None), 2, 0, "row 1 of the data table .id 1. has no time, nor has row 3"),
        (("31/12/2025", "2026-01-01", "1", "x"), 2, 0, "'31/12/2025' in row 0 .id 0., 'x' in row 3"),
        (("1", "2026-01-01", "3", "4"), 2, 0, "found numbers and dates, or"),
        (("2026-01-01T00:00", "2026-01-01T00:00Z", "3", "4"), 2, 0, "dates with and without a zone"),
        (("1", "9" * 5000, "3", "4"), 2, 0, "found '9{59}[.]{3} in row 1"),
        (("1", "2", "nan", "4"), 2, 0, "row 2 of the data table .id 2. has no time"),
        ((1, 1, 2, 2), 2, 0, "2 folds over time need at least 3 different times; there are 2"),
        ((1, 2, 3, 4), 2, 2, "a gap of 2 rows leaves the first of 2 folds nothing to train on: 2 rows come"),
    ],
)
def test_times_that_cannot_be_split_are_refused(times: Any, n: int, gap: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dealt(Table((0, 1, 2, 3), times=times), "time", n, gap=gap)


def test_groups_that_span_the_time_of_others_are_refused_with_numbers() -> None:
    table = Table(tuple(range(8)), None, ("a", "b") * 4, tuple(range(8)))
    with pytest.raises(UsageError, match="need at least 3 stretches of time that no group spans; there is 1"):
        dealt(table, "time", 2)


# -- nested
@pytest.mark.parametrize("kind", ["kfold", "stratified", "grouped", "stratified_grouped"])
def test_inner_folds_share_the_outer_fold_as_their_test_side(kind: str) -> None:
    split = dealt(GROUPED, kind, 4, outer=5, seed=3)
    assert [(fold.number, fold.outer) for fold in split.folds] == [(i, i // 4) for i in range(20)]
    assert Counter(row for fold in split.folds[::4] for row in fold.test) == Counter(range(120))
    for outer in range(5):
        inner = split.folds[4 * outer : 4 * outer + 4]
        assert len({fold.test for fold in inner}) == 1
        rest = set(range(120)) - set(inner[0].test)
        assert Counter(row for fold in inner for row in fold.val) == Counter(rest)
    assert split.test == ()


def test_nested_folds_can_be_repeated_over_time_and_by_single_groups() -> None:
    repeated = dealt(GROUPED, "kfold", 2, outer=3, repeats=2)
    assert [fold.outer for fold in repeated.folds] == [0] * 4 + [1] * 4 + [2] * 4
    time = dealt(Table(tuple(range(60)), times=tuple(range(60))), "time", 2, outer=3)
    assert all(max(fold.val) < min(fold.test) for fold in time.folds)
    single = dealt(GROUPED, "leave_one_group_out", outer=5)
    assert [fold.number for fold in single.folds] == list(range(5 * 24))


def test_class_too_small_for_the_inner_folds_names_the_outer_one() -> None:
    table = Table(tuple(range(20)), ("a",) * 17 + ("b",) * 3)
    with pytest.raises(UsageError, match="outer fold 0: 3 stratified folds: class 'b' has 2 members"):
        dealt(table, "stratified", 3, outer=3)
    with pytest.raises(UsageError, match="4 stratified outer folds: class 'b' has 3 members"):
        dealt(table, "stratified", 2, outer=4)


# -- splitters
def test_scikit_learns_splitters_can_be_plugged_in() -> None:
    labels = tuple("ab"[i % 3 == 0] for i in range(30))
    own = StratifiedKFold(3, shuffle=True, random_state=1)
    split = dealt(Table(tuple(range(30)), labels), "splitter", splitter=own)
    for fold, (train, val) in zip(split.folds, own.split(np.zeros(30), labels), strict=True):
        assert fold == Fold(fold.number, tuple(train.tolist()), tuple(val.tolist()))


def test_splitter_sees_only_rows_outside_the_test_part() -> None:
    split = dealt(GROUPED, "splitter", splitter=GroupShuffleSplit(2, random_state=0), test_share=0.2)
    assert len(split.test) == 24
    for fold in split.folds:
        assert sorted(fold.train + fold.val + fold.test) == list(range(120))


def test_function_of_the_table_gives_row_numbers_and_may_give_test_rows() -> None:
    def halves(table: Table) -> list[tuple[Any, ...]]:
        middle = len(table.ids) // 2
        return [(range(middle), [middle]), ([0, 1], np.array([2]), [3])]

    assert dealt(Table(tuple(range(8))), "splitter", splitter=halves).folds == (
        Fold(0, (0, 1, 2, 3), (4,)),
        Fold(1, (0, 1), (2,), (3,)),
    )


def failing(table: Table) -> list[tuple[list[int], list[int]]]:
    raise ZeroDivisionError("no such thing")


@pytest.mark.parametrize(
    ("splitter", "share", "message"),
    [
        (KFold(2, shuffle=True), 0, "gives other folds each time"),
        (KFold, 0, "is the class KFold"),
        (KFold(31), 0, "ValueError: Cannot have number of splits"),
        (failing, 0, r"ZeroDivisionError: no such thing\n  at .*test_splits_kinds.py:\d+"),
        (lambda table: [], 0, "gives no folds"),
        (lambda table: 7, 0, "TypeError: 'int' object is not iterable"),
        (lambda table: [0, 1], 0, "TypeError: 'int' object is not iterable"),
        (lambda table: [([0, [1]], [2])], 0, "ValueError: setting an array element"),
        (lambda table: sys.exit("stop"), 0, "SystemExit: stop"),
        (None, 0, "the splitter '' is not there"),
        (lambda table: [([0, 1],)], 0, "fold 0: found 1 sides"),
        (
            lambda table: [([0, 30], [1]), ([2], [-1])],
            0,
            r"train: no rows of the table: 30; .* 0 to 29\n.*-1",
        ),
        (lambda table: [([0, 0, 2], [1])], 0, "train: rows that come twice: 0"),
        (lambda table: [([True, False], [1])], 0, r"train: found bool of shape \(2,\), expected row numbers"),
        (lambda table: [([0.5], [1])], 0, "found float64"),
        (lambda table: [([0, 1], [])], 0, "fold 0 has no val rows: train 2"),
        (lambda table: [([0, 1], [1, 2])], 0, "fold 0: train and val share 1 id"),
        (lambda table: [([0], [1], [2])], 0.2, "it has a test side, and test_share takes another one"),
        (lambda table: (([0], [1]) for _ in range(10_001)), 0, "gives more than 10,000 folds"),
    ],
)
def test_splitter_that_gives_no_split_is_refused(splitter: Any, share: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dealt(Table(tuple(range(30))), "splitter", splitter=splitter, test_share=share)


def test_splitter_that_cuts_a_group_is_caught() -> None:
    with pytest.raises(UsageError, match="fold 1: train and val share 1 group, for example 'g16'"):
        dealt(GROUPED, "splitter", splitter=PredefinedSplit([-1] * 40 + [0] * 26 + [1] * 54))


# -- what a folds entry may say
@pytest.mark.parametrize(
    ("spec", "messages"),
    [
        ({"kind": "hash"}, ["shares: found None"]),
        ({"kind": "hash", "shares": (0.7, 0.2, 0.2)}, ["0.7 + 0.2 + 0.2 = 1.1, expected 1"]),
        ({"kind": "hash", "shares": (1.2, -0.1, -0.1)}, ["train and validation need more than 0"]),
        ({"kind": "shuffle", "shares": (0.5, 0.5, 0.0), "repeats": 2}, ["would be the same each time"]),
        ({"kind": "kfold", "n": 5, "shares": (0.7, 0.2, 0.1)}, ["they go with hash and shuffle only"]),
        ({"kind": "kfold", "n": 1, "seed": -1, "test_share": 1.0}, ["found 1", "split seed", "test share"]),
        ({"kind": "kfold", "n": 5, "gap": 2}, ["gap: found 2, expected none with kind kfold"]),
        ({"kind": "time", "n": 5, "gap": -1}, ["gap: found -1, expected 0 or more"]),
        ({"kind": "time", "n": 5, "repeats": 2}, ["repeats: found 2"]),
        ({"kind": "kfold", "n": 5, "outer": 1}, ["outer: found 1"]),
        ({"kind": "kfold", "n": 5, "outer": 3, "test_share": 0.1}, ["each outer fold"]),
        ({"kind": "hash", "shares": SHARES, "outer": 3}, ["cannot be nested"]),
        ({"kind": "file", "test_share": 0.1}, ["have their own test side"]),
        ({"kind": "kfold", "n": 5, "repeats": 0}, ["repeats: found 0"]),
    ],
)
def test_everything_wrong_with_the_numbers_is_named(spec: Any, messages: list[str]) -> None:
    found = [message for message, hint in spec_problems(FoldsSpec(**spec)) if hint]
    assert len(found) == len(messages)
    assert all(one in other for one, other in zip(messages, found, strict=True))


def test_split_does_not_depend_on_the_seed_of_hashes() -> None:
    code = """if True:
        from hpc_search.splits import *
        ids, groups = (tuple(f"s{i % n}" for i in range(60)) for n in (60, 15))
        table = Table(ids, tuple("ab" * 30), groups)
        for kind in ("stratified_grouped", "hash", "shuffle", "leave_one_group_out"):
            shares = (0.7, 0.15, 0.15) if kind in ("hash", "shuffle") else None
            share = 0 if shares else 0.2
            print(make_split(table, FoldsSpec(kind=kind, n=3, shares=shares, test_share=share)))
    """
    here = io.StringIO()
    with redirect_stdout(here):
        exec(code, {})
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout == here.getvalue()
    assert len(other.stdout) > 1000
