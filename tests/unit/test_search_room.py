"""Whether there is room for a run, by what statvfs says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpc_search.errors import TemporaryError
from hpc_search.search import room

GIB = 1 << 30


def test_room_for_everything_is_no_shortage() -> None:
    assert room.shortage(GIB, 10_000, 10_000, 64) == ""
    assert room.shortage(GIB, None, 10_000, 10_000) == ""


def test_bytes_and_files_that_are_short_are_told_with_what_is_needed() -> None:
    assert "1.0 MiB are free, and 10,000 trials write about" in room.shortage(1 << 20, None, 10_000, 1)
    assert room.shortage(GIB, 500, 100, 64) == "500 files may still be made, and 64 workers need about 868"


def test_a_full_file_system_refuses_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    full = os.statvfs_result((*real[:4], 0, *real[5:10]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)

    with pytest.raises(TemporaryError, match="nothing was submitted") as caught:
        room.check(tmp_path, 100, 1)

    assert "--force" in caught.value.hint
