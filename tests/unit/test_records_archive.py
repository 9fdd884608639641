"""The archive: files of gone workers, whole, each verified by itself."""

from __future__ import annotations

import pytest

from hpc_search.records import archive

FIRST = archive.encode_section("a" * 16, "journal.1.jsonl", b"one\ntwo\n")
SECOND = archive.encode_section("b" * 16, "log.txt", b"")
THIRD = archive.encode_section("c" * 16, "samples.1.bin", bytes(range(256)))
DATA = FIRST + SECOND + THIRD


def test_sections_are_read_back_in_order() -> None:
    found = [(section.worker[0], section.name, section.content(DATA)) for section in archive.sections(DATA)]
    assert found == [
        ("a", "journal.1.jsonl", b"one\ntwo\n"),
        ("b", "log.txt", b""),
        ("c", "samples.1.bin", bytes(range(256))),
    ]
    assert all(section.verifies(DATA) for section in archive.sections(DATA))


def test_a_changed_byte_of_a_file_is_seen_and_costs_only_that_file() -> None:
    data = bytearray(DATA)
    data[len(FIRST) - 3] ^= 1
    assert [section.verifies(bytes(data)) for section in archive.sections(bytes(data))] == [False, True, True]


def test_a_damaged_head_costs_only_its_own_section() -> None:
    data = bytearray(DATA)
    data[len(FIRST) + 5] ^= 1
    assert [section.worker[0] for section in archive.sections(bytes(data))] == ["a", "c"]


@pytest.mark.parametrize("keep", [1, 40, len(FIRST) - 4])
def test_an_archive_cut_short_does_not_verify(keep: int) -> None:
    data = FIRST[:keep]
    assert not any(section.verifies(data) for section in archive.sections(data))


def test_an_empty_archive_has_no_sections() -> None:
    assert list(archive.sections(b"")) == []
