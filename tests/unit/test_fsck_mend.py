"""One wrong byte of a line with a checksum is found and put right; nothing is guessed."""

from __future__ import annotations

import random

from hpc_search.fsck.mend import mend, mend_lines
from hpc_search.fsck.segments import read_segment
from hpc_search.records import journal
from hpc_search.records.samples import sample_checksum

LINES = [
    journal.encode_line(journal.Claim(n=1, t=1.5, trial=3, attempt=1, params={"x": 0.5})),
    journal.encode_line(journal.Report(n=2, t=2.5, trial=3, attempt=1, step=0, metrics={"acc": 0.25})),
    journal.encode_line(journal.Note(n=3, t=3.5, event="superseded", trial=3)),
]


def changed(data: bytes, place: int, value: int) -> bytes:
    return data[:place] + bytes([value]) + data[place + 1 :]


def test_a_line_with_any_one_byte_changed_is_put_right() -> None:
    line, rng = LINES[0], random.Random(0)

    for place in range(len(line) - 1):
        damaged = changed(line, place, line[place] ^ rng.randrange(1, 256))
        assert mend_lines(damaged) == line, place


def test_a_last_newline_that_changed_is_put_right() -> None:
    assert mend_lines(LINES[0][:-1] + b"x") == LINES[0]


def test_a_newline_that_changed_joins_two_lines_and_is_put_right() -> None:
    joined = LINES[0][:-1] + b"\x00" + LINES[1]

    assert mend_lines(joined) == LINES[0] + LINES[1]


def test_a_byte_that_became_a_newline_is_put_right() -> None:
    assert mend_lines(changed(LINES[0], 20, 10)) == LINES[0]


def test_two_wrong_bytes_are_not_guessed() -> None:
    assert mend_lines(changed(changed(LINES[0], 20, 1), 30, 1)) is None


def test_a_line_that_was_cut_is_not_guessed() -> None:
    assert mend_lines(LINES[0][:-5]) is None


def test_bytes_are_put_right_by_any_checksum() -> None:
    data = random.Random(0).randbytes(500)
    wanted = sample_checksum(data)

    assert mend(changed(data, 77, data[77] ^ 5), lambda new: sample_checksum(new) == wanted) == data
    assert mend(changed(data, 77, data[77] ^ 5)[:-1], lambda new: sample_checksum(new) == wanted) is None


def test_a_segment_with_any_one_byte_changed_reads_as_it_was() -> None:
    data, rng = b"".join(LINES), random.Random(1)
    whole = read_segment("w", 1, data)

    for place in range(0, len(data), 3):
        damaged = changed(data, place, data[place] ^ rng.randrange(1, 256))
        found = read_segment("w", 1, damaged)
        assert found.whole == data, place
        assert found.records == whole.records
        assert [damage.torn for damage in found.damages] == [False]


def test_a_torn_last_line_is_told_from_damage() -> None:
    data = b"".join(LINES)

    [torn] = read_segment("w", 1, data[:-30]).damages
    [hole] = read_segment("w", 1, data[:-60] + bytes(60)).damages
    [twice] = read_segment("w", 1, changed(changed(data, 5, 1), 9, 1)).damages

    assert (torn.torn, hole.torn, twice.torn) == (True, True, False)
