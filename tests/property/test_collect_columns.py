"""CSV cells and Parquet values read back as what they were."""

from __future__ import annotations

import csv
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hpc_search.collect.columns import Column, csv_text
from hpc_search.collect.parquet import parquet_bytes

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1)


@given(st.lists(NUMBERS, max_size=20))
def test_numbers_in_csv_read_back_exactly(values: list[Any]) -> None:
    cells = csv_text([Column("x", values)]).decode().splitlines()[1:]

    assert [type(value)(cell) for value, cell in zip(values, cells, strict=True)] == values


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=10))
def test_texts_in_csv_read_back_except_for_the_apostrophe_of_formulas(pairs: list[tuple[str, str]]) -> None:
    data = csv_text([Column("a", [a for a, _ in pairs]), Column("b", [b for _, b in pairs])]).decode()

    def protected(text: str) -> str:
        return "'" + text if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text

    parsed = _rows(data)
    assert parsed[1:] == [[protected(a), protected(b)] for a, b in pairs]


def _rows(data: str) -> list[list[str]]:
    import io

    return list(csv.reader(io.StringIO(data, newline="")))


@given(
    st.lists(st.none() | st.floats(allow_nan=False, width=64), max_size=30)
    | st.lists(st.none() | st.booleans(), max_size=30)
    | st.lists(st.none() | TEXTS, max_size=30)
)
def test_parquet_gives_back_the_values_of_a_column_of_one_type(values: list[Any]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = parquet.read_table(pa.BufferReader(parquet_bytes([Column("x", values)])))

    assert table.column("x").to_pylist() == values
