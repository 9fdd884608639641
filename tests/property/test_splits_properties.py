"""Properties of any split: folds partition the rows outside the test part; groups never straddle."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hpc_search.errors import UsageError
from hpc_search.splits import (
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


SHARES = st.sampled_from([0.0, 0.1, 0.2, 0.5])


@st.composite
def tables(draw: st.DrawFn) -> Table:
    rows = draw(st.integers(1, 60))
    labels = draw(st.none() | st.lists(st.integers(0, 2), min_size=rows, max_size=rows).map(tuple))
    groups = draw(st.none() | st.lists(st.integers(0, 20), min_size=rows, max_size=rows).map(tuple))
    return Table(tuple(range(rows)), labels, groups)


def split_or_none(table: Table, kind: str, n: int, seed: int, share: float) -> Split | None:
    try:
        return dealt(table, kind, n, seed, share)
    except UsageError:
        return None


@given(
    tables(),
    st.sampled_from(["kfold", "stratified", "grouped"]),
    st.integers(2, 6),
    st.integers(0, 2**32 - 1),
    SHARES,
)
def test_folds_partition_the_rows_outside_the_test_part(
    table: Table, kind: str, n: int, seed: int, share: float
) -> None:
    split = split_or_none(table, kind, n, seed, share)
    if split is None:
        return
    check_disjoint(split, table)
    everything = set(range(len(table.ids)))
    assert len(split.folds) == n
    assert bool(split.test) == (share > 0)
    assert Counter(row for fold in split.folds for row in fold.val) == Counter(everything - set(split.test))
    for fold in split.folds:
        assert set(fold.train) | set(fold.val) | set(split.test) == everything
        assert len(fold.train) + len(fold.val) + len(split.test) == len(everything)
        if table.groups is not None:
            sides = [{table.groups[row] for row in rows} for rows in (fold.train, fold.val, split.test)]
            assert sum(map(len, sides)) == len(set(table.groups))


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
