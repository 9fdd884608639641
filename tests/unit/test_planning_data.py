"""The data's table: ids, labels and groups from a CSV file or a function; what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search.errors import UsageError
from hpc_search.planning.data import load_table
from hpc_search.records.search import DataSpec
from hpc_search.splits import Table

SPEC = DataSpec(index="data.csv", id="sample", label="y", group="patient")
GOOD = "sample,y,patient\n1,a,p\n2,b,q\n"


def table(tmp_path: Path, text: str | bytes, spec: DataSpec = SPEC) -> Table:
    (tmp_path / "data.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_table(spec, tmp_path)


def told(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(UsageError) as caught:
        table(tmp_path, text)
    return str(caught.value)


def test_ids_labels_and_groups_are_read(tmp_path: Path) -> None:
    found = table(tmp_path, GOOD)
    assert (found.ids, found.labels, found.groups) == ((1, 2), ("a", "b"), ("p", "q"))


def test_columns_that_are_not_named_are_not_needed(tmp_path: Path) -> None:
    found = table(tmp_path, "id\nx\ny\n", DataSpec(index="data.csv"))
    assert (found.ids, found.labels, found.groups) == (("x", "y"), None, None)


@pytest.mark.parametrize(
    ("ids", "expected"), [("1,2", (1, 2)), ("01,2", ("01", "2")), ("1,x", ("1", "x")), ("-1,1", ("-1", "1"))]
)
def test_ids_are_whole_numbers_only_where_all_are(
    tmp_path: Path, ids: str, expected: tuple[object, ...]
) -> None:
    text = "id\n" + "\n".join(ids.split(",")) + "\n"
    assert table(tmp_path, text, DataSpec(index="data.csv")).ids == expected


def test_a_byte_order_mark_and_windows_lines_are_taken(tmp_path: Path) -> None:
    found = table(tmp_path, "\ufeff" + GOOD.replace("\n", "\r\n"))
    assert found.ids == (1, 2)


def test_a_missing_file_is_named_with_where_it_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"data\.csv.*No such file.*\n.*relative to the search file"):
        load_table(SPEC, tmp_path)


def test_a_missing_column_is_named_with_the_ones_there_are(tmp_path: Path) -> None:
    assert "no column 'patient'" in told(tmp_path, "sample,y\n1,a\n")
    assert "its columns are: sample, y" in told(tmp_path, "sample,y\n1,a\n")


@pytest.mark.parametrize("row", ["3", "3,a", "3,a,p,more"])
def test_a_row_with_other_fields_is_named_by_its_line(tmp_path: Path, row: str) -> None:
    assert "data.csv:4: the row does not have 3 fields" in told(tmp_path, GOOD + row + "\n")


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    assert "is not a CSV table" in told(tmp_path, GOOD.encode() + b"\xff\xfe,x,y\n")
    assert "data.csv is empty" in told(tmp_path, "")


# -- functions
def call(tmp_path: Path, body: str, name: str, spec: DataSpec | None = None) -> Table:
    (tmp_path / f"{name}.py").write_text(body)
    return load_table(spec or DataSpec(function=f"{name}:table", id="id", label="y"), tmp_path)


def test_a_function_gives_a_mapping_a_frame_or_a_table(tmp_path: Path) -> None:
    mapping = call(tmp_path, "def table(): return {'id': [1, 2], 'y': ['a', 'b']}", "gives_mapping")
    frame = call(
        tmp_path,
        "import pandas\ndef table(): return pandas.DataFrame({'id': [1, 2], 'y': ['a', 'b']})",
        "gives_frame",
    )
    made = call(
        tmp_path,
        "from hpc_search.splits import Table\ndef table(): return Table(ids=(1, 2), labels=('a', 'b'))",
        "gives_table",
    )
    assert mapping == frame == made
    assert all(type(item) is int for item in frame.ids)


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("no_function", "x = 1", "has no function 'table'"),
        ("gives_list", "def table(): return [1]", "returned list"),
        ("lacks_column", "def table(): return {'id': [1]}", "no column 'y'"),
        ("raises_inside", "def table(): raise ValueError('what went wrong')", "ValueError: what went wrong"),
        ("raises_at_import", "import no_such_module_of_mine", "no_such_module_of_mine"),
        ("is_not_python", "def table(:", "raises|not valid|SyntaxError"),
    ],
)
def test_a_function_that_does_not_give_a_table_is_named(
    tmp_path: Path, name: str, body: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        call(tmp_path, body, name)


def test_a_function_that_is_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'no_such_data_module' is not found"):
        load_table(DataSpec(function="no_such_data_module:table"), tmp_path)
