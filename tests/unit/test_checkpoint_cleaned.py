"""A woken older attempt cleans up while a newer one saves: the newer one's save succeeds all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpc_search.checkpoint import Slots, hdf5
from hpc_search.layout import Layout


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_temporary_file_removed_in_the_middle_of_a_save_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    older = Slots(Layout(tmp_path), "run", 3, 1, "a" * 16)
    newer = Slots(Layout(tmp_path), "run", 3, 2, "b" * 16)
    newer.prepare()
    real = hdf5.create
    cleaned: list[bool] = []

    def clean() -> None:
        if not cleaned:
            cleaned.append(True)
            older.prepare()

    def create(*args: Any) -> Any:
        if moment == "before":
            clean()
        made = real(*args)
        clean()
        return made

    monkeypatch.setattr(hdf5, "create", create)
    newer.save(5, {"step": 5})

    assert cleaned
    loaded = newer.newest()
    assert loaded is not None
    assert loaded.step == 5
    assert [path.name for path in Layout(tmp_path).checkpoint_dir(3).iterdir() if path.suffix != ".h5"] == []
