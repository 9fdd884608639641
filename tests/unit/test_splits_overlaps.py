"""Splits: which values stand on two sides of a fold."""

from __future__ import annotations

import time

import pytest

from hpc_search.errors import UsageError
from hpc_search.records.splits import Overlap
from hpc_search.splits import Fold, FoldsSpec, Split, Table, make_split
from hpc_search.splits.overlaps import broken, report

TISSUES = ("lung", "liver", "lung", "skin", "liver", "brain", "", "")
TABLE = Table(tuple(range(8)), (0, 1) * 4, tuple("aabbccdd"), columns={"tissue": TISSUES})
SPLIT = Split((Fold(0, (0, 1, 6), (2, 3), (4, 5, 7)), Fold(1, (0, 1), (5,))))


def test_shared_values_are_counted_for_each_pair_of_sides() -> None:
    assert report(SPLIT, TABLE) == (
        Overlap(fold=0, column="group", sides=("train", "test"), count=1, examples=("d",), promised=True),
        Overlap(fold=0, column="tissue", sides=("train", "val"), count=1, examples=("lung",)),
        Overlap(fold=0, column="tissue", sides=("train", "test"), count=1, examples=("liver",)),
    )


def test_labels_and_missing_values_are_no_overlap() -> None:
    assert {overlap.column for overlap in report(SPLIT, TABLE)} == {"group", "tissue"}
    assert not any("" in overlap.examples for overlap in report(SPLIT, TABLE))


def test_only_promised_overlaps_are_refused() -> None:
    split = make_split(TABLE, FoldsSpec(kind="grouped", n=2))
    overlaps = report(split, TABLE)
    assert {(overlap.column, overlap.promised) for overlap in overlaps} == {("tissue", False)}
    assert broken(overlaps) == []


def test_overlap_of_a_column_that_is_to_be_apart_stops_the_split() -> None:
    table = Table(TABLE.ids, columns={"tissue": ("lung", "liver") * 4})
    with pytest.raises(UsageError) as error:
        make_split(table, FoldsSpec(kind="kfold", n=2, seed=1, apart=("tissue",)))
    assert "fold 0: train and val share 2 of tissue, for example 'lung'" in error.value.message
    assert "fold 1: train and val share 2 of tissue" in error.value.message
    assert "data: {group: COLUMN}" in error.value.hint
    by_tissue = Table(table.ids, None, table.columns["tissue"], columns=table.columns)
    make_split(by_tissue, FoldsSpec(kind="grouped", n=2, apart=("tissue",)))


def test_column_apart_must_be_there_and_known_in_each_row() -> None:
    with pytest.raises(UsageError, match=r"folds\.apart: the data table has no column 'organ'"):
        make_split(TABLE, FoldsSpec(kind="kfold", n=2, apart=("organ",)))
    with pytest.raises(UsageError, match=r"row 6 of the data table .* has no tissue, nor has row 7"):
        make_split(TABLE, FoldsSpec(kind="kfold", n=2, apart=("tissue",)))


def test_ten_overlaps_are_shown_and_the_others_counted() -> None:
    folds = tuple(Fold(number, (0, 2), (1, 3)) for number in range(14))
    lines = broken(report(Split(folds), TABLE))
    assert ["share 2 groups" in line for line in lines] == [True] * 10 + [False]
    assert lines[-1] == "and 4 more overlaps"


def test_large_tables_are_looked_through_in_no_time() -> None:
    rows = 100_000
    table = Table(
        tuple(range(rows)),
        None,
        tuple(i // 10 for i in range(rows)),
        columns={"tissue": tuple(f"t{i % 100}" for i in range(rows))},
    )
    split = make_split(table, FoldsSpec(kind="hash", shares=(0.7, 0.15, 0.15)))
    folds = Split(tuple(Fold(n, split.folds[0].train, split.folds[0].val, split.test) for n in range(15)))
    started = time.process_time()
    overlaps = report(folds, table)
    seconds = time.process_time() - started
    assert [overlap.count for overlap in overlaps] == [100] * 45
    assert seconds < 3.0
