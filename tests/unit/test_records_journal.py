"""Lines of a journal: what is written is read back, and what does not verify is not believed."""

from __future__ import annotations

import json

import pytest

from hpc_search.records import journal

END = journal.End(
    n=7,
    t=12.5,
    trial=3,
    attempt=2,
    state="done",
    params={"lr": 1e-3, "layers": [1, 2], "name": 'a\n"b"', "none": None},
    value=0.5,
    metrics={"val_acc": 0.5},
    samples=(1, 0, 10, "00"),
)
RECORDS: list[journal.AnyRecord] = [
    journal.Open(worker="w", run_id="r", segment=1, host="h", boot_id="b", pid=1, start_time=2),
    journal.Claim(trial=1, attempt=1, params={"x": 1}),
    journal.Propose(point=1, params={"x": 1}),
    journal.Start(trial=1, attempt=1, pid=4, log=10),
    journal.Report(trial=1, attempt=1, step=0, metrics={"a": 1.0}),
    journal.Verdict(trial=1, attempt=1, rung=1, step=3, decision="prune", peers={2: 0.5}),
    journal.Checkpoint(trial=1, attempt=1, step=3, slot=0),
    END,
    journal.Accepted(trial=1, attempt=1, end="0" * 16),
    journal.Note(event="superseded", trial=1, attempt=1),
    journal.Exit(reason="no work left"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_every_kind_of_record_is_read_back_equal(record: journal.AnyRecord) -> None:
    line = journal.encode_line(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert journal.parse_line(line[:-1]) == record


def test_a_line_is_json_that_any_tool_reads() -> None:
    content = json.loads(journal.encode_line(END))
    assert (content["k"], content["n"], content["trial"]) == ("end", 7, 3)
    assert len(content["c"]) == 16


def test_the_kind_is_known_without_parsing() -> None:
    assert journal.kind(journal.encode_line(END)) == b"end"
    assert journal.kind(b"") == b""
    assert journal.kind(b'{"n":1}') == b""


def test_a_kind_without_fields_set_still_ends_in_its_checksum() -> None:
    line = journal.encode_line(journal.Exit(reason=""))[:-1]
    assert journal.checksum(line) == line[-18:-2].decode()


@pytest.mark.parametrize("cut", [0, 1, 10, 24, 25, 60])
def test_a_line_cut_short_does_not_verify(cut: int) -> None:
    line = journal.encode_line(END)[:-1]
    assert journal.parse_line(line[: -cut - 1]) is None


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"\0" * 200, b'","c":"0123456789abcdef"}', b'x,"c":"' + b"g" * 16 + b'"}']
)
def test_garbage_does_not_verify(line: bytes) -> None:
    assert journal.checksum(line) is None
    assert journal.parse_line(line) is None


def test_a_value_that_looks_like_a_checksum_is_only_a_value() -> None:
    record = journal.Note(event="x", text=',"c":"0123456789abcdef"}')
    assert journal.parse_line(journal.encode_line(record)[:-1]) == record


def test_an_unknown_kind_was_written_by_a_newer_version_and_is_passed_over() -> None:
    body = b'{"k":"later","n":1'
    line = body + b',"c":"' + journal_checksum(body) + b'"}'
    assert journal.parse_line(line) is None


def journal_checksum(body: bytes) -> bytes:
    import xxhash

    return xxhash.xxh3_64_hexdigest(body).encode()


def test_unknown_fields_of_a_known_kind_are_ignored() -> None:
    body = b'{"k":"exit","n":1,"reason":"x","later":[1]'
    record = journal.parse_line(body + b',"c":"' + journal_checksum(body) + b'"}')
    assert record == journal.Exit(n=1, reason="x")
