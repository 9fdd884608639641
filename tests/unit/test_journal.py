"""The journal of a worker: torn tails, failing disks, lost names, and the chain."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import xxhash

from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.ledger.journal import Journal, JournalUnwritableError
from hpc_search.records import journal as lines

WORKER = "0123456789abcdef"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "workers" / WORKER).mkdir(parents=True)
    (tmp_path / "workers" / WORKER / "reserve").write_bytes(bytes(100))
    return Layout(tmp_path)


@pytest.fixture
def journal(layout: Layout) -> Iterator[Journal]:
    made = Journal(layout, WORKER, opening)
    yield made
    made.close()


def opening(segment: int) -> lines.Open:
    return lines.Open(worker=WORKER, run_id="r", segment=segment, host="h", boot_id="b", pid=1, start_time=1)


def note(number: int) -> lines.Note:
    return lines.Note(event=f"event {number}")


def end(trial: int = 0) -> lines.End:
    return lines.End(trial=trial, attempt=1, state="done", params={"x": 1}, value=0.5)


def read(layout: Layout) -> list[lines.AnyRecord]:
    records = [lines.parse_line(line.data) for line in history.lines(layout)]
    return [record for record in records if record is not None and not isinstance(record, lines.Open)]


def events(layout: Layout) -> list[str]:
    return [
        record.event if isinstance(record, lines.Note) else type(record).__name__ for record in read(layout)
    ]


def failing_once(call: Callable[..., Any], number: int, after: int = 0) -> Callable[..., Any]:
    """Return *call* that fails once with *number*, after *after* good calls."""
    left = [after]

    def fail(*arguments: object) -> Any:
        left[0] -= 1
        if left[0] == -1:
            raise OSError(number, os.strerror(number))
        return call(*arguments)

    return fail


def test_records_are_numbered_from_one_in_order(layout: Layout, journal: Journal) -> None:
    for number in range(3):
        journal.append(note(number))
    assert [record.n for record in read(layout)] == [1, 2, 3]
    assert events(layout) == ["event 0", "event 1", "event 2"]


def test_append_returns_the_checksum_that_readers_find(layout: Layout, journal: Journal) -> None:
    checksum = journal.append(end())
    journal.sync()
    assert history.results(layout)[0].checksum == checksum


def test_a_torn_tail_is_ignored_and_may_become_whole(layout: Layout, journal: Journal) -> None:
    journal.append(note(0))
    path = layout.journal(WORKER, 1)
    line = lines.encode_line(lines.Note(n=2, event="late"))
    with path.open("ab") as file:
        file.write(line[:20])
    assert events(layout) == ["event 0"]
    with path.open("ab") as file:
        file.write(line[20:])
    assert events(layout) == ["event 0", "late"]


def test_a_hole_in_the_middle_costs_only_its_lines(layout: Layout, journal: Journal) -> None:
    for number in range(3):
        journal.append(note(number))
    path = layout.journal(WORKER, 1)
    data = path.read_bytes()
    at = data.index(b"event 1")
    path.write_bytes(data[:at] + bytes(7) + data[at + 7 :])
    assert events(layout) == ["event 0", "event 2"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.ESTALE])
def test_a_failed_write_moves_to_the_next_segment_and_loses_nothing(
    layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    journal.append(note(0))
    journal.append(note(1))
    monkeypatch.setattr(os, "write", failing_once(os.write, number))
    journal.append(note(2))
    monkeypatch.undo()
    assert journal.segment == 2
    journal.append(note(3))
    assert events(layout) == ["event 0", "event 1", "event 2", "event 3"]
    assert [record.n for record in read(layout)] == [1, 2, 3, 4]


def test_a_short_write_moves_on_as_well_and_the_half_line_is_ignored(
    layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    calls = [0]

    def write(fd: int, data: bytes) -> int:
        calls[0] += 1
        if calls[0] == 1:
            return real(fd, bytes(data)[:10])
        if calls[0] == 2:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    journal.append(note(0))
    monkeypatch.undo()
    journal.append(note(1))
    assert journal.segment == 2
    assert events(layout) == ["event 0", "event 1"]


def test_a_failed_fsync_is_never_retried_on_the_same_segment(
    layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        if len(synced) == 1:
            raise OSError(errno.EIO, "the disk")
        real(fd)

    checksum = journal.append(end())
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    journal.sync()
    monkeypatch.undo()
    assert synced == ["journal.1.jsonl", "journal.2.jsonl"]
    assert history.results(layout)[0].checksum == checksum
    # Only segment 2 is known to be on the disk; it alone must hold the record.
    layout.journal(WORKER, 1).unlink()
    assert history.results(layout)[0].checksum == checksum


def test_records_written_together_are_lines_like_others_and_none_is_lost_by_a_torn_write(
    layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    sizes = iter([200])

    def torn(fd: int, data: Any) -> int:
        size = next(sizes, None)
        if size is None:
            return real(fd, data)
        real(fd, data[:size])
        raise OSError(errno.EIO, "the disk fails")

    journal.append_all(note(number) for number in (0, 1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", torn)
        checksums = journal.append_all([note(number) for number in (2, 3, 4)])
    checksums += journal.append_all([end(), note(5)])
    journal.sync()

    assert events(layout) == [*(f"event {number}" for number in range(5)), "End", "event 5"]
    assert [record.n for record in read(layout)] == [1, 2, 3, 4, 5, 6, 7]
    written = history.lines(layout, frozenset({b"note", b"end"}))
    assert [lines.checksum(line.data) for line in written][2:] == checksums
    assert journal.segment == 2


def test_what_was_synced_is_not_repeated(
    layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append(note(0))
    journal.sync()
    journal.append(note(1))
    monkeypatch.setattr(os, "fdatasync", failing_once(os.fdatasync, errno.EIO))
    journal.sync()
    monkeypatch.undo()
    second = layout.journal(WORKER, 2).read_bytes()
    assert b"event 0" not in second
    assert b"event 1" in second
    assert events(layout) == ["event 0", "event 1"]


def test_a_full_disk_frees_the_reserve(
    layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", failing_once(os.write, errno.ENOSPC))
    journal.append(note(0))
    monkeypatch.undo()
    assert not layout.reserve(WORKER).exists()


def test_a_journal_without_a_name_is_noticed_at_the_sync(layout: Layout, journal: Journal) -> None:
    """Whoever folds the journal of a worker that he takes for dead removes its name."""
    journal.append(note(0))
    journal.sync()
    shutil.rmtree(layout.worker(WORKER))
    journal.append(note(1))
    journal.sync()
    assert journal.segment == 2
    assert events(layout) == ["event 1"]


def test_a_disk_that_takes_nothing_is_a_temporary_error_with_words(
    layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("hpc_search.ledger.journal.time.sleep", lambda _: None)
    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(JournalUnwritableError, match="No space left"):
        journal.append(note(0))
    monkeypatch.undo()
    # Space is back: the next record brings the one that had no room along.
    journal.append(note(1))
    journal.sync()
    assert events(layout) == ["event 0", "event 1"]


def chain_holds(layout: Layout, segment: int) -> bool:
    """Check a segment as FORMAT says: an end record's chain is the digest of all bytes before it."""
    digest = hashlib.blake2b(digest_size=16)
    good = []
    repeats = 0
    for number, line in enumerate(layout.journal(WORKER, segment).read_bytes().split(b"\n")[:-1]):
        record = lines.parse_line(line)
        if isinstance(record, lines.Open):
            repeats = record.repeats
        if isinstance(record, lines.End | lines.Exit) and number > repeats:
            good.append(record.chain == digest.hexdigest())
        digest.update(line + b"\n")
    return bool(good) and all(good)


def test_the_chain_verifies_over_the_bytes_of_a_segment(layout: Layout, journal: Journal) -> None:
    for number in range(3):
        journal.append(note(number))
        journal.append(end(number))
    journal.append(lines.Exit(reason="done"))
    assert chain_holds(layout, 1)


def test_a_changed_line_with_a_checksum_made_to_fit_breaks_the_chain(
    layout: Layout, journal: Journal
) -> None:
    journal.append(note(0))
    journal.append(end())
    path = layout.journal(WORKER, 1)
    rows = path.read_bytes().split(b"\n")
    body = rows[1][:-24].replace(b"event 0", b"event 9")
    rows[1] = body + b',"c":"' + xxhash.xxh3_64_hexdigest(body).encode() + b'"}'
    path.write_bytes(b"\n".join(rows))
    assert "event 9" in events(layout)
    assert not chain_holds(layout, 1)


def test_a_removed_line_breaks_the_chain(layout: Layout, journal: Journal) -> None:
    journal.append(note(0))
    journal.append(end())
    path = layout.journal(WORKER, 1)
    rows = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([rows[0], *rows[2:]]))
    assert not chain_holds(layout, 1)


def test_the_chain_of_a_new_segment_starts_anew(
    layout: Layout, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append(note(0))
    journal.append(end(1))
    monkeypatch.setattr(os, "fdatasync", failing_once(os.fdatasync, errno.EIO))
    journal.sync()
    monkeypatch.undo()
    journal.append(end(2))
    assert chain_holds(layout, 1)
    assert chain_holds(layout, 2)


def test_thousands_of_records_without_a_sync_do_not_pile_up_in_memory(
    layout: Layout, journal: Journal
) -> None:
    for number in range(5000):
        journal.append(note(number))
    assert len(journal._unsynced) < 5000
    assert len(read(layout)) == 5000
