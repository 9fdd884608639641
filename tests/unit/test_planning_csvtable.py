"""The data's CSV file: every wrong record is named by its line, and a file that is no table by its kind."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import zipfile
from pathlib import Path

import pytest

from hpc_search.errors import UsageError
from hpc_search.planning.csvtable import read_records
from hpc_search.planning.data import load_table
from hpc_search.records.search import DataSpec

GOOD = "sample,y,patient\n1,a,p\n2,b,q\n"
SPEC = DataSpec(index="data.csv", id="sample", label="y", group="patient")


def write(tmp_path: Path, content: str | bytes, name: str = "data.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def told(tmp_path: Path, content: str | bytes, name: str = "data.csv") -> str:
    with pytest.raises(UsageError) as caught:
        read_records(write(tmp_path, content, name))
    return str(caught.value)


def told_of_table(tmp_path: Path, content: str, spec: DataSpec = SPEC) -> str:
    write(tmp_path, content)
    with pytest.raises(UsageError) as caught:
        load_table(spec, tmp_path)
    return str(caught.value)


# -- the header
def test_columns_of_one_name_are_named_with_line_and_places(tmp_path: Path) -> None:
    text = told(tmp_path, "sample,y,patient,y,patient,y\n1,a,p,b,q,c\n")
    assert "data.csv:1: the column 'y' is there 3 times: columns 2, 4 and 6" in text
    assert "data.csv:1: the column 'patient' is there twice: columns 3 and 5" in text


def test_columns_without_a_name_are_no_double_ones(tmp_path: Path) -> None:
    assert read_records(write(tmp_path, "sample,,\n1,,\n")).header == ["sample", "", ""]


def test_a_function_that_gives_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "twice_named.py").write_text(
        "import pandas\ndef table(): return pandas.DataFrame([[1, 2, 3]], columns=['id', 'y', 'y'])"
    )
    with pytest.raises(UsageError, match="returned several columns named 'y'"):
        load_table(DataSpec(function="twice_named:table"), tmp_path)


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("sample;y;patient", "separated by ';'; expected are commas"),
        ("sample\ty\tpatient", r"separated by '\t'; expected are commas"),
        ("sample, y,patient", "its columns are: sample, ' y', patient"),
        ("sample,Y,patient", "did you mean 'Y'?"),
    ],
)
def test_why_a_column_is_not_found_is_said(tmp_path: Path, header: str, hint: str) -> None:
    text = told_of_table(tmp_path, f"{header}\n")
    assert "no column" in text
    assert hint in text


# -- records
def test_every_record_of_another_width_is_named_by_the_line_at_which_it_begins(tmp_path: Path) -> None:
    text = told(tmp_path, 'sample,y\n"two\nlines",a\n\n3\n4,b,"with\nmore"\n5,c\n6\n')
    assert "data.csv:5: the row does not have 2 fields, but 1" in text
    assert "data.csv:6: the row does not have 2 fields, but 3" in text
    assert "data.csv:9: the row does not have 2 fields, but 1" in text
    assert text.count("does not have") == 3


def test_of_many_records_of_another_width_ten_are_named_and_the_others_counted(tmp_path: Path) -> None:
    text = told(tmp_path, "sample,y\n" + "1\n" * 22)
    assert text.count("the row does not have 2 fields") == 10
    assert "and 12 more rows that do not have 2 fields, the last of them line 23" in text


def test_header_and_records_are_told_at_once(tmp_path: Path) -> None:
    text = told(tmp_path, "sample,y,y\n1,a\n")
    assert "columns 2 and 3" in text
    assert "data.csv:2: the row does not have 3 fields" in text


def test_a_quote_that_is_never_closed_is_named_where_it_opens(tmp_path: Path) -> None:
    text = told(tmp_path, 'sample,y\n1,a\n2,"b\n3,c\n')
    assert "data.csv:3 is not a CSV table: the record goes on to line 4" in text
    assert "is not closed" in text


def test_a_quote_in_the_middle_of_a_field_is_named_by_its_line(tmp_path: Path) -> None:
    text = told(tmp_path, 'sample,y\n1,a\n"2"x,b\n')
    assert "data.csv:3 is not a CSV table" in text
    assert '"a ""b"" c"' in text


# -- ids, groups and labels
def test_every_double_id_is_named_with_its_lines(tmp_path: Path) -> None:
    text = told_of_table(tmp_path, 'sample,y,patient\na,1,p\n"b",1,"p\np"\na,1,p\nb,1,p\nc,1,p\na,1,p\n')
    assert "data.csv has the id 'a' 3 times: lines 2, 5 and 8" in text
    assert "data.csv has the id 'b' twice: lines 3 and 6" in text
    assert "'c'" not in text


def test_of_many_double_ids_ten_are_named_and_the_others_counted(tmp_path: Path) -> None:
    ids = [f"s{one}" for one in range(22)]
    text = told_of_table(tmp_path, "sample,y,patient\n" + "".join(f"{one},a,p\n" for one in ids + ids))
    assert text.count(" twice: lines ") == 10
    assert "and 12 more ids" in text


def test_ids_with_leading_zeros_are_texts_that_differ_from_numbers(tmp_path: Path) -> None:
    write(tmp_path, "sample,y,patient\n007,a,p\n7,b,q\n")
    assert load_table(SPEC, tmp_path).ids == ("007", "7")


def test_an_id_of_thousands_of_digits_is_a_text(tmp_path: Path) -> None:
    write(tmp_path, f"sample,y,patient\n{'9' * 5000},a,p\n")
    assert load_table(SPEC, tmp_path).ids == ("9" * 5000,)


# -- other files
def zipped(content: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (gzip.compress(GOOD.encode()), r"compressed with gzip: expected is a name that ends in \.gz"),
        (bz2.compress(GOOD.encode()), "compressed with bzip2"),
        (lzma.compress(GOOD.encode()), "compressed with xz"),
        (zipped(GOOD), "an Excel workbook"),
        (GOOD.encode("utf-16"), "text in UTF-16"),
        (GOOD.encode("utf-16-be"), "bytes that are 0"),
        (pickle.dumps([1, 2.5, "x"], protocol=2) + b"\0", "bytes that are 0"),
        ("sample,y\n1,a\n2,Müller\n".encode("latin-1"), "3 is not a CSV table: byte 0xfc is not UTF-8"),
    ],
    ids=["gzip", "bzip2", "xz", "excel", "utf-16", "utf-16 without a mark", "pickle", "latin-1"],
)
def test_a_file_that_is_no_csv_text_is_called_what_it_is(tmp_path: Path, content: bytes, kind: str) -> None:
    with pytest.raises(UsageError, match=f"data.csv.*{kind}") as caught:
        read_records(write(tmp_path, content))
    assert "expected is CSV text in UTF-8" in caught.value.hint


def test_a_compressed_table_is_read_as_the_plain_one(tmp_path: Path) -> None:
    plain = read_records(write(tmp_path, GOOD))
    for text in (GOOD, "\ufeff" + GOOD.replace("\n", "\r\n")):
        content = gzip.compress(text.encode())
        assert read_records(write(tmp_path, content, "data.csv.gz")) == plain


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (GOOD.encode(), "cannot be unpacked: Not a gzipped file"),
        (gzip.compress(GOOD.encode())[:-9], "cannot be unpacked: .*end-of-stream"),
        (gzip.compress(GOOD.encode())[:12] + b"\xff" * 40, "cannot be unpacked"),
        (b"", "is empty"),
    ],
    ids=["text", "cut off", "damaged", "empty"],
)
def test_a_file_that_gzip_did_not_make_is_named(tmp_path: Path, content: bytes, kind: str) -> None:
    with pytest.raises(UsageError, match=f"data.csv.gz .*{kind}"):
        read_records(write(tmp_path, content, "data.csv.gz"))


def test_a_table_of_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    assert "data.csv has no rows" in told_of_table(tmp_path, "sample,y,patient\n")
