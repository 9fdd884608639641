"""A one-line JSON document with its own checksum: any changed byte is refused."""

from __future__ import annotations

import msgspec
import pytest

from hpc_search.errors import DamagedError
from hpc_search.records import checked


class Example(msgspec.Struct):
    path: str
    numbers: tuple[int, ...] = ()


def test_a_document_reads_back() -> None:
    record = Example(path="/a/b", numbers=(1, 2))

    assert checked.decode(checked.encode(record), Example, "x.json") == record


def test_any_changed_byte_and_any_cut_is_refused() -> None:
    data = checked.encode(Example(path="/a/b"))

    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert not checked.verifies(changed), place
        assert not checked.verifies(data[:place]), place


def test_the_refusal_names_the_file_and_what_to_do() -> None:
    with pytest.raises(DamagedError, match=r"x\.json does not verify") as caught:
        checked.decode(b"{}\n", Example, "x.json", "do this")

    assert caught.value.hint == "do this"


def test_a_whole_document_of_another_kind_is_refused() -> None:
    class Other(msgspec.Struct):
        name: str

    with pytest.raises(DamagedError, match=r"x\.json does not verify"):
        checked.decode(checked.encode(Other(name="a")), Example, "x.json")
