"""Journal lines, index records and archives: read back equal, and no changed byte is ever believed."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_search.records import archive, index, journal, samples
from hpc_search.records.index import Entry, Header

#: What JSON carries without loss: whole numbers of 64 bits, finite floats, texts without lone surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
PARAMS = st.dictionaries(TEXT, VALUES, max_size=5)
NUMBERS = st.integers(0, 2**40)
METRICS = st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False), max_size=4)
CHECKSUMS = st.text("0123456789abcdef", min_size=16, max_size=16)

ENDS = st.builds(
    journal.End,
    n=NUMBERS,
    t=st.floats(0, 2e9),
    trial=NUMBERS,
    attempt=NUMBERS,
    state=st.sampled_from(["done", "failed", "pruned", "pending", "paused"]),
    params=PARAMS,
    cause=st.sampled_from(index.CAUSES),
    detail=TEXT,
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    metrics=METRICS,
    effective=PARAMS,
    fold=st.none() | st.integers(0, 100),
    log=st.tuples(NUMBERS, NUMBERS),
    samples=st.none() | st.tuples(NUMBERS, NUMBERS, NUMBERS, CHECKSUMS),
)
RECORDS = st.one_of(
    ENDS,
    st.builds(journal.Claim, n=NUMBERS, trial=NUMBERS, attempt=NUMBERS, params=PARAMS),
    st.builds(journal.Report, n=NUMBERS, trial=NUMBERS, attempt=NUMBERS, step=NUMBERS, metrics=METRICS),
    st.builds(journal.Accepted, trial=NUMBERS, attempt=NUMBERS, end=CHECKSUMS, worker=CHECKSUMS),
    st.builds(journal.Note, event=TEXT, text=TEXT),
    st.builds(journal.Exit, reason=TEXT),
)
ENTRIES = st.builds(
    Entry,
    state=st.integers(0, 6),
    cause=st.integers(0, 7),
    rung=st.integers(0, 2**16 - 1),
    attempt=st.integers(0, 2**32 - 1),
    owner=st.integers(0, 2**64 - 1),
    value=st.floats(allow_nan=False),
    end=st.integers(0, 2**64 - 1),
    seconds=st.floats(0, 2.0**99, width=32),
    changed=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**32 - 1),
    errors=st.integers(0, 255),
    ooms=st.integers(0, 255),
    stalls=st.integers(0, 255),
    flags=st.integers(0, 255),
    batch=st.integers(0, 2**32 - 1),
    kills=st.integers(0, 255),
    hangs=st.integers(0, 255),
    again=st.integers(0, 2**32 - 1),
)


def changed(data: bytes, place: int, mask: int) -> bytes:
    """Return *data* with one byte changed."""
    place %= len(data)
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


@settings(max_examples=200, deadline=None)
@given(RECORDS)
def test_a_record_is_read_back_equal_from_one_line(record: journal.AnyRecord) -> None:
    line = journal.encode_line(record)
    assert line.index(b"\n") == len(line) - 1
    assert journal.parse_line(line[:-1]) == record
    assert journal.kind(line).decode() == type(record).__struct_config__.tag


@settings(max_examples=300, deadline=None)
@given(RECORDS, st.integers(0, 10**6), st.integers(1, 255))
def test_a_line_with_any_changed_byte_is_not_believed(
    record: journal.AnyRecord, place: int, mask: int
) -> None:
    line = journal.encode_line(record)[:-1]
    assert journal.checksum(changed(line, place, mask)) is None


@settings(max_examples=100, deadline=None)
@given(ENDS, st.integers(0, 10**6))
def test_no_part_of_a_line_is_believed(record: journal.End, cut: int) -> None:
    line = journal.encode_line(record)[:-1]
    assert journal.checksum(line[: cut % len(line)]) is None
    assert journal.checksum(line[1 + cut % (len(line) - 1) :]) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_line_are_refused_quietly(data: bytes) -> None:
    assert journal.parse_line(data) is None
    assert journal.kind(data) == b"" or data.startswith(b'{"k":"')
    assert list(archive.sections(data)) == []


@settings(max_examples=200, deadline=None)
@given(ENTRIES)
def test_an_entry_of_the_index_is_read_back_equal(entry: Entry) -> None:
    found = index.parse_entry(index.encode_entry(entry))
    assert found is not None
    assert found == entry
    assert math.copysign(1, found.value) == math.copysign(1, entry.value)


@settings(max_examples=300, deadline=None)
@given(ENTRIES, st.integers(0, 10**6), st.integers(1, 255))
def test_an_entry_with_any_changed_byte_is_not_believed(entry: Entry, place: int, mask: int) -> None:
    data = changed(index.encode_entry(entry), place, mask)
    assert index.parse_entry(data) is None or data == bytes(index.RECORD_BYTES)


@settings(max_examples=200, deadline=None)
@given(*[st.integers(0, 2**64 - 1)] * 4, st.integers(0, 10**6), st.integers(1, 255))
def test_a_header_is_read_back_equal_or_not_believed(
    trials: int, finals: int, cursor: int, generation: int, place: int, mask: int
) -> None:
    header = Header(trials, finals, cursor, generation)
    data = index.encode_header(header)
    assert index.parse_header(data) == header
    assert index.parse_header(changed(data, place, mask)) is None


FILES = st.lists(st.tuples(CHECKSUMS, TEXT, st.binary(max_size=60)), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(FILES, st.integers(0, 10**6), st.integers(1, 255))
def test_an_archive_gives_back_whole_files_and_never_a_changed_one(
    files: list[tuple[str, str, bytes]], place: int, mask: int
) -> None:
    data = b"".join(archive.encode_section(*file) for file in files)
    assert [(one.worker, one.name, one.content(data)) for one in archive.sections(data)] == files
    damaged = changed(data, place, mask)
    believed = [one for one in archive.sections(damaged) if one.verifies(damaged)]
    assert all((one.worker, one.name, one.content(damaged)) in files for one in believed)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(TEXT | st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)), max_size=20),
    st.integers(0, 10**6),
    st.integers(1, 255),
)
def test_scores_are_read_back_equal_or_not_believed(
    rows: list[tuple[Any, float]], place: int, mask: int
) -> None:
    ids, scores = [row[0] for row in rows], [row[1] for row in rows]
    data = samples.encode_samples(1, 2, ids, scores)
    digest = samples.sample_checksum(data)
    assert samples.parse_samples(data, digest) == samples.Samples(1, 2, ids, scores)
    assert samples.parse_samples(changed(data, place, mask), digest) is None
