"""Per-sample scores: exact, verified, found by their place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpc_search.layout import Layout
from hpc_search.ledger.samples import append_samples, read_samples
from hpc_search.records import samples

WORKER = "0123456789abcdef"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "samples").mkdir()
    return Layout(tmp_path)


def test_scores_are_read_back_to_the_last_bit() -> None:
    scores = [0.1, 1e-320, -0.0, 1 / 3]
    data = samples.encode_samples(5, 2, ["a", "b\n", 3, "é"], scores)
    found = samples.parse_samples(data, samples.sample_checksum(data))
    assert found is not None
    assert (found.trial, found.attempt, found.ids) == (5, 2, ["a", "b\n", 3, "é"])
    assert list(map(float.hex, found.scores)) == list(map(float.hex, scores))


@pytest.mark.parametrize("place", [0, 20, -1])
def test_a_changed_byte_is_not_believed(place: int) -> None:
    data = bytearray(samples.encode_samples(5, 2, [1, 2], [0.5, 0.25]))
    checksum = samples.sample_checksum(bytes(data))
    data[place] ^= 1
    assert samples.parse_samples(bytes(data), checksum) is None


def test_records_are_found_by_the_place_in_their_end_record(layout: Layout) -> None:
    records = [samples.encode_samples(number, 1, [number], [number / 7]) for number in range(3)]
    places = [append_samples(layout, WORKER, record) for record in records]
    found = [read_samples(layout, WORKER, place) for place in reversed(places)]
    assert [one.trial if one else None for one in found] == [2, 1, 0]


def test_a_torn_record_harms_none_that_follows(layout: Layout) -> None:
    append_samples(layout, WORKER, b"torn")
    record = samples.encode_samples(1, 1, [1], [0.5])
    place = append_samples(layout, WORKER, record)
    found = read_samples(layout, WORKER, place)
    assert found is not None
    assert found.scores == [0.5]


def test_scores_that_are_gone_or_cut_short_are_none(layout: Layout) -> None:
    place = append_samples(layout, WORKER, samples.encode_samples(1, 1, [1], [0.5]))
    os.truncate(layout.samples(WORKER, 1), 10)
    assert read_samples(layout, WORKER, place) is None
    layout.samples(WORKER, 1).unlink()
    assert read_samples(layout, WORKER, place) is None
