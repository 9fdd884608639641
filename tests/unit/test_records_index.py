"""The index's records: fixed size, verified one by one, untouched ones all zero."""

from __future__ import annotations

import pytest

from hpc_search.records import index
from hpc_search.records.index import Entry, Header

ENTRY = Entry(
    state=index.DONE, cause=0, rung=3, attempt=70_000, owner=2**64 - 1, value=-1.5e-300, end=2**64 - 1,
    seconds=12.5, changed=2**31, step=2**32 - 1, errors=255, ooms=1, stalls=4, flags=1, batch=32,
    kills=2, hangs=3,
)  # fmt: skip
HEADER = Header(trials=10**9, finals=5, cursor=7, generation=2)


def test_an_entry_is_read_back_equal() -> None:
    data = index.encode_entry(ENTRY)
    assert len(data) == index.RECORD_BYTES
    assert index.parse_entry(data) == ENTRY


def test_a_zero_record_is_a_pending_trial_that_nobody_touched() -> None:
    assert index.parse_entry(bytes(index.RECORD_BYTES)) == Entry()
    assert not Entry().final


def test_a_header_is_read_back_equal() -> None:
    data = index.encode_header(HEADER)
    assert len(data) == index.HEADER_BYTES
    assert index.parse_header(data + b"more") == HEADER


def test_records_stand_one_after_the_other() -> None:
    assert index.entry_offset(0) == index.HEADER_BYTES
    assert index.entry_offset(3) - index.entry_offset(2) == index.RECORD_BYTES
    assert index.index_bytes(5) == index.entry_offset(5)


@pytest.mark.parametrize("bit", range(0, index.RECORD_BYTES * 8, 7))
def test_a_flipped_bit_of_an_entry_is_seen(bit: int) -> None:
    data = bytearray(index.encode_entry(ENTRY))
    data[bit // 8] ^= 1 << bit % 8
    assert index.parse_entry(bytes(data)) is None


@pytest.mark.parametrize("bit", range(0, index.HEADER_BYTES * 8, 7))
def test_a_flipped_bit_of_the_header_is_seen(bit: int) -> None:
    data = bytearray(index.encode_header(HEADER))
    data[bit // 8] ^= 1 << bit % 8
    assert index.parse_header(bytes(data)) is None


def test_a_header_that_is_short_or_empty_is_not_believed() -> None:
    assert index.parse_header(b"") is None
    assert index.parse_header(index.encode_header(HEADER)[:-1]) is None
    assert index.parse_header(bytes(index.HEADER_BYTES)) is None


def test_only_the_last_three_states_are_final() -> None:
    final = [name for number, name in enumerate(index.STATES) if Entry(state=number).final]
    assert final == ["done", "failed", "pruned"]


@pytest.mark.parametrize(
    "fields", [{"step": 2**40}, {"step": -1}, {"attempt": 2**33}, {"rung": 70_000}, {"batch": 2**40}]
)
def test_a_counter_beyond_its_field_saturates(fields: dict[str, int]) -> None:
    entry = index.parse_entry(index.encode_entry(Entry(state=index.PENDING, **fields)))
    assert entry is not None
    ((name, value),) = fields.items()
    assert getattr(entry, name) == (0 if value < 0 else entry_limit(name))


def entry_limit(name: str) -> int:
    return 2**16 - 1 if name == "rung" else 2**32 - 1
