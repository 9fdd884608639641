"""A CSV file as its header and records, with the line at which each one begins."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from hpc_search.errors import PASSING, TemporaryError, UsageError

#: Records of another width that are named.
_SHOWN: Final = 10
_EXPECTED: Final = "expected is CSV text in UTF-8, or that compressed with gzip under a name that ends in .gz"
_GZIP: Final = b"\x1f\x8b"
#: How files begin that are taken for tables.
_KNOWN: Final = {
    _GZIP: "compressed with gzip: expected is a name that ends in .gz",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"PK\x03\x04": "a zip archive, such as an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "a Parquet file",
    b"\x89HDF": "an HDF5 file",
    b"ARROW1": "an Arrow file",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}


class Records(NamedTuple):
    """The names of the columns, and the fields and the first line of each record below."""

    header: list[str]
    rows: list[list[str]]
    lines: tuple[int, ...]


def read_records(path: Path) -> Records:
    """Return the records of the CSV file *path*, which gzip may have compressed; empty lines are none.

    Raises:
        UsageError: It cannot be read, is no CSV text, names a column twice, or has records of another width
            than the header: all of these are named.
        TemporaryError: The file system is in trouble.
    """
    found = list(_parsed(path, _text(path, _content(path))))
    if not found:
        raise UsageError(f"{path} is empty", hint="a header with the names of the columns is expected first")
    (line, header), *records = found
    problems = [*_twice(f"{path}:{line}", header), *_ragged(path, len(header), records)]
    if problems:
        raise UsageError(
            "\n".join(problems), hint="correct the table: a name a column, and as many fields a row"
        )
    return Records(header, [row for _, row in records], tuple(line for line, _ in records))


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" and content else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        words = f"{path} is named as compressed with gzip, and cannot be unpacked: {error}"
        raise UsageError(words, hint="copy it again, or name it .csv where it is plain text") from error
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror})"
        if error.errno in PASSING:
            raise TemporaryError(message, hint="plan again when the file system answers") from error
        raise UsageError(message, hint="the path is relative to the search file") from error


def _text(path: Path, content: bytes) -> str:
    what = next((words for start, words in _KNOWN.items() if content.startswith(start)), "")
    if not what and b"\0" in content:
        what = "not text: it has bytes that are 0"
    if what:
        raise UsageError(f"{path} is not a CSV table: it is {what}", hint=_EXPECTED)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"{path}:{line} is not a CSV table: byte 0x{content[error.start]:02x} is not UTF-8 text"
        raise UsageError(found, hint=f"save it with the encoding UTF-8; {_EXPECTED}") from error


def _parsed(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of *text* that have fields, each after the line at which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begins = 1
    try:
        for row in reader:
            if row:
                yield begins, row
            begins = reader.line_num + 1
    except csv.Error as error:
        where = f"{path}:{begins}"
        if reader.line_num > begins:
            where += f" is not a CSV table: the record goes on to line {reader.line_num}"
            raise UsageError(
                f"{where}: {error}", hint='a quote (") that opens there is not closed'
            ) from error
        hint = 'a field with quotes is in quotes as a whole, and has each of them twice: "a ""b"" c"'
        raise UsageError(f"{where} is not a CSV table: {error}", hint=hint) from error


def _twice(where: str, header: list[str]) -> Iterator[str]:
    """Yield the names that several columns have, with the places of those, from 1."""
    for name in dict.fromkeys(header):
        places = [str(place) for place, other in enumerate(header, 1) if other == name]
        if name and len(places) > 1:
            words = f"{', '.join(places[:-1])} and {places[-1]}"
            yield f"{where}: the column {name!r} is there {_times(len(places))}: columns {words}"


def _ragged(path: Path, width: int, records: list[tuple[int, list[str]]]) -> Iterator[str]:
    wrong = [(line, len(row)) for line, row in records if len(row) != width]
    for line, found in wrong[:_SHOWN]:
        yield f"{path}:{line}: the row does not have {width} fields, but {found}"
    if more := wrong[_SHOWN:]:
        last = f", the last of them line {more[-1][0]}"
        yield f"{path}: and {len(more):,} more rows that do not have {width} fields{last}"


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{count} times"
