"""Properties of any split: folds partition the rows outside the test part; groups never straddle."""

from __future__ import annotations

import unicodedata
from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hpc_search.errors import UsageError
from hpc_search.splits import (
    Fold,
    FoldsSpec,
    Split,
    Table,
    make_split,
    manifest_csv,
    overlaps,
    parse_manifest,
)


def dealt(table: Table, kind: str, n: int, seed: int = 0, share: float = 0.0, **more: Any) -> Split:
    return make_split(table, FoldsSpec(kind=kind, n=n, seed=seed, test_share=share, **more))  # type: ignore[arg-type]


SHARES = st.sampled_from([0.0, 0.1, 0.2, 0.5])


@st.composite
def tables(draw: st.DrawFn) -> Table:
    rows = draw(st.integers(1, 60))
    labels = draw(st.none() | st.lists(st.integers(0, 2), min_size=rows, max_size=rows).map(tuple))
    groups = draw(st.none() | st.lists(st.integers(0, 20), min_size=rows, max_size=rows).map(tuple))
    return Table(tuple(range(rows)), labels, groups)


def plain(name: str) -> bool:
    """Say whether *name* is a group that looks like no other one."""
    return name == unicodedata.normalize("NFC", name).strip() and name.lower() != "nan"


def split_or_none(table: Table, kind: str, n: int, seed: int, share: float, **more: Any) -> Split | None:
    try:
        return dealt(table, kind, n, seed, share, **more)
    except UsageError:
        return None


@given(
    tables(),
    st.sampled_from(["kfold", "stratified", "grouped", "stratified_grouped"]),
    st.integers(2, 6),
    st.integers(0, 2**32 - 1),
    SHARES,
    st.integers(1, 3),
)
def test_folds_partition_the_rows_outside_the_test_part(
    table: Table, kind: str, n: int, seed: int, share: float, repeats: int
) -> None:
    split = split_or_none(table, kind, n, seed, share, repeats=repeats)
    if split is None:
        return
    everything = set(range(len(table.ids)))
    assert [fold.number for fold in split.folds] == list(range(n * repeats))
    assert bool(split.test) == (share > 0)
    for first in range(0, n * repeats, n):
        vals = Counter(row for fold in split.folds[first : first + n] for row in fold.val)
        assert vals == Counter(everything - set(split.test))
    for fold in split.folds:
        assert_partition(table, fold, everything)
    assert split == dealt(table, kind, n, seed, share, repeats=repeats)


def assert_partition(table: Table, fold: Fold, rows: set[int]) -> None:
    """Each of *rows* is on exactly one side of *fold*, and so is each group."""
    sides = fold.sides.values()
    assert sorted(row for side in sides for row in side) == sorted(rows)
    assert all(side == tuple(sorted(side)) for side in sides)
    if table.groups is not None:
        groups = [{table.groups[row] for row in side} for side in sides]
        assert sum(map(len, groups)) == len({table.groups[row] for row in rows})


@given(
    tables(),
    st.sampled_from(["kfold", "stratified", "grouped", "leave_one_group_out"]),
    st.integers(2, 3),
    st.integers(2, 4),
    st.integers(0, 9),
)
def test_each_row_is_tested_on_once_by_nested_folds(
    table: Table, kind: str, n: int, outer: int, seed: int
) -> None:
    split = split_or_none(table, kind, n, seed, 0.0, outer=outer)
    if split is None:
        return
    everything = set(range(len(table.ids)))
    tested = {fold.outer: fold.test for fold in split.folds}
    assert Counter(row for rows in tested.values() for row in rows) == Counter(everything)
    for fold in split.folds:
        assert fold.test == tested[fold.outer]
        assert_partition(table, fold, everything)
    assert [fold.number for fold in split.folds] == list(range(len(split.folds)))


@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 30)), min_size=3, max_size=60),
    st.booleans(),
    st.integers(2, 4),
    SHARES,
    st.integers(0, 3),
)
def test_folds_over_time_never_look_ahead(
    rows: list[tuple[int, int]], grouped: bool, n: int, share: float, gap: int
) -> None:
    times = tuple(time for time, _ in rows)
    groups = tuple(group for _, group in rows) if grouped else None
    table = Table(tuple(range(len(rows))), None, groups, times)
    split = split_or_none(table, "time", n, 0, share, gap=gap)
    if split is None:
        return
    everything = range(len(rows))
    for fold in split.folds:
        sides = [[times[row] for row in side] for side in fold.sides.values()]
        assert all(max(one) < min(other) for one, other in pairwise(sides))
        older = {row for row in everything if times[row] < min(sides[1])}
        assert len(older - set(fold.train)) == gap
    assert len({row for fold in split.folds for row in fold.val}) == sum(len(f.val) for f in split.folds)
    assert bool(split.test) == (share > 0)


@given(
    st.lists(st.text(min_size=1, max_size=3).filter(plain), min_size=1, max_size=40),
    st.sampled_from(["hash", "shuffle"]),
    st.integers(0, 9),
    st.randoms(use_true_random=False),
)
def test_split_at_shares_has_each_name_on_one_side(
    names: list[str], kind: str, seed: int, random: Random
) -> None:
    shares = (0.5, 0.25, 0.25)
    table = Table(tuple(range(len(names))), None, tuple(names))
    split = split_or_none(table, kind, 0, seed, 0.0, shares=shares)
    unique = len(set(names))
    if split is None:
        assert unique < 4
        return
    assert_partition(table, split.folds[0], set(range(len(names))))
    counts = [len({names[row] for row in side}) for side in split.folds[0].sides.values()]
    assert counts == [unique // 2, unique // 4, unique - unique // 2 - unique // 4]
    if kind == "hash":
        others = random.sample(names, len(names))
        again = dealt(Table(table.ids, None, tuple(others)), kind, 0, seed, shares=shares).folds[0]
        for side, rows in split.folds[0].sides.items():
            assert {names[row] for row in rows} == {others[row] for row in again.sides[side]}


@given(tables(), st.data())
def test_overlaps_are_those_of_the_sets_of_the_sides(table: Table, data: st.DataObject) -> None:
    rows = st.lists(st.integers(0, len(table.ids) - 1), min_size=1, max_size=20).map(tuple)
    fold = Fold(3, data.draw(rows), data.draw(rows), data.draw(rows))
    found = {(one.column, one.sides): one.count for one in overlaps.report(Split((fold,)), table)}
    columns = {"id": table.ids, **({"group": table.groups} if table.groups else {})}
    for name, column in columns.items():
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            both = {column[row] for row in fold.sides[one]} & {column[row] for row in fold.sides[other]}
            assert found.pop((name, (one, other)), 0) == len(both)
    assert not found


@given(st.integers(2, 6), st.integers(0, 5), st.integers(10, 30), st.integers(10, 30))
def test_stratified_folds_differ_by_at_most_one_member_of_a_class(n: int, seed: int, a: int, b: int) -> None:
    labels = ("a",) * a + ("b",) * b
    split = dealt(Table(tuple(range(a + b)), labels), "stratified", n, seed)
    for label in "ab":
        counts = [sum(labels[row] == label for row in fold.val) for fold in split.folds]
        assert max(counts) - min(counts) <= 1


@given(
    st.lists(st.text(min_size=1), min_size=1, unique=True) | st.lists(st.integers(), min_size=1, unique=True)
)
def test_ids_survive_a_manifest(ids: list[str] | list[int]) -> None:
    table = Table(tuple(ids), tuple(ids))
    assert parse_manifest(manifest_csv(table, range(len(ids))), table.id_kind) == table.ids
